// This file owns one attempt at an instance: its connection, and what of it may
// be tried again.

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
)

// connection is what an attempt learnt of its connection.
type connection struct {
	made   bool          // there was one, so the request may have been sent
	reused bool          // it had served a request before
	after  time.Duration // from the attempt's beginning until it was there
}

// attempt sends the request to an instance once. The error is an *unavailable
// where the server itself said that it cannot serve, a timeout's, or what became
// of the connection.
//
// A server closes connections that have been idle for a while, and may do so just
// as a request is sent on one. That says nothing of the server and is no failed
// attempt: the request is sent once more, on a connection of its own. A request
// that must not be sent twice never gets a used one.
func (t *leasingTransport) attempt(req *http.Request, x *exchange, i instance, began time.Time) (*http.Response, connection, error) {
	transport := i.Transport()
	if x.route.Stores {
		transport = fresh(transport)
	}
	res, c, err := t.send(req, x, i, transport, began)
	if err != nil && c.reused && !x.route.Stores && broken(err) && req.Context().Err() == nil {
		closeIdle(i) // those beside it are as old
		x.endTimer()
		res, c, err = t.send(req, x, i, fresh(transport), began)
	}
	if err == nil && res.StatusCode == http.StatusServiceUnavailable {
		err = readUnavailable(res)
	}
	return res, c, err
}

// send sends the request over a transport. It leaves its timer in the exchange,
// since the answer is still to be read.
func (t *leasingTransport) send(req *http.Request, x *exchange, i instance, via http.RoundTripper, began time.Time) (*http.Response, connection, error) {
	// The proxy's own trace would pass informational answers on as they are.
	base := x.ctx
	if base == nil {
		base = req.Context()
	}
	ctx, w := timed(base, time.Now())
	x.timer = w
	var c connection
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		c = connection{made: true, reused: info.Reused, after: time.Since(began)}
		w.wait(t.timeouts.request, errRequestTimeout)
	}}
	w.wait(t.timeouts.connect, errConnectTimeout)
	out := req.WithContext(httptrace.WithClientTrace(ctx, trace))
	// A copy: an attempt before may still be writing its headers.
	out.Header = maps.Clone(req.Header)
	delete(out.Header, "Authorization")
	if a := i.Authorization(); a != "" {
		out.Header["Authorization"] = []string{a}
	}
	out.Body, out.GetBody = nil, nil
	if out.ContentLength = int64(x.body.len()); out.ContentLength > 0 {
		out.Body = x.body.reader()
		out.GetBody = func() (io.ReadCloser, error) { return x.body.reader(), nil }
	}
	res, err := via.RoundTrip(out)
	if err != nil {
		if timeout := timedOut(ctx); timeout != nil {
			err = timeout
		}
		return nil, c, err
	}
	return res, c, nil
}

// fresh is a transport that makes a new connection for each request, otherwise
// the same.
func fresh(rt http.RoundTripper) http.RoundTripper {
	t, ok := rt.(*http.Transport)
	if !ok {
		return rt
	}
	t = t.Clone()
	t.DisableKeepAlives = true
	return t
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

// closeIdle closes the connections to an instance that are not in use.
func closeIdle(i instance) {
	if t, ok := i.Transport().(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
