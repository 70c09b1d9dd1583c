// This file owns what is learnt of an answer as it passes: how many events it has,
// and how many tokens it took.

package caddymodule

import (
	"bytes"
	"io"
	"net/http"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// usageWithin is how much of an answer's end is searched for its usage, in bytes;
// vLLM tells it in the last few hundred.
const usageWithin = 2 << 10

// watch puts what looks at an answer, and mends it, around its body.
func watch(res *http.Response, x *exchange) {
	if res.StatusCode == http.StatusSwitchingProtocols || res.Body == nil {
		return // the body is a connection
	}
	events := isEventStream(res)
	if res.StatusCode == http.StatusOK && x.route.ModelIn != openai.ModelInStore {
		res.Body = &answerMeter{ReadCloser: res.Body, ticket: &x.ticket, events: events}
	}
	if events {
		res.Body = &eventStream{ReadCloser: res.Body, ctx: x.ctx, x: x}
	}
}

// answerMeter is an answer's body that tells the request's ticket what was served.
type answerMeter struct {
	io.ReadCloser
	ticket *vramman.Ticket
	events bool // it is a stream of them
	last   byte // that was read
	told   bool
	tail   []byte // the end of what was read: usageWithin at least, if there was as much
}

// Read implements io.Reader.
func (m *answerMeter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.note(p[:n])
	}
	if err != nil {
		m.tell()
	}
	return n, err
}

// Close implements io.Closer.
func (m *answerMeter) Close() error {
	m.tell()
	return m.ReadCloser.Close()
}

// note looks at a piece of the answer.
func (m *answerMeter) note(b []byte) {
	if m.events {
		events := bytes.Count(b, []byte("\n\n"))
		if m.last == '\n' && b[0] == '\n' {
			events++
		}
		m.ticket.Served(int64(events))
	}
	m.last = b[len(b)-1]
	if len(b) > usageWithin {
		b = b[len(b)-usageWithin:]
	}
	if m.tail == nil {
		m.tail = make([]byte, 0, 2*usageWithin)
	}
	if len(m.tail)+len(b) > cap(m.tail) {
		kept := copy(m.tail, m.tail[len(m.tail)-usageWithin:])
		m.tail = m.tail[:kept]
	}
	m.tail = append(m.tail, b...)
}

// tell tells the ticket, once, what the server says that the request took.
func (m *answerMeter) tell() {
	if m.told {
		return
	}
	m.told = true
	if u, ok := openai.FindUsage(m.tail); ok {
		m.ticket.Used(u.Prompt, u.Output)
	}
	m.tail = nil
}

// Interface guards
var _ io.ReadCloser = (*answerMeter)(nil)
