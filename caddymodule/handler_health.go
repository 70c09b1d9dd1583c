// This file owns the handler vllm_health: whether the gateway serves.

package caddymodule

import (
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// healthPath is where the gateway tells that it serves.
const healthPath = "/health"

const healthAnswer = `{"status":"ok"}`

// Health answers GET /health with 200 for as long as the gateway serves, whatever
// its models do. Other requests go to the next handler.
type Health struct{}

// CaddyModule returns the Caddy module information.
func (Health) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_health",
		New: func() caddy.Module { return new(Health) },
	}
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (Health) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case r.URL.EscapedPath() != healthPath:
		return next.ServeHTTP(w, r)
	case !reads(r):
		openai.WriteError(w, openai.DialectOpenAI, openai.MethodNotAllowed(http.MethodGet))
	default:
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(healthAnswer)))
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(healthAnswer))
	}
	return nil
}

// Interface guards
var _ caddyhttp.MiddlewareHandler = Health{}
