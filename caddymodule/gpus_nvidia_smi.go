// This file owns the inventory module "nvidia_smi".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/nvidiasmi"
)

func init() { caddy.RegisterModule(new(GPUsNvidiaSMI)) }

// GPUsNvidiaSMI is the inventory of the machine's NVIDIA cards, as the command
// `nvidia-smi` tells it. It is slower than `nvml`, and leaves cards out that are in
// slices (MIG), since the command has no figures for slices.
type GPUsNvidiaSMI struct {
	// The command, as a path or as a name on the PATH. May have placeholders.
	// Default: `nvidia-smi`.
	Command string `json:"command,omitempty"`

	command string // with placeholders resolved
}

// CaddyModule returns the Caddy module information.
func (*GPUsNvidiaSMI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  gpusNamespace + ".nvidia_smi",
		New: func() caddy.Module { return new(GPUsNvidiaSMI) },
	}
}

// UnmarshalCaddyfile reads the inventory's options. Syntax:
//
//	nvidia_smi {
//		command <path>
//	}
func (g *GPUsNvidiaSMI) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, nil, func(r *reader, word string) error {
		if word == "command" {
			return r.text(&g.Command)
		}
		return r.unknown("nvidia_smi")
	}, func() error { return nil })
}

// Provision resolves placeholders.
func (g *GPUsNvidiaSMI) Provision(caddy.Context) (err error) {
	g.command, err = resolve("command", g.Command)
	return err
}

// GPUSpec implements GPUModule.
func (g *GPUsNvidiaSMI) GPUSpec(string) gpu.Spec { return &nvidiasmi.Spec{Command: g.command} }

// Interface guards
var (
	_ GPUModule             = (*GPUsNvidiaSMI)(nil)
	_ caddy.Provisioner     = (*GPUsNvidiaSMI)(nil)
	_ caddyfile.Unmarshaler = (*GPUsNvidiaSMI)(nil)
)
