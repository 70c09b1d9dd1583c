// This file owns how long the gateway waits for a server: for a connection, for
// the answer's first byte, and for each further one.

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// What holds where the configuration says nothing.
const (
	standardConnectTimeout    = 10 * time.Second
	standardRequestTimeout    = 10 * time.Minute
	standardStreamIdleTimeout = 5 * time.Minute
)

// The reasons for which an attempt is given up.
var (
	errConnectTimeout = errors.New("the server could not be reached within connect_timeout")
	errRequestTimeout = errors.New("the server did not begin to answer within request_timeout")
	errStreamTimeout  = errors.New("the server was silent for longer than stream_idle_timeout")
)

// Timeouts bound how long a request waits for its server.
type Timeouts struct {
	// How long connecting to an instance may take. Then the attempt counts as
	// failed, and another is made. Default: `10s`.
	ConnectTimeout caddy.Duration `json:"connect_timeout,omitempty"`

	// How long an instance may take from getting a request until the first byte of
	// its answer, which of a stream is that of its first event. Then the client gets
	// status 504. Default: `10m`.
	RequestTimeout caddy.Duration `json:"request_timeout,omitempty"`

	// How long an answer that has begun may be silent. Then a stream of events ends
	// with an error event, and any other answer is cut. 0: for as long as it likes.
	// Default: `5m`.
	StreamIdleTimeout *caddy.Duration `json:"stream_idle_timeout,omitempty"`
}

// timeouts are those in force.
type timeouts struct{ connect, request, idle time.Duration }

// inForce returns them with the defaults where nothing is configured.
func (t *Timeouts) inForce() timeouts {
	idle := standardStreamIdleTimeout
	if t.StreamIdleTimeout != nil {
		idle = duration(*t.StreamIdleTimeout)
	}
	return timeouts{
		connect: cmp.Or(duration(t.ConnectTimeout), standardConnectTimeout),
		request: cmp.Or(duration(t.RequestTimeout), standardRequestTimeout),
		idle:    idle,
	}
}

// check looks for values out of range.
func (t *Timeouts) check() error {
	for _, d := range []struct {
		option string
		value  *caddy.Duration
	}{
		{"connect_timeout", &t.ConnectTimeout},
		{"request_timeout", &t.RequestTimeout},
		{"stream_idle_timeout", t.StreamIdleTimeout},
	} {
		if d.value != nil && *d.value < 0 {
			return fmt.Errorf("%s is negative", d.option)
		}
	}
	return nil
}

// option reads one of the timeouts, if word is one.
func (t *Timeouts) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "connect_timeout":
		return true, r.duration(&t.ConnectTimeout)
	case "request_timeout":
		return true, r.duration(&t.RequestTimeout)
	case "stream_idle_timeout":
		return true, r.durationOrZero(&t.StreamIdleTimeout)
	}
	return false, nil
}

// attemptTimer ends one attempt's context when what is waited for does not come. It is
// one timer for the whole of the attempt, which is moved only when it is due, so
// that waiting for each event of a stream costs little.
type attemptTimer struct {
	cancel context.CancelCauseFunc
	began  time.Time

	mu    sync.Mutex
	timer *time.Timer
	due   time.Duration // after began; 0: nothing is waited for
	why   error         // what is said of it if it does not come
	armed time.Duration // when the timer fires, after began; 0: it does not
}

// timed returns a context for one attempt, and its timer, which must be ended.
func timed(ctx context.Context, began time.Time) (context.Context, *attemptTimer) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &attemptTimer{cancel: cancel, began: began}
}

// wait begins to wait for something for d at most, instead of what was waited for
// before. With d 0 it waits as long as it takes.
func (w *attemptTimer) wait(d time.Duration, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d <= 0 {
		w.due = 0
		return
	}
	w.due, w.why = time.Since(w.began)+d, why
	switch {
	case w.armed != 0 && w.armed <= w.due: // it fires before, and looks again
	case w.timer == nil:
		w.armed = w.due
		w.timer = time.AfterFunc(d, w.fire)
	default:
		w.armed = w.due
		w.timer.Reset(d)
	}
}

// rest notes that what was waited for has come.
func (w *attemptTimer) rest() {
	w.mu.Lock()
	w.due = 0
	w.mu.Unlock()
}

func (w *attemptTimer) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.began)
	switch {
	case w.due == 0:
		w.armed = 0
	case now < w.due:
		w.armed = w.due
		w.timer.Reset(w.due - now)
	default:
		w.armed = 0
		w.cancel(w.why)
	}
}

// end ends the attempt: what is still sent or read for it is given up.
func (w *attemptTimer) end() {
	w.mu.Lock()
	w.due = 0
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.cancel(nil)
}

// timedOut is why the attempt whose context this is was given up by its timer, or
// nil if it was not.
func timedOut(ctx context.Context) error {
	cause := context.Cause(ctx)
	for _, timeout := range []error{errConnectTimeout, errRequestTimeout, errStreamTimeout} {
		if errors.Is(cause, timeout) {
			return timeout
		}
	}
	return nil
}
