// This file owns the handler that does nothing but have a request wait: what a
// waiting request costs in Caddy itself.

package main

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(waitHandler{})
	httpcaddyfile.RegisterHandlerDirective("bench_wait", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return waitHandler{}, nil
	})
}

// waitHandler reads a request's body into memory of just its size, as whoever wants
// to send it on must, and waits until the client leaves.
type waitHandler struct{}

// waiting is how many requests do so now.
var waiting atomic.Int64

// CaddyModule returns the Caddy module information.
func (waitHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.bench_wait", New: func() caddy.Module { return waitHandler{} }}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (waitHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	body := make([]byte, max(0, r.ContentLength))
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("reading the body: %w", err))
	}
	waiting.Add(1)
	defer waiting.Add(-1)
	<-r.Context().Done()
	_, _ = w.Write(body) // it was kept until here
	return nil
}

func waitingCounts() reply { return reply{Waiting: waiting.Load()} }
