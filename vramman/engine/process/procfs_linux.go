// This file owns what is read of other processes from /proc.

package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// sessionPatience is how long the members of a session are given to die of
	// a kill; longer means that they hang in the kernel.
	sessionPatience = 5 * time.Second
	// sessionPause is the time between two looks. There is no event to wait
	// for: they are not our children.
	sessionPause = 10 * time.Millisecond
)

// process is one process of this host.
type process struct {
	pid, parent, session int
	dead                 bool // it has ended and waits to be reaped
}

// processes lists all processes that can be seen. One that ends meanwhile is
// left out.
func processes() ([]process, error) {
	// Names only: the entries of /proc need no further look each.
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	all := make([]process, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", name, "stat"))
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, stat); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// parseStat reads a process's stat line (proc_pid_stat(5)): "pid (name) state
// parent group session …". The name may hold anything, brackets and line ends
// included, and ends with the last bracket.
func parseStat(pid int, stat []byte) (process, bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 4 {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(string(fields[1]))
	session, err2 := strconv.Atoi(string(fields[3]))
	if err1 != nil || err2 != nil {
		return process{}, false
	}
	state := fields[0][0]
	return process{pid: pid, parent: parent, session: session, dead: state == 'Z' || state == 'X'}, true
}

// descendants are the live processes below root, itself left out.
func descendants(all []process, root int) []int {
	children := make(map[int][]process)
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var below []int
	seen := map[int]bool{root: true} // a number may be reused while the list is made
	for todo := []int{root}; len(todo) > 0; todo = todo[1:] {
		for _, p := range children[todo[0]] {
			if seen[p.pid] {
				continue
			}
			seen[p.pid] = true
			todo = append(todo, p.pid)
			if !p.dead {
				below = append(below, p.pid)
			}
		}
	}
	return below
}

// endSession kills every process of a session and returns when none is alive.
func endSession(session int) error {
	for deadline := time.Now().Add(sessionPatience); ; time.Sleep(sessionPause) {
		all, err := processes()
		if err != nil {
			return err
		}
		alive := 0
		for _, p := range all {
			if p.session == session && !p.dead {
				alive++
				_ = unix.Kill(p.pid, unix.SIGKILL)
			}
		}
		switch {
		case alive == 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%d processes of session %d do not die", alive, session)
		}
	}
}

// oomKills is how many processes the kernel has killed since it booted because
// memory ran out, or 0 where it does not say. A rise while a server ran that
// was killed, and not by us, is as good a sign as there is.
func oomKills() int {
	vmstat, err := os.ReadFile("/proc/vmstat")
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	return parseOOMKills(vmstat)
}

// parseOOMKills finds the count in /proc/vmstat.
func parseOOMKills(vmstat []byte) int {
	for line := range bytes.Lines(vmstat) {
		if number, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, _ := strconv.Atoi(string(bytes.TrimSpace(number)))
			return n
		}
	}
	return 0
}
