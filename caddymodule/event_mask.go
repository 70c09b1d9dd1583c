// This file owns the errors that a server tells in the middle of a stream of events:
// they are told as events, with the status 200 long gone, and masked as others are.

package caddymodule

import (
	"bytes"
	"io"
)

// errorEvents begin the lines that tell an error: in OpenAI's shape, which vLLM uses
// (create_streaming_error_response), and in Anthropic's. No text of an answer can
// look like that, since quotes are escaped in it.
var errorEvents = [][]byte{[]byte(`data: {"error"`), []byte(`data: {"type":"error"`), []byte(`data: {"type": "error"`)}

// maskedEvents is a stream of events whose errors are masked. All other events pass
// as they come, and at once; only what may become an error is held until its line
// is whole.
type maskedEvents struct {
	io.ReadCloser
	line bool   // what comes next continues a line
	held []byte // the beginning of a line that may be an error's
	out  []byte // what is to be read next
	err  error  // what ended the stream, once out has been read
}

// Read implements io.Reader.
func (m *maskedEvents) Read(p []byte) (int, error) {
	for {
		if len(m.out) > 0 {
			n := copy(p, m.out)
			m.out = m.out[n:]
			return n, nil
		}
		if m.err != nil {
			return 0, m.err
		}
		n, err := m.ReadCloser.Read(p)
		if len(m.held) == 0 && err == nil && n > 0 && !m.mayHoldError(p[:n]) {
			m.line = p[n-1] != '\n'
			return n, nil
		}
		m.take(p[:n])
		if m.err = err; err != nil {
			m.out = append(m.out, m.held...) // it was cut short, and is no error's whole line
			if isErrorLine(m.held) {
				m.out = m.out[:len(m.out)-len(m.held)]
			}
			m.held = nil
		}
	}
}

// mayHoldError says whether a line in b begins as an error does, or is too short to
// tell.
func (m *maskedEvents) mayHoldError(b []byte) bool {
	if m.line {
		_, after, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return false
		}
		b = after
	}
	for len(b) > 0 {
		if mayBecomeError(b) {
			return true
		}
		_, after, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return false
		}
		b = after
	}
	return false
}

// take adds what was read to what is to be read next, line by line.
func (m *maskedEvents) take(b []byte) {
	for len(b) > 0 {
		line, whole := b, false
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, whole = b[:i+1], true
		}
		b = b[len(line):]
		switch {
		case m.line: // its beginning has gone
			m.out = append(m.out, line...)
			m.line = !whole
			continue
		case len(m.held)+len(line) > maxErrorBody && !whole:
			// No error is so large. What came of it is dropped, and so is the rest.
			m.held = append(m.held[:0], errorEvents[0]...)
			continue
		}
		m.held = append(m.held, line...)
		switch {
		case whole:
			m.out = append(m.out, maskLine(m.held)...)
			m.held = m.held[:0]
		case !mayBecomeError(m.held):
			m.out = append(m.out, m.held...)
			m.held, m.line = m.held[:0], true
		}
	}
}

// mayBecomeError says whether what a line begins with is an error's, as far as it
// has come.
func mayBecomeError(line []byte) bool {
	for _, begin := range errorEvents {
		n := min(len(begin), len(line))
		if bytes.Equal(line[:n], begin[:n]) {
			return true
		}
	}
	return false
}

func isErrorLine(line []byte) bool {
	for _, begin := range errorEvents {
		if bytes.HasPrefix(line, begin) {
			return true
		}
	}
	return false
}

// maskLine masks a whole line, if it is an error's. One that is no JSON is left out.
func maskLine(line []byte) []byte {
	if !isErrorLine(line) {
		return line
	}
	const field = "data: "
	text := bytes.TrimRight(line[len(field):], "\r\n")
	end := line[len(field)+len(text):]
	masked, ok := maskJSON(text)
	if !ok {
		masked = []byte(`{"error":{"message":"the server told an error that cannot be shown","type":"server_error","param":null,"code":"upstream_failed"}}`)
	}
	return append(append([]byte(field), masked...), end...)
}

// Interface guards
var _ io.ReadCloser = (*maskedEvents)(nil)
