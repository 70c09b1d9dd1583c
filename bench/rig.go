// This file owns what the measurements within this process run on: a Caddy without
// sites that has the gateway's models, and its handlers.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// rig is one loaded configuration.
type rig struct {
	generation *vramman.Generation
	model      *vramman.Model
	admission  caddyhttp.MiddlewareHandler
	upstream   caddyhttp.MiddlewareHandler
}

// newRig loads a configuration with so many models, of which one is ready, and with
// a log of the level that goes nowhere. It takes the place of the rig before.
func newRig(dir, level string, models int) (*rig, error) {
	if err := loadCaddyfile(partsFile(dir, level, models)); err != nil {
		return nil, err
	}
	ctx := caddy.ActiveContext()
	app, err := ctx.App("vramman")
	if err != nil {
		return nil, err
	}
	r := &rig{generation: app.(interface{ Generation() *vramman.Generation }).Generation()}
	if r.admission, err = handler(ctx, "vllm_admission"); err != nil {
		return nil, err
	}
	if r.upstream, err = handler(ctx, "vllm_upstream"); err != nil {
		return nil, err
	}
	if r.model, err = r.generation.Find(ctx, benchModel); err != nil {
		return nil, err
	}
	// The first request has the model loaded.
	var t vramman.Ticket
	return r, r.book(ctx, &t)
}

func handler(ctx caddy.Context, name string) (caddyhttp.MiddlewareHandler, error) {
	module, err := ctx.LoadModuleByID("http.handlers."+name, nil)
	if err != nil {
		return nil, fmt.Errorf("making the handler %s: %w", name, err)
	}
	return module.(caddyhttp.MiddlewareHandler), nil
}

// exchange is a request and what its answer is written to, both used again and
// again, so that what is measured is the handlers' own.
type exchange struct {
	request *http.Request
	body    resettable
	writer  discardWriter
}

// newExchange makes a request as Caddy hands it to its handlers.
func newExchange(body []byte) *exchange {
	x := &exchange{body: resettable{content: body}, writer: discardWriter{header: http.Header{}}}
	ctx := context.WithValue(context.Background(), caddyhttp.VarsCtxKey, map[string]any{
		caddyhttp.ClientIPVarKey: "127.0.0.1", caddyhttp.TrustedProxyVarKey: false,
	})
	ctx = context.WithValue(ctx, caddyhttp.ExtraLogFieldsCtxKey, new(caddyhttp.ExtraLogFields))
	ctx = context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	x.request = (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: "/v1/chat/completions"}, RequestURI: "/v1/chat/completions",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "llm.example.com", RemoteAddr: "127.0.0.1:40000",
		Header: http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json"},
			"User-Agent": {"bench"}, "Authorization": {"Bearer unused"},
		},
		ContentLength: int64(len(body)),
	}).WithContext(ctx)
	return x
}

// reset makes the request new.
func (x *exchange) reset() {
	x.body.Reset(x.body.content)
	x.request.Body = &x.body
	clear(x.writer.header)
	x.writer.status = 0
}

var errNotServed = errors.New("a request of the measurement was not served")

// admit sends the request through a rig's admission to the next handler.
func (x *exchange) admit(r *rig, next caddyhttp.Handler) error {
	x.reset()
	if err := r.admission.ServeHTTP(&x.writer, x.request, next); err != nil {
		return err
	}
	if x.writer.status != 0 && x.writer.status != http.StatusOK {
		return fmt.Errorf("%w: status %d", errNotServed, x.writer.status)
	}
	return nil
}

// serveNothing is a next handler that does nothing.
var serveNothing = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })

// pass is a next handler that passes the request to a rig's server.
func (r *rig) pass() caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, req *http.Request) error {
		return r.upstream.ServeHTTP(w, req, nil)
	})
}

// standardProxy is the standard library's proxy, set up as the gateway's, over
// connections of the same kind.
func standardProxy() *httputil.ReverseProxy {
	to := &url.URL{Scheme: "http", Host: "standard"}
	return &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
		Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return newScriptedConn(), nil
		}},
		FlushInterval: -1,
		BufferPool:    new(copyBuffers),
	}
}

// copyBuffers are what the standard proxy copies answers through, as the gateway's
// does: without them it would mostly be busy with the memory of its buffers.
type copyBuffers struct{ pool sync.Pool }

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

// resettable is a request's body.
type resettable struct {
	bytes.Reader
	content []byte
}

// Close implements io.Closer.
func (*resettable) Close() error { return nil }

// discardWriter takes an answer and keeps its status.
type discardWriter struct {
	header http.Header
	status int
}

// Header implements http.ResponseWriter.
func (w *discardWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *discardWriter) WriteHeader(status int) { w.status = status }

// Write implements http.ResponseWriter.
func (w *discardWriter) Write(b []byte) (int, error) { return len(b), nil }

// Flush implements http.Flusher.
func (*discardWriter) Flush() {}
