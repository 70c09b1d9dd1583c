// This file owns the attempts of one request: each with a lease of its own, as
// many as it takes until a server begins to answer.

package caddymodule

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"time"

	"go.uber.org/zap"
)

const (
	// maxRetries is how often a request is tried again.
	maxRetries = 3
	// The waits before retries: each longer than the one before.
	firstBackoff  = 100 * time.Millisecond
	backoffFactor = 3
	maxBackoff    = time.Second
	// maxDrain is how much of an answer nobody wants is read, so that its
	// connection can be used again.
	maxDrain = 64 << 10
)

// leasingTransport sends a request to an instance of its model. It is the
// transport of a reverse proxy; the request's context holds the exchange.
//
// It tries again only before the first byte of an answer has gone to the client:
// when a connection could not be made or broke before any answer, and when the
// server said 503, which a vLLM server does when it shuts down or its own queue
// is full. Each attempt has a lease of its own, on another instance than the one
// that failed where there is one; it waits on the request's context alone.
//
// The last lease is left in the exchange: the answer is still to be read.
type leasingTransport struct{ log *zap.Logger }

// RoundTrip implements http.RoundTripper. Its errors are the manager's, the
// context's, or an [*upstreamError].
func (t *leasingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	x := exchangeOf(ctx)
	if req.Body != nil {
		_ = req.Body.Close() // each attempt has a reader of its own
	}
	var avoid instance
	for attempt := 0; ; attempt++ {
		i, err := x.acquire(ctx, avoid)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		res, c, err := send(req, x, i, attempt, began)
		now := time.Now()
		if err == nil && (res.StatusCode != http.StatusServiceUnavailable || attempt == maxRetries) {
			x.connect, x.firstByte = c.after, now.Sub(began)
			x.begin(now)
			return res, nil
		}
		x.release(now)
		if err != nil {
			if gone(ctx) {
				return nil, ctx.Err()
			}
			err = &upstreamError{model: x.model, connected: c.made, err: err}
			if attempt == maxRetries || c.made && (x.route.Stores || !broken(err)) {
				return nil, err
			}
		} else {
			discard(res)
		}
		t.logRetry(x, attempt, err)
		avoid = i
		wait := backoff(attempt)
		if attempt == 0 && err != nil && c.reused {
			// The server closed an idle connection as it was taken into use again,
			// which says nothing of the server; those beside it are as old.
			avoid, wait = nil, 0
			closeIdle(i)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		x.retries++
		x.retrying += time.Since(began)
	}
}

// connection is what an attempt learnt of its connection.
type connection struct {
	made   bool          // there was one, so the request may have been sent
	reused bool          // it had served a request before
	after  time.Duration // from the attempt's beginning until it was there
}

// send makes one attempt.
func send(req *http.Request, x *exchange, i instance, attempt int, began time.Time) (*http.Response, connection, error) {
	var c connection
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		c = connection{made: true, reused: info.Reused, after: time.Since(began)}
	}}
	out := req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	if attempt > 0 {
		// The attempt before may still be writing its headers.
		out.Header = maps.Clone(req.Header)
	}
	out.Header["Authorization"] = []string{i.Authorization()}
	out.Body = x.body.reader()
	out.GetBody = func() (io.ReadCloser, error) { return x.body.reader(), nil }
	out.ContentLength = int64(x.body.len())
	res, err := i.Transport().RoundTrip(out)
	return res, c, err
}

func (t *leasingTransport) logRetry(x *exchange, attempt int, err error) {
	if c := t.log.Check(zap.WarnLevel, "Transient connection error, trying again"); c != nil {
		cause := zap.Error(err)
		if err == nil {
			cause = zap.String("error", "the server said 503")
		}
		c.Write(zap.String("model", x.model), zap.String("instance", x.instance),
			zap.Int("attempt", attempt+1), cause)
	}
}

// broken says whether a connection ended before an answer came. Answers that
// cannot be understood are not tried again.
func broken(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, os.ErrClosed} {
		if errors.Is(err, end) {
			return true
		}
	}
	// net/http keeps this error to itself.
	for ; err != nil; err = errors.Unwrap(err) {
		if err.Error() == "http: server closed idle connection" {
			return true
		}
	}
	return false
}

// backoff is the wait after an attempt, of which the first is number 0.
func backoff(attempt int) time.Duration {
	d := firstBackoff
	for range attempt {
		d *= backoffFactor
	}
	return min(d, maxBackoff)
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// discard ends an answer that nobody wants.
func discard(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	_ = res.Body.Close()
}

// closeIdle closes the connections to an instance that are not in use.
func closeIdle(i instance) {
	if t, ok := i.Transport().(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Interface guards
var _ http.RoundTripper = (*leasingTransport)(nil)
