// Package lines turns what a server prints into lines, progress bars included.
package lines

import (
	"bytes"
	"io"
	"strings"
)

// MaxLength is the length in bytes at which a line is cut; the rest of it is
// dropped.
const MaxLength = 16 << 10

// Splitter turns bytes into lines. Empty lines are left out, and what is not
// UTF-8 is replaced.
//
// A lone carriage return is how a progress bar draws itself anew. Of a bar's
// states the first and the last are lines, so that a reader sees that loading
// has begun and not a thousand steps of it.
type Splitter struct {
	// Line is called with each line, without its line end.
	Line func(string)
	// State, if there is one, is called with each state of a progress bar that
	// is no line.
	State func(string)

	buf     []byte
	inBar   bool // a state of the current bar has been a line
	pending bool // a carriage return was seen and what follows decides
}

// Write takes further output. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if s.pending {
			s.pending = false
			if p[0] == '\n' { // the two together end a line like the one alone
				s.end()
				p = p[1:]
				continue
			}
			s.redraw()
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			s.keep(p)
			break
		}
		s.keep(p[:i])
		if p[i] == '\n' {
			s.end()
		} else {
			s.pending = true
		}
		p = p[i+1:]
	}
	return n, nil
}

// Flush ends a last line that has no line end.
func (s *Splitter) Flush() {
	s.pending = false
	s.end()
}

// keep appends to the current line as far as it may grow.
func (s *Splitter) keep(p []byte) {
	s.buf = append(s.buf, p[:min(len(p), MaxLength-len(s.buf))]...)
}

// end finishes the current line.
func (s *Splitter) end() {
	s.emit(s.Line)
	s.inBar = false
}

// redraw finishes one state of a progress bar.
func (s *Splitter) redraw() {
	if s.inBar {
		s.emit(s.State)
		return
	}
	s.inBar = len(s.buf) > 0
	s.emit(s.Line)
}

// emit hands the current line to whom it is for, if there is anything in it.
func (s *Splitter) emit(to func(string)) {
	if len(s.buf) > 0 && to != nil {
		to(strings.ToValidUTF8(string(s.buf), "\uFFFD"))
	}
	s.buf = s.buf[:0]
}

// Read hands on the lines of r until it ends or fails. line may be nil.
func Read(r io.Reader, line func(string)) {
	s := Splitter{Line: line}
	// An error is the end of what can be read, whichever it is. A plain loop,
	// not io.Copy: a file would offer a way of its own to write itself.
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		_, _ = s.Write(buf[:n])
		if err != nil {
			break
		}
	}
	s.Flush()
}

// Interface guard
var _ io.Writer = (*Splitter)(nil)
