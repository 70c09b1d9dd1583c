// This file owns the inventory module "simulated".

package caddymodule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/simulated"
)

func init() { caddy.RegisterModule(new(GPUsSimulated)) }

// GPUsSimulated is an inventory of cards that are declared, not found: for
// demonstrations and tests on machines without a GPU. A card is a folder in which
// each stand-in server notes what it uses.
type GPUsSimulated struct {
	// The folder that stands for the cards. May have placeholders. Default: one for
	// the user and the gateway's name, below the system's folder for temporary
	// files.
	Folder string `json:"folder,omitempty"`

	// The cards, in their order. At least one.
	GPUs []SimulatedGPU `json:"gpus,omitempty"`

	folder string // with placeholders resolved
}

// SimulatedGPU is a declared card.
type SimulatedGPU struct {
	// Its UUID, as real ones are named: `GPU-…`.
	UUID string `json:"uuid,omitempty"`

	// How much VRAM it has, in bytes.
	Memory int64 `json:"memory,omitempty"`

	// What it is called. Default: `simulated`.
	Name string `json:"name,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*GPUsSimulated) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  gpusNamespace + ".simulated",
		New: func() caddy.Module { return new(GPUsSimulated) },
	}
}

// UnmarshalCaddyfile reads the inventory's options. Syntax:
//
//	simulated {
//		folder <path>
//		gpu    <uuid> <size> [<name>]
//	}
func (g *GPUsSimulated) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, []string{"gpu"}, func(r *reader, word string) error {
		switch word {
		case "folder":
			return r.text(&g.Folder)
		case "gpu":
			return g.readGPU(r)
		}
		return r.unknown("simulated")
	}, g.check)
}

func (g *GPUsSimulated) readGPU(r *reader) error {
	var card SimulatedGPU
	var size string
	switch args := r.RemainingArgs(); len(args) {
	case 3:
		card.Name = args[2]
		fallthrough
	case 2:
		card.UUID, size = args[0], args[1]
	default:
		return r.ArgErr()
	}
	memory, err := parseSize(size)
	if err != nil {
		return r.Errf("gpu: %w", err)
	}
	card.Memory = memory
	r.tokens[place{"", "gpu", card.UUID}] = r.Token()
	g.GPUs = append(g.GPUs, card)
	return nil
}

func (g *GPUsSimulated) check() error {
	if len(g.GPUs) == 0 {
		return configErrorf(at(place{}), "gpus simulated is without cards: add a line 'gpu <uuid> <size>' for each")
	}
	for i, card := range g.GPUs {
		here := at(place{"", "gpu", card.UUID}, place{})
		switch {
		case !isName(card.UUID):
			return configErrorf(here, "%q cannot be a card's UUID: use letters, digits, '-', '_' and '.'", card.UUID)
		case slices.ContainsFunc(g.GPUs[:i], func(c SimulatedGPU) bool { return c.UUID == card.UUID }):
			return configErrorf(here, "the card %s is defined twice", card.UUID)
		case card.Memory < leastVRAM:
			return configErrorf(here, "the card %s: a memory of %d bytes is too little", card.UUID, card.Memory)
		case strings.ContainsAny(card.Name, "\n\x00"):
			return configErrorf(here, "the card %s: %q cannot be its name", card.UUID, card.Name)
		}
	}
	return nil
}

// Provision checks the configuration and resolves its placeholders.
func (g *GPUsSimulated) Provision(caddy.Context) error {
	if err := g.check(); err != nil {
		return err
	}
	var err error
	g.folder, err = resolve("folder", g.Folder)
	return err
}

// GPUSpec implements GPUModule.
func (g *GPUsSimulated) GPUSpec(gateway string) gpu.Spec {
	spec := &simulated.Spec{Folder: cmp.Or(g.folder, simulated.DefaultFolder(gateway))}
	for _, card := range g.GPUs {
		spec.Cards = append(spec.Cards, simulated.Card{UUID: card.UUID, Name: card.Name, Total: card.Memory})
	}
	return spec
}

// Interface guards
var (
	_ GPUModule             = (*GPUsSimulated)(nil)
	_ caddy.Provisioner     = (*GPUsSimulated)(nil)
	_ caddyfile.Unmarshaler = (*GPUsSimulated)(nil)
)
