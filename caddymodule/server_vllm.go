// This file owns the server module "vllm".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
	"github.com/vllm-gateway/vllm-gateway/vramman/server/vllm"
)

func init() { caddy.RegisterModule(new(ServerVLLM)) }

// ServerVLLM is vLLM's OpenAI-compatible server, `vllm serve`. It has no options of
// its own: a model's options are named as vLLM's flags where they mean the same,
// and `args` takes all others.
type ServerVLLM struct{}

// CaddyModule returns the Caddy module information.
func (*ServerVLLM) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  serverNamespace + ".vllm",
		New: func() caddy.Module { return new(ServerVLLM) },
	}
}

// UnmarshalCaddyfile accepts the bare name. Syntax:
//
//	vllm
func (*ServerVLLM) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return bareGuest(d) }

// Server implements ServerModule.
func (*ServerVLLM) Server() server.Server { return vllm.Server{} }

// Instead implements ServerModule.
func (*ServerVLLM) Instead(flag string) string { return vllm.Instead(flag) }

// Interface guards
var (
	_ ServerModule          = (*ServerVLLM)(nil)
	_ caddyfile.Unmarshaler = (*ServerVLLM)(nil)
)
