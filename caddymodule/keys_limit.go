// This file owns how many requests each caller has under way at once.

package caddymodule

import (
	"sync"
	"sync/atomic"
	"time"
)

// keptCounts is how many callers without a request are remembered, for how long
// their requests took.
const keptCounts = 1024

// callersBusy counts over all sites of the process, and through reloads: a caller is
// the same one everywhere.
var callersBusy callerCounts

// callerCounts are the requests under way of each caller, by name. Callers do not
// wait for one another. The zero callerCounts is usable.
type callerCounts struct {
	names sync.Map // *callerCount
	size  atomic.Int64
}

// callerCount is one caller's requests.
type callerCount struct {
	mu      sync.Mutex
	gone    bool // no longer in the map: look again
	serving int
	took    time.Duration // mean of the latest requests; 0: none has ended yet
}

// enter counts a request of a caller that may have limit at once. If it has them
// already, it says when one of them may have ended; 0: nobody knows.
func (c *callerCounts) enter(name string, limit int) (again time.Duration, ok bool) {
	n := c.locked(name)
	defer n.mu.Unlock()
	if n.serving >= limit {
		return n.took / time.Duration(n.serving), false
	}
	n.serving++
	return 0, true
}

// leave says that a request is over which was let in, and how long it took.
func (c *callerCounts) leave(name string, took time.Duration) {
	n := c.locked(name)
	defer n.mu.Unlock()
	n.serving--
	if n.took == 0 {
		n.took = took
	} else {
		n.took += (took - n.took) / 8
	}
	if n.serving == 0 && c.size.Load() > keptCounts {
		n.gone = true
		c.names.Delete(name)
		c.size.Add(-1)
	}
}

// locked returns a caller's count, whose lock the caller gives back.
func (c *callerCounts) locked(name string) *callerCount {
	for {
		v, ok := c.names.Load(name)
		if !ok {
			v, ok = c.names.LoadOrStore(name, new(callerCount))
			if !ok {
				c.size.Add(1)
			}
		}
		n := v.(*callerCount)
		n.mu.Lock()
		if !n.gone {
			return n
		}
		n.mu.Unlock()
	}
}
