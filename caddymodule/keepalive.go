// This file owns what a client that asked for a stream is sent while it waits:
// comments, and an answer that can still turn out to be an error.

package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

const (
	// leastKeepalive is the shortest time between two comments.
	leastKeepalive = time.Second
	// mostHeld is how much of an answer that is no stream is kept, to be told as an
	// event.
	mostHeld = 64 << 10
)

// keepalive is the way to a client that is sent comments while it waits. The first
// comment commits the answer to status 200 and a stream of events. A stream that
// comes after it goes on where the comments end; any other answer, which is an
// error mostly, becomes an event, and the stream ends.
//
// It belongs to the goroutine that serves the request.
type keepalive struct {
	http.ResponseWriter
	dialect openai.Dialect
	ticket  *vramman.Ticket

	committed bool        // a comment was sent
	answered  bool        // the answer has begun
	streams   bool        // the answer is a stream of events
	header    http.Header // of the answer, once the client has other ones
	status    int         // of the answer, after a comment
	held      []byte      // the answer, if it is no stream
}

func newKeepalive(w http.ResponseWriter, d openai.Dialect, t *vramman.Ticket) *keepalive {
	return &keepalive{ResponseWriter: w, dialect: d, ticket: t}
}

// Unwrap lets http.ResponseController find what is underneath.
func (k *keepalive) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// tell sends a comment that says how things stand, if no answer has begun.
func (k *keepalive) tell(p vramman.Progress) {
	if k.answered {
		return
	}
	if !k.committed {
		k.committed = true
		h := k.ResponseWriter.Header()
		queueHeaders(h, k.ticket)
		h.Del("X-Queue-Wait") // it is not over
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		k.ResponseWriter.WriteHeader(http.StatusOK)
		k.header = make(http.Header)
	}
	_, _ = k.ResponseWriter.Write(comment(p))
	k.flush()
}

// comment is a comment of a stream of events, which clients skip.
func comment(p vramman.Progress) []byte {
	b := []byte(": ")
	if p.Position > 0 {
		b = append(b, "queued, position "...)
		b = strconv.AppendInt(b, int64(p.Position), 10)
	}
	if p.Position == 0 || p.Stage != "" {
		if p.Position > 0 {
			b = append(b, "; "...)
		}
		b = append(b, "loading"...)
	}
	if p.Stage != "" {
		b = append(b, ", "...)
		b = append(b, p.Stage...)
	}
	return append(b, "\n\n"...)
}

func (k *keepalive) flush() { _ = http.NewResponseController(k.ResponseWriter).Flush() }

// Header implements http.ResponseWriter.
func (k *keepalive) Header() http.Header {
	if k.committed {
		return k.header
	}
	return k.ResponseWriter.Header()
}

// WriteHeader implements http.ResponseWriter.
func (k *keepalive) WriteHeader(status int) {
	if !k.committed {
		k.answered = k.answered || status >= http.StatusOK
		k.ResponseWriter.WriteHeader(status)
		return
	}
	if k.answered || status < http.StatusOK { // there is no way back to informational ones
		return
	}
	k.answered, k.status = true, status
	k.streams = status == http.StatusOK && isEventType(k.header.Get("Content-Type"))
}

// Write implements http.ResponseWriter.
func (k *keepalive) Write(b []byte) (int, error) {
	if !k.answered {
		k.WriteHeader(http.StatusOK)
	}
	if !k.committed || k.streams {
		return k.ResponseWriter.Write(b)
	}
	k.held = append(k.held, b[:min(len(b), mostHeld-len(k.held))]...)
	return len(b), nil
}

// finish ends the stream of a client that was sent comments, when the answer is
// whole.
func (k *keepalive) finish() {
	if !k.committed || !k.answered || k.streams {
		return
	}
	if k.status == statusClientGone {
		_ = cut(k.ResponseWriter) // what it has must not seem whole
		return
	}
	_, _ = k.ResponseWriter.Write(k.event()) //nolint:gosec // G705: an event stream is no page
	k.flush()
}

// event is an answer that is no stream, as an event of one.
func (k *keepalive) event() []byte {
	failed := k.status >= http.StatusBadRequest
	var b bytes.Buffer
	if failed && k.dialect == openai.DialectAnthropic {
		b.WriteString("event: error\n")
	}
	b.WriteString("data: ")
	if err := json.Compact(&b, k.held); err != nil { // cut short, or no JSON
		return openai.SSEError(k.dialect, openai.Error{
			Status:  max(k.status, http.StatusInternalServerError),
			Code:    openai.CodeUpstreamFailed,
			Message: "the model's server gave an answer that is no stream",
		})
	}
	b.WriteString("\n\n")
	return b.Bytes()
}

// Interface guards
var _ http.ResponseWriter = (*keepalive)(nil)
