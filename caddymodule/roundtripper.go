// This file owns the attempts of one request: each with a lease of its own, as
// many as it takes until a server begins to answer.

package caddymodule

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"go.uber.org/zap"
)

const (
	// maxRetries is how often a request is tried again.
	maxRetries = 3
	// The waits before retries: each longer than the one before, and by chance up to
	// a quarter longer or shorter, so that those whom one server failed do not all
	// come back at once.
	minBackoff    = 100 * time.Millisecond
	firstBackoff  = 130 * time.Millisecond
	backoffFactor = 2.5
	maxBackoff    = time.Second
	backoffSpread = 0.25
)

// leasingTransport sends a request to an instance of its model. It is the
// transport of a reverse proxy; the request's context holds the exchange.
//
// It tries again only before the first byte of an answer has gone to the client:
// when a connection could not be made or broke before any answer, and when the
// server said 503. Each attempt has a lease of its own, on another instance than
// the one that failed where there is one; it waits on the request's context alone,
// and not past the ticket's deadline. Requests that make a server store something
// are tried again only if they cannot have reached it.
//
// The last lease is left in the exchange: the answer is still to be read.
type leasingTransport struct {
	log      *zap.Logger
	timeouts timeouts
	chance   func() float64 // from 0 to 1; nil: by chance
}

// RoundTrip implements http.RoundTripper. Its errors are the manager's, the
// context's, or an [*upstreamError].
func (t *leasingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	x := exchangeOf(ctx)
	if req.Body != nil {
		_ = req.Body.Close() // each attempt has a reader of its own
	}
	var avoid instance
	var failed error
	for attempt := 0; ; attempt++ {
		i, err := x.acquire(ctx, avoid)
		if err != nil && x.fall(ctx, err) { // its attempts are counted anew
			attempt, avoid, failed = -1, nil, nil
			continue
		}
		if err != nil {
			return nil, err
		}
		if i == avoid && isBusy(failed) { // there is no other, and this one said no
			x.release(time.Now())
			return nil, failed
		}
		began := time.Now()
		res, c, err := t.attempt(req, x, i, began)
		now := time.Now()
		if err == nil {
			x.connect, x.firstByte = c.after, now.Sub(began)
			x.begin(now)
			return res, nil
		}
		x.release(now)
		if ctx.Err() != nil { // the client left, or its deadline has passed
			return nil, ctx.Err()
		}
		failed = &upstreamError{model: x.model, connected: c.made, err: err}
		wait := t.backoff(attempt)
		if isBusy(err) {
			wait = 0 // nobody waits for another instance
		}
		if attempt == maxRetries || !mayRetry(x, c, err) || x.late(now.Add(wait)) {
			return nil, failed
		}
		t.logRetry(x, attempt, failed)
		avoid = i
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		x.retries++
		x.retrying += time.Since(began)
	}
}

// mayRetry says whether a request may be sent again after a failed attempt.
func mayRetry(x *exchange, c connection, err error) bool {
	if _, ok := errors.AsType[*unavailable](err); ok {
		return !x.route.Stores
	}
	return !c.made || !x.route.Stores && broken(err)
}

func (t *leasingTransport) logRetry(x *exchange, attempt int, err error) {
	if c := t.log.Check(zap.WarnLevel, "Transient connection error, trying again"); c != nil {
		c.Write(zap.String("model", x.model), zap.String("instance", x.instance),
			zap.Int("attempt", attempt+1), zap.Error(err))
	}
}

// backoff is the wait after an attempt, of which the first is number 0.
func (t *leasingTransport) backoff(attempt int) time.Duration {
	chance := rand.Float64
	if t.chance != nil {
		chance = t.chance
	}
	d := float64(firstBackoff)
	for range attempt {
		d *= backoffFactor
	}
	d *= 1 + backoffSpread*(2*chance()-1)
	return min(max(time.Duration(d), minBackoff), maxBackoff)
}

// Interface guards
var _ http.RoundTripper = (*leasingTransport)(nil)
