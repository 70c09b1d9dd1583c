// This file owns the pools: named sets of cards.

package caddymodule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// standardBudget is the share of a card that is used where nothing else is said;
// vLLM's own default for --gpu-memory-utilization.
const standardBudget = 0.92

// everyCard is the name of the pool of all cards that there is when none is declared.
const everyCard = "all"

// How instances share a pool's cards.
const (
	placeByBudget    = "budget"
	placeOnWholeCard = "whole_card"
)

// Pool is a named set of cards.
type Pool struct {
	// The pool's name, by which models choose it.
	Name string `json:"name,omitempty"`

	// The UUIDs of the pool's cards, in the order in which they are tried. At
	// least one; a card belongs to one pool only.
	GPUs []string `json:"gpus,omitempty"`

	// The share of each card that may be used, above 0 and at most 1. Default: the
	// top level's `budget`.
	Budget float64 `json:"budget,omitempty"`

	// How instances share a card: `budget` puts as many on it as fit,
	// `whole_card` gives each the whole budget of its cards, but for models that
	// `colocate`. Default: `budget`.
	Placement string `json:"placement,omitempty"`
}

func (p *Pool) section() string { return "pool " + p.Name }

// read reads a pool's block.
func (p *Pool) read(r *reader) error {
	return r.block(p.section(), []string{"gpu"}, func(word string) error {
		switch word {
		case "gpu":
			return r.list(&p.GPUs)
		case "budget":
			return r.share(&p.Budget)
		case "placement":
			return r.text(&p.Placement)
		}
		return r.unknown("pool")
	})
}

// checkPools looks for what is wrong with the pools.
func (a *App) checkPools() error {
	if !isShare(a.Budget) {
		return configErrorf(at(place{"", "budget", ""}), "budget must be above 0 and at most 1")
	}
	names := make(map[string]bool)
	owner := make(map[string]*Pool)
	for _, p := range a.Pools {
		section := p.section()
		switch {
		case !isName(p.Name):
			return configErrorf(at(place{"", "pool", ""}), "%q cannot be a pool's name: use letters, digits, '-', '_' and '.'", p.Name)
		case names[p.Name]:
			return configErrorf(at(place{section, "", ""}), "%s is defined twice", section)
		case len(p.GPUs) == 0:
			return configErrorf(at(place{section, "", ""}), "%s is without GPUs: add a line 'gpu <uuid>' for each of its cards", section)
		case !isShare(p.Budget):
			return configErrorf(at(place{section, "budget", ""}), "%s: budget must be above 0 and at most 1", section)
		case !slices.Contains([]string{"", placeByBudget, placeOnWholeCard}, p.Placement):
			return configErrorf(at(place{section, "placement", ""}), "%s: placement is '%s', but must be '%s' or '%s'",
				section, p.Placement, placeByBudget, placeOnWholeCard)
		}
		names[p.Name] = true
		for _, uuid := range p.GPUs {
			here := at(place{section, "gpu", uuid}, place{section, "", ""})
			switch other := owner[uuid]; {
			case !isUUID(uuid):
				return configErrorf(here, "%s: %q cannot be a GPU's UUID", section, uuid)
			case other == p:
				return configErrorf(here, "%s: GPU %s stands in it twice", section, uuid)
			case other != nil:
				return configErrorf(here, "%s: GPU %s is in %s already; a card belongs to one pool only", section, uuid, other.section())
			}
			owner[uuid] = p
		}
	}
	return nil
}

// pool finds a declared pool; nil: there is none of this name.
func (a *App) pool(name string) *Pool {
	for _, p := range a.Pools {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// poolSpecs are the pools as the manager sees them.
func (a *App) poolSpecs() []vramman.Pool {
	budget := cmp.Or(a.Budget, standardBudget)
	if len(a.Pools) == 0 {
		return []vramman.Pool{{Name: everyCard, Budget: budget}}
	}
	specs := make([]vramman.Pool, len(a.Pools))
	for i, p := range a.Pools {
		specs[i] = vramman.Pool{
			Name:      p.Name,
			GPUs:      slices.Clone(p.GPUs),
			Budget:    cmp.Or(p.Budget, budget),
			WholeCard: p.Placement == placeOnWholeCard,
		}
	}
	return specs
}

// isShare says whether a share is left out, or above 0 and at most 1.
func isShare(x float64) bool { return x == 0 || x > 0 && x <= 1 }

// isName says whether a name can stand in file names, labels and messages.
func isName(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '.' && s[0] != '-' && strings.Trim(s, nameLetters) == ""
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
