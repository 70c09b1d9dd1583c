// Package logring keeps the last lines that a server printed.
package logring

import "sync"

// The bounds of a ring. A server's traceback fits well within them.
const (
	// Lines is how many lines a ring keeps.
	Lines = 400
	// Bytes is how much text it keeps; of longer lines it keeps fewer.
	Bytes = 256 << 10
)

// Ring keeps the last lines added to it, at most [Lines] and at most [Bytes].
// The zero Ring is empty and ready. It may be used by several goroutines at
// once, and adding never waits for longer than a reader's copy of the lines.
type Ring struct {
	mu    sync.Mutex
	lines []string // a ring of length Lines, made by the first Add
	first int      // the oldest line
	count int      // lines kept
	bytes int      // text kept
}

// Add appends a line and forgets the oldest ones that are over the bounds. Of a
// line longer than [Bytes] the end is cut off.
func (r *Ring) Add(line string) {
	line = line[:min(len(line), Bytes)]
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.count == Lines || r.bytes+len(line) > Bytes {
		r.bytes -= len(r.lines[r.first])
		r.lines[r.first] = ""
		r.first = (r.first + 1) % len(r.lines)
		r.count--
	}
	if r.lines == nil {
		r.lines = make([]string, Lines)
	}
	r.lines[(r.first+r.count)%Lines] = line
	r.count++
	r.bytes += len(line)
}

// Last returns the newest lines, n at most, oldest first. They are the caller's.
func (r *Ring) Last(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = max(0, min(n, r.count))
	last := make([]string, n)
	for i := range last {
		last[i] = r.lines[(r.first+r.count-n+i)%Lines]
	}
	return last
}
