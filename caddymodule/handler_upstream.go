// This file owns the handler vllm_upstream: it passes an admitted request to an
// instance of its model, and the answer back.

package caddymodule

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// Upstream passes a request that vllm_admission let in to an instance of its
// model, and starts the model first if it does not run. Events of a stream are
// passed on at once, and taken from the server no faster than the client takes
// them. A client that leaves ends the request at the server too.
//
// An attempt that fails before the server has begun to answer is made again up to
// three times, on another instance where there is one: when the server could not be
// reached or broke off, and when it said 503. Requests that make a server store
// something are made again only if they cannot have reached it. A stream of events
// whose server breaks off or falls silent ends with an error event; any other
// answer is cut.
//
// The server sees neither the client's credentials nor its cookies; the client
// sees neither the server's name nor its address, and its errors without paths,
// URLs and addresses. `Server-Timing` tells where the time went.
//
// Without vllm_admission before it, the handler admits requests itself, with the
// standard limits on bodies.
type Upstream struct {
	Timeouts

	alone *Admission // for requests that nobody has admitted
	proxy *httputil.ReverseProxy
	log   *zap.Logger

	timeouts timeouts
}

// CaddyModule returns the Caddy module information.
func (*Upstream) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_upstream",
		New: func() caddy.Module { return new(Upstream) },
	}
}

// Provision prepares the handler. It does no I/O.
func (u *Upstream) Provision(ctx caddy.Context) error {
	if err := u.check(); err != nil {
		return err
	}
	u.alone = new(Admission)
	if err := u.alone.Provision(ctx); err != nil {
		return err
	}
	u.open(ctx.Logger())
	return nil
}

// open makes the proxy.
func (u *Upstream) open(log *zap.Logger) {
	u.log = log
	u.timeouts = u.inForce()
	u.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &leasingTransport{log: log, timeouts: u.timeouts},
		FlushInterval:  -1, // each event at once
		BufferPool:     new(copyBuffers),
		ModifyResponse: u.modifyResponse,
		ErrorHandler:   u.fail,
		// What the proxy logs by itself, the access log and this handler tell better.
		ErrorLog: debugLog(log),
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	x := exchangeOf(r.Context())
	if x == nil {
		return u.alone.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			u.pass(w, r, exchangeOf(r.Context()))
			return nil
		}))
	}
	u.pass(w, r, x)
	return nil
}

// pass proxies one request. The proxy panics with http.ErrAbortHandler when an
// answer cannot be finished, so that its connection is cut. Where the client is
// gone, the connection is cut without a panic, for the access log to have the
// request's duration.
func (u *Upstream) pass(w http.ResponseWriter, r *http.Request, x *exchange) {
	x.ctx, x.echoed, x.caller = r.Context(), echoRequestID(w, r), callerOf(r)
	if x.route.Socket {
		w = socketWriter{w, x}
	}
	defer func() {
		p := recover()
		if p != nil && x.outcome == "" {
			x.outcome = outcomeCut
			if gone(r.Context()) {
				x.outcome = outcomeGone
			}
		}
		x.end(time.Now())
		if x.outcome == outcomeCut {
			u.log.Warn("the server's answer broke off", zap.String("model", x.model),
				zap.String("instance", x.instance), zap.Error(x.broke))
		}
		err, _ := p.(error)
		switch {
		case p == nil:
		case x.outcome == outcomeGone && errors.Is(err, http.ErrAbortHandler) && cut(w) == nil:
		default:
			panic(p)
		}
	}()
	u.proxy.ServeHTTP(w, r)
}

// cut lets nothing more go to a client, so that it cannot take a part of an answer
// for the whole. A client that has only stopped sending counts as gone, but still
// reads: the end that the HTTP server writes after a handler must not reach it.
func cut(w http.ResponseWriter) error {
	return http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
}

// fail answers a request that no instance has begun to answer, or with what is not
// to be shown.
func (u *Upstream) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if gone(r.Context()) {
		x.outcome = outcomeGone
		w.WriteHeader(statusClientGone)
		return
	}
	e, logged := tellUpstream(x.model, err)
	if logged {
		u.log.Error("request failed at its server", zap.String("model", x.model),
			zap.String("instance", x.instance), zap.Int("retries", x.retries), zap.Error(err))
	}
	x.outcome = e.Code
	w.Header().Set("Server-Timing", x.serverTiming())
	openai.WriteError(w, x.route.Dialect, e)
}

// copyBuffers are what answers are copied through.
type copyBuffers struct{ pool sync.Pool }

// copyBuffer is large enough for a whole answer that is no stream, mostly, and
// small enough for a thousand streams.
type copyBuffer [16 << 10]byte

// Get implements httputil.BufferPool.
func (c *copyBuffers) Get() []byte {
	if b, ok := c.pool.Get().(*copyBuffer); ok {
		return b[:]
	}
	return new(copyBuffer)[:]
}

// Put implements httputil.BufferPool.
func (c *copyBuffers) Put(b []byte) { c.pool.Put((*copyBuffer)(b)) }

// Interface guards
var (
	_ caddy.Provisioner           = (*Upstream)(nil)
	_ caddyhttp.MiddlewareHandler = (*Upstream)(nil)
	_ httputil.BufferPool         = (*copyBuffers)(nil)
)
