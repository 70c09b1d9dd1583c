package nvml

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// This file owns what becomes of one card's figures, or one slice's.

func (i *inventory) readDevice(d device) (gpu.Card, error) {
	c := gpu.Card{Driver: i.session.driver}
	var err error
	if c.UUID, err = d.uuid(); err != nil {
		return c, err
	}
	if c.UUID == "" {
		return c, errors.New("it has no UUID")
	}
	if c.Name, err = d.name(); err != nil {
		return c, err
	}
	total, used, err := d.memory()
	switch {
	case errors.Is(err, errUnsupported):
		// Where cards share the machine's memory, as in a GB10, they have none
		// of their own to measure.
		c.Unmeasured = true
		return c, nil
	case err != nil:
		return c, err
	case total > math.MaxInt64 || used > total:
		return c, fmt.Errorf("%d bytes of %d cannot be in use", used, total)
	}
	c.Total, c.Used = int64(total), int64(used)
	if c.Processes, c.Unattributed, err = readProcesses(d); err != nil {
		return c, err
	}
	if s := i.session; c.Unattributed && !s.mute[c.UUID] {
		s.mute[c.UUID] = true
		i.log.Warn("the driver does not tell which process uses how much of this card; what is not the gateway's is estimated", zap.String("gpu", c.UUID))
	}
	return c, nil
}

// readProcesses brings the lists of a card's processes together. unattributed
// says that they do not tell who uses how much.
func readProcesses(d device) (list []gpu.Process, unattributed bool, err error) {
	compute, err := d.compute()
	switch {
	case unknowable(err):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	}
	lists := [][]process{compute}
	// Slices have no graphics, and old libraries no list of their own for MPS.
	for _, more := range []func() ([]process, error){d.graphics, d.mps} {
		ps, err := more()
		switch {
		case unknowable(err):
		case err != nil:
			return nil, false, err
		default:
			lists = append(lists, ps)
		}
	}
	uses := make(map[int]int64)
	for _, ps := range lists {
		sums := make(map[int]int64) // a process may be in a list once for each of its contexts
		for _, p := range ps {
			switch {
			case p.used == unknown:
				unattributed = true
				sums[int(p.pid)] += 0
			case p.used > math.MaxInt64/1024:
				return nil, false, fmt.Errorf("process %d cannot use %d bytes", p.pid, p.used)
			case p.used > 0:
				sums[int(p.pid)] += int64(p.used)
			}
		}
		for pid, used := range sums {
			uses[pid] = max(uses[pid], used)
		}
	}
	for pid, used := range uses {
		list = append(list, gpu.Process{PID: pid, Used: used})
	}
	slices.SortFunc(list, func(a, b gpu.Process) int { return cmp.Compare(a.PID, b.PID) })
	return list, unattributed, nil
}

// unknowable says that a list of processes cannot be had here: there is none, or
// it is not for everybody.
func unknowable(err error) bool {
	const noPermission = 4
	e, ok := errors.AsType[*callError](err)
	return errors.Is(err, errUnsupported) || ok && e.code == noPermission
}
