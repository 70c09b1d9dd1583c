// This file owns the eviction module "cost".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func init() { caddy.RegisterModule(new(EvictionCost)) }

// EvictionCost has the model make room first whose absence is expected to cost
// least: the seconds that it takes to load, times the likelihood that it is asked
// for next, per GiB that it frees. Both are learned while the gateway runs, and so
// is how fast what was learned is forgotten. Models that serve a request, that are
// `always_on` or that are within their `min_residency` are spared. It has no
// options.
type EvictionCost struct{}

// CaddyModule returns the Caddy module information.
func (*EvictionCost) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  evictionNamespace + ".cost",
		New: func() caddy.Module { return new(EvictionCost) },
	}
}

// UnmarshalCaddyfile accepts the bare name. Syntax:
//
//	cost
func (*EvictionCost) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return bareGuest(d) }

// Policy implements EvictionModule.
func (*EvictionCost) Policy() scheduler.Policy { return scheduler.Cost{} }

// Interface guards
var (
	_ EvictionModule        = (*EvictionCost)(nil)
	_ caddyfile.Unmarshaler = (*EvictionCost)(nil)
)
