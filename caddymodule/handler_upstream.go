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
// passed on at once. A client that leaves ends the request at the server too.
//
// An attempt that fails before the server has begun to answer is made again up to
// three times, on another instance where there is one. A stream of events whose
// server breaks off ends with an error event.
//
// The server sees neither the client's credentials nor its cookies; the client
// sees neither the server's name nor its address. `Server-Timing` tells where the
// time went.
//
// Without vllm_admission before it, the handler admits requests itself, with the
// standard limits on bodies.
type Upstream struct {
	alone *Admission // for requests that nobody has admitted
	proxy *httputil.ReverseProxy
	log   *zap.Logger
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
	u.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      &leasingTransport{log: log},
		FlushInterval:  -1, // each event at once
		BufferPool:     new(copyBuffers),
		ModifyResponse: modifyResponse,
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
// answer cannot be finished, so that its connection is cut; where the client is
// gone there is nothing to cut, and the request ends as others do, for the access
// log to have its duration.
func (u *Upstream) pass(w http.ResponseWriter, r *http.Request, x *exchange) {
	defer func() {
		p := recover()
		if p != nil && x.outcome == "" {
			x.outcome = outcomeCut
			if gone(r.Context()) {
				x.outcome = outcomeGone
			}
		}
		x.end(time.Now())
		err, _ := p.(error)
		if p != nil && (!errors.Is(err, http.ErrAbortHandler) || x.outcome != outcomeGone) {
			panic(p)
		}
	}()
	u.proxy.ServeHTTP(w, r)
}

// fail answers a request that no instance has begun to answer.
func (u *Upstream) fail(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r.Context())
	if gone(r.Context()) {
		x.outcome = outcomeGone
		w.WriteHeader(statusClientGone)
		return
	}
	e := refusal(err)
	if _, ok := errors.AsType[*upstreamError](err); ok || errors.Is(err, errKeyRefused) || errors.Is(err, errProtocol) {
		e = badGateway(x.model)
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
