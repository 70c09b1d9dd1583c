// This file owns the handler vllm_status: what the gateway is doing, for its
// operators.

package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// statusPath is where the gateway's status is told.
const statusPath = "/gateway/status"

// Who is told the status.
const (
	statusLocal  = "local"
	statusPublic = "public"
)

// Status answers GET /gateway/status with a picture of the gateway as JSON: its
// models, instances and GPUs with what is charged, foreign and free, its queues
// with depth, limits and refusals, the latest decisions with their reasons, the
// log level and the versions. Other requests go to the next handler.
type Status struct {
	// Who is answered: `local`, that is clients with a loopback or private address
	// and those of a unix socket; or `public`, that is everybody. A client whose
	// request came through a proxy that Caddy does not trust is not local. Who has an
	// API key with the mark `admin` is answered wherever the request comes from.
	// Default: `local`.
	Audience string `json:"audience,omitempty"`

	app *App
	log *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Status) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_status",
		New: func() caddy.Module { return new(Status) },
	}
}

// Provision prepares the handler.
func (s *Status) Provision(ctx caddy.Context) (err error) {
	if s.Audience == "" {
		s.Audience = statusLocal
	}
	s.log = ctx.Logger()
	s.app, err = appOf(ctx)
	return err
}

// Validate checks the audience.
func (s *Status) Validate() error {
	if s.Audience != statusLocal && s.Audience != statusPublic {
		return fmt.Errorf("the audience of the status is '%s', but must be '%s' or '%s'", s.Audience, statusLocal, statusPublic)
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (s *Status) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case r.URL.EscapedPath() != statusPath:
		return next.ServeHTTP(w, r)
	case !reads(r):
		openai.WriteError(w, openai.DialectOpenAI, openai.MethodNotAllowed(http.MethodGet))
	case s.Audience == statusLocal && !isAdmin(r) && !isLocal(r):
		openai.WriteError(w, openai.DialectOpenAI, openai.Error{
			Status:  http.StatusForbidden,
			Code:    codeForbidden,
			Message: "the status is told to local clients and to administrators only",
			NoRetry: true,
		})
	default:
		s.tell(w, r)
	}
	return nil
}

// statusAnswer is the status with what the manager does not know.
type statusAnswer struct {
	Version  versions `json:"version"`
	LogLevel string   `json:"log_level"`
	*vramman.Status
}

type versions struct {
	Gateway string `json:"gateway"`
	Caddy   string `json:"caddy"`
}

func (s *Status) tell(w http.ResponseWriter, r *http.Request) {
	status, err := s.app.Manager().Status(r.Context())
	switch {
	case gone(r.Context()):
		w.WriteHeader(statusClientGone)
		return
	case err != nil:
		openai.WriteError(w, openai.DialectOpenAI, refusal(err))
		return
	}
	body, err := json.Marshal(statusAnswer{gatewayVersions(), s.log.Level().String(), status})
	if err != nil {
		s.log.Error("telling the status", zap.Error(err))
		openai.WriteError(w, openai.DialectOpenAI, openai.AsError(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n'))
}

// isAdmin says whether who sends a request may steer the gateway.
func isAdmin(r *http.Request) bool {
	caller := callerOf(r)
	return caller != nil && caller.Admin
}

// isLocal says whether a client is on this machine or in its private network. An
// address counts only if it is the client's own: a request that was forwarded by
// a proxy that Caddy was not told to trust comes from that proxy's address,
// whoever sent it.
func isLocal(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	if !trusted {
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
			if _, forwarded := r.Header[name]; forwarded {
				return false
			}
		}
		if r.RemoteAddr == "@" { // a unix socket
			return true
		}
	}
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return false
	}
	addr = addr.Unmap().WithZone("")
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
}

// gatewayVersions are those of this module and of Caddy, as built.
func gatewayVersions() versions {
	_, full := caddy.Version()
	v := versions{Gateway: "unknown", Caddy: full}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath {
			v.Gateway = m.Version
		}
	}
	return v
}

// modulePath is this module's path.
const modulePath = "github.com/vllm-gateway/vllm-gateway"

// Interface guards
var (
	_ caddy.Provisioner           = (*Status)(nil)
	_ caddy.Validator             = (*Status)(nil)
	_ caddyhttp.MiddlewareHandler = (*Status)(nil)
)
