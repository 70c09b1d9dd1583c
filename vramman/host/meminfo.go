package host

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// This file reads /proc/meminfo (proc_meminfo(5)).

// parseMeminfo finds the machine's memory.
func parseMeminfo(text string) (Memory, error) {
	var m Memory
	for name, into := range map[string]*int64{"MemTotal": &m.Total, "MemAvailable": &m.Available} {
		n, err := meminfoField(text, name)
		if err != nil {
			return Memory{}, err
		}
		*into = n
	}
	if m.Total == 0 {
		return Memory{}, errors.New("MemTotal is 0")
	}
	m.Available = min(m.Available, m.Total)
	return m, nil
}

// meminfoField reads a line such as "MemTotal:       24737284 kB", in bytes.
func meminfoField(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name+":")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0, fmt.Errorf("%s is %q, not a number of kB", name, strings.TrimSpace(rest))
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/1024 {
			return 0, fmt.Errorf("%s is %q, not a number of kB", name, strings.TrimSpace(rest))
		}
		return n * 1024, nil
	}
	return 0, fmt.Errorf("there is no %s", name)
}
