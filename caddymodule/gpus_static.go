// This file owns the inventory module "static".

package caddymodule

import (
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/static"
)

func init() { caddy.RegisterModule(new(GPUsStatic)) }

// GPUsStatic is an inventory of real cards that are declared and not measured, for
// machines where nothing tells what they hold. What other programs use counts as
// nothing, and the VRAM of an instance counts as free when its server has ended.
type GPUsStatic struct {
	// The cards, in their order. At least one.
	GPUs []StaticGPU `json:"gpus,omitempty"`
}

// StaticGPU is a declared card.
type StaticGPU struct {
	// Its UUID, as `nvidia-smi -L` tells it: `GPU-…` or `MIG-…`.
	UUID string `json:"uuid,omitempty"`

	// How much VRAM it has, in bytes. Default: not known, and so the card takes one
	// model at a time.
	Memory int64 `json:"memory,omitempty"`

	// What it is called. Default: nothing.
	Name string `json:"name,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*GPUsStatic) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  gpusNamespace + ".static",
		New: func() caddy.Module { return new(GPUsStatic) },
	}
}

// UnmarshalCaddyfile reads the inventory's options. Syntax:
//
//	static {
//		gpu <uuid> [<size> [<name>]]
//	}
func (g *GPUsStatic) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, []string{"gpu"}, func(r *reader, word string) error {
		if word == "gpu" {
			return g.readGPU(r)
		}
		return r.unknown("static")
	}, g.check)
}

func (g *GPUsStatic) readGPU(r *reader) error {
	args := r.RemainingArgs()
	if len(args) < 1 || len(args) > 3 {
		return r.ArgErr()
	}
	card := StaticGPU{UUID: args[0]}
	if len(args) > 1 {
		memory, err := parseSize(args[1])
		if err != nil {
			return r.Errf("gpu: %w", err)
		}
		card.Memory = memory
	}
	if len(args) > 2 {
		card.Name = args[2]
	}
	r.tokens[place{"", "gpu", card.UUID}] = r.Token()
	g.GPUs = append(g.GPUs, card)
	return nil
}

func (g *GPUsStatic) check() error {
	if len(g.GPUs) == 0 {
		return configErrorf(at(place{}), "gpus static is without cards: add a line 'gpu <uuid> <size>' for each that 'nvidia-smi -L' shows")
	}
	for i, card := range g.GPUs {
		here := at(place{"", "gpu", card.UUID}, place{})
		switch {
		case !isName(card.UUID):
			return configErrorf(here, "%q cannot be a card's UUID: use letters, digits, '-', '_' and '.'", card.UUID)
		case slices.ContainsFunc(g.GPUs[:i], func(c StaticGPU) bool { return c.UUID == card.UUID }):
			return configErrorf(here, "the card %s is defined twice", card.UUID)
		case card.Memory < leastVRAM && card.Memory != 0:
			return configErrorf(here, "the card %s: a memory of %d bytes is too little", card.UUID, card.Memory)
		case strings.ContainsAny(card.Name, "\n\x00"):
			return configErrorf(here, "the card %s: %q cannot be its name", card.UUID, card.Name)
		}
	}
	return nil
}

// Provision checks the configuration.
func (g *GPUsStatic) Provision(caddy.Context) error { return g.check() }

// GPUSpec implements GPUModule.
func (g *GPUsStatic) GPUSpec(string) gpu.Spec {
	spec := new(static.Spec)
	for _, card := range g.GPUs {
		spec.Cards = append(spec.Cards, static.Card{UUID: card.UUID, Name: card.Name, Total: card.Memory})
	}
	return spec
}

// Interface guards
var (
	_ GPUModule             = (*GPUsStatic)(nil)
	_ caddy.Provisioner     = (*GPUsStatic)(nil)
	_ caddyfile.Unmarshaler = (*GPUsStatic)(nil)
)
