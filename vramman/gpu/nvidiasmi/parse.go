package nvidiasmi

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// This file owns what the command prints. Its CSV has no quotes: fields are
// separated by a comma and a space, and what it cannot tell stands in brackets:
// "[N/A]", "[Not Supported]", "[Insufficient Permissions]", "[GPU is lost]".
// Messages may stand between the rows.

// The fields that are asked for, in this order. A name may have any characters and
// so stands last. Memory is in MiB.
const (
	cardFields = "uuid,memory.total,memory.used,memory.free,mig.mode.current,driver_version,name"
	appFields  = "gpu_uuid,pid,used_memory"
)

// row is what the command tells of one card.
type row struct {
	card   gpu.Card
	sliced bool // into MIG's slices
	lost   bool // fallen off the bus, or in need of a reset
}

// parseCards reads the rows of cards. Without any, the error says what was printed
// instead.
func parseCards(out string) ([]row, error) {
	var rows []row
	for line := range strings.Lines(out) {
		f, ok := fields(line, cardFields)
		if !ok {
			continue
		}
		if slices.ContainsFunc(rows, func(r row) bool { return r.card.UUID == f[0] }) {
			return nil, fmt.Errorf("the card %s stands twice in what was printed", f[0])
		}
		r := row{card: gpu.Card{UUID: f[0], Driver: told(f[5]), Name: told(f[6])}, sliced: f[4] == "Enabled"}
		total, totalErr := mebibytes(f[1])
		used, usedErr := mebibytes(f[2])
		free, freeErr := mebibytes(f[3])
		if err := errors.Join(totalErr, usedErr, freeErr); err != nil {
			return nil, fmt.Errorf("the card %s: %w", f[0], err)
		}
		// What the driver keeps for itself is neither used nor free.
		if free >= 0 && total >= free {
			used = max(used, total-free)
		}
		if total < 0 || used < 0 {
			r.card.Total, r.card.Unmeasured = max(total, 0), true
		} else {
			r.card.Total, r.card.Used = total, min(used, total)
		}
		r.lost = slices.ContainsFunc(f, func(s string) bool {
			return strings.HasPrefix(s, "[") && (strings.Contains(s, "lost") || strings.Contains(s, "reset"))
		})
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("no card was found: the command printed %s", words(out))
	}
	return rows, nil
}

// apps are the processes on the cards.
type apps struct {
	used map[string]map[int]int64 // by card and process, bytes
	mute map[string]bool          // the cards of which some process's use is not told
}

// of are the processes of a card, and whether it is not told who uses how much.
func (a *apps) of(uuid string) (list []gpu.Process, unattributed bool) {
	if a == nil {
		return nil, true
	}
	for pid, used := range a.used[uuid] {
		list = append(list, gpu.Process{PID: pid, Used: used})
	}
	slices.SortFunc(list, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
	return list, a.mute[uuid]
}

// parseApps reads the rows of processes.
func parseApps(out string) (*apps, error) {
	a := &apps{used: make(map[string]map[int]int64), mute: make(map[string]bool)}
	for line := range strings.Lines(out) {
		f, ok := fields(line, appFields)
		if !ok {
			continue
		}
		pid, err := strconv.ParseUint(f[1], 10, 31)
		if err != nil { // it has ended meanwhile, or is not for us to see
			a.mute[f[0]] = true
			continue
		}
		used, err := mebibytes(f[2])
		switch {
		case err != nil:
			return nil, fmt.Errorf("the process %d: %w", pid, err)
		case used < 0:
			a.mute[f[0]] = true
			used = 0
		case used == 0:
			continue
		}
		if a.used[f[0]] == nil {
			a.used[f[0]] = make(map[int]int64)
		}
		a.used[f[0]][int(pid)] += used
	}
	return a, nil
}

// fields splits a row that begins with a card's UUID. False means that the line is
// no row but a message.
func fields(line, names string) ([]string, bool) {
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, "GPU-") {
		return nil, false
	}
	n := strings.Count(names, ",") + 1
	f := strings.SplitN(line, ",", n)
	if len(f) != n {
		return nil, false
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	return f, true
}

// mebibytes reads a number of MiB and returns bytes, or -1 where the command does
// not tell it.
func mebibytes(s string) (int64, error) {
	if strings.HasPrefix(s, "[") || s == "N/A" || s == "ERR!" {
		return -1, nil
	}
	n, err := strconv.ParseUint(s, 10, 32) // up to 4 PiB
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of MiB", s)
	}
	return int64(n) << 20, nil
}

// told is a text, or nothing where the command does not tell it.
func told(s string) string {
	if strings.HasPrefix(s, "[") {
		return ""
	}
	return s
}
