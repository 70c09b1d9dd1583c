// This file owns the inventory module "nvml".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/nvml"
)

func init() { caddy.RegisterModule(new(GPUsNVML)) }

// GPUsNVML is the inventory of the machine's NVIDIA cards, as the driver's library
// NVML tells it. Slices of cards (MIG) are cards of their own. A driver that is
// absent, dies or comes back stops no site: models say that they have no cards until
// it is there.
//
// A Caddy that was built without cgo or without the tag `nvml` asks the command
// `nvidia-smi` instead, and logs a warning.
type GPUsNVML struct {
	// The library, as a path or as a name among the system's libraries. May have
	// placeholders. Once it is loaded, another takes a restart. Default:
	// `libnvidia-ml.so.1`.
	Library string `json:"library,omitempty"`

	library string // with placeholders resolved
}

// CaddyModule returns the Caddy module information.
func (*GPUsNVML) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  gpusNamespace + ".nvml",
		New: func() caddy.Module { return new(GPUsNVML) },
	}
}

// UnmarshalCaddyfile reads the inventory's options. Syntax:
//
//	nvml {
//		library <path>
//	}
func (g *GPUsNVML) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, nil, func(r *reader, word string) error {
		if word == "library" {
			return r.text(&g.Library)
		}
		return r.unknown("nvml")
	}, func() error { return nil })
}

// Provision resolves placeholders.
func (g *GPUsNVML) Provision(caddy.Context) (err error) {
	g.library, err = resolve("library", g.Library)
	return err
}

// GPUSpec implements GPUModule.
func (g *GPUsNVML) GPUSpec(string) gpu.Spec { return &nvml.Spec{Library: g.library} }

// Interface guards
var (
	_ GPUModule             = (*GPUsNVML)(nil)
	_ caddy.Provisioner     = (*GPUsNVML)(nil)
	_ caddyfile.Unmarshaler = (*GPUsNVML)(nil)
)
