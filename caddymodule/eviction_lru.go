// This file owns the eviction module "lru".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func init() { caddy.RegisterModule(new(EvictionLRU)) }

// EvictionLRU has the model make room first that has been without a request for
// longest. Models that serve a request, that are `always_on` or that are within
// their `min_residency` are spared. It has no options.
type EvictionLRU struct{}

// CaddyModule returns the Caddy module information.
func (*EvictionLRU) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  evictionNamespace + ".lru",
		New: func() caddy.Module { return new(EvictionLRU) },
	}
}

// UnmarshalCaddyfile accepts the bare name. Syntax:
//
//	lru
func (*EvictionLRU) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return bareGuest(d) }

// Policy implements EvictionModule.
func (*EvictionLRU) Policy() scheduler.Policy { return scheduler.LRU{} }

// Interface guards
var (
	_ EvictionModule        = (*EvictionLRU)(nil)
	_ caddyfile.Unmarshaler = (*EvictionLRU)(nil)
)
