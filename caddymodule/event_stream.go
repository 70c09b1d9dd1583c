// This file owns what a client sees of a stream of events whose server breaks
// off: an event that says so, and a proper end.

package caddymodule

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// isEventStream says whether an answer is a stream of server-sent events of
// open length, to which an event can be added.
func isEventStream(res *http.Response) bool {
	return isEventType(res.Header.Get("Content-Type")) && res.ContentLength < 0
}

// isEventType says whether a media type is that of server-sent events.
func isEventType(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}

// eventStream is the body of an answer with events. When reading it fails, and
// not because the client left, it ends with an error event instead.
type eventStream struct {
	io.ReadCloser
	ctx context.Context // the request's
	x   *exchange
	// end is the last bytes read, by which the end of an event is known.
	end [4]byte
	// last is what is left of the error event; broken says that there is one.
	last   []byte
	broken bool
}

// Read implements io.Reader.
func (s *eventStream) Read(p []byte) (int, error) {
	if s.broken {
		return s.readLast(p)
	}
	n, err := s.ReadCloser.Read(p)
	s.remember(p[:n])
	if err == nil || err == io.EOF || gone(s.ctx) {
		return n, err
	}
	s.broken = true
	why := brokenOff(s.x.model, err)
	s.x.outcome = outcomeCut
	if errors.Is(s.ctx.Err(), context.DeadlineExceeded) {
		why = deadlinePassed()
		s.x.outcome = why.Code
	}
	if !s.atEventEnd() {
		s.last = append(s.last, "\n\n"...)
	}
	s.last = append(s.last, openai.SSEError(s.x.route.Dialect, why)...)
	if n > 0 {
		return n, nil
	}
	return s.readLast(p)
}

func (s *eventStream) readLast(p []byte) (int, error) {
	if len(s.last) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.last)
	s.last = s.last[n:]
	return n, nil
}

// remember keeps the last four bytes of the stream.
func (s *eventStream) remember(b []byte) {
	if len(b) >= len(s.end) {
		copy(s.end[:], b[len(b)-len(s.end):])
		return
	}
	copy(s.end[:], s.end[len(b):])
	copy(s.end[len(s.end)-len(b):], b)
}

// atEventEnd says whether the last event is whole: an empty line stands behind
// it, or there is none.
func (s *eventStream) atEventEnd() bool {
	end := string(s.end[:])
	return s.end == [4]byte{} || strings.HasSuffix(end, "\n\n") || strings.HasSuffix(end, "\n\r\n")
}

// Interface guards
var _ io.ReadCloser = (*eventStream)(nil)
