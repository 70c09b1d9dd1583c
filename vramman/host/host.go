// Package host tells how much memory the machine has, of which servers that sleep
// keep their weights in.
package host

// Memory is the main memory at one moment, in bytes.
type Memory struct {
	Total     int64
	Available int64 // what programs can still get without swapping, as the kernel estimates it
}

// limit is what a control group may use. Sizes are bytes.
type limit struct {
	max  int64
	used int64 // without what the kernel gives up at once
}

// within is the memory that is left to processes that all the limits are put on.
// A limit that is no smaller than the machine changes nothing.
func (m Memory) within(limits []limit) Memory {
	left := m
	for _, l := range limits {
		if l.max < m.Total {
			left.Total = min(left.Total, l.max)
			left.Available = min(left.Available, max(0, l.max-l.used))
		}
	}
	return left
}
