package vramman

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Generation is one loaded configuration. It is made before it is handed to
// the manager, so that request handlers can hold it while their apps start in
// any order: until [Manager.Apply], requests wait.
type Generation struct {
	spec *Spec
	// routes maps names and aliases to models; set once by Apply, or to an
	// empty map by Withdraw.
	routes atomic.Pointer[map[string]*Model]
	ready  chan struct{} // closed when routes is set
	// newest is the generation in force; set before routes is.
	newest *atomic.Pointer[Generation]

	adapters map[string]bool // the names of adapters
}

// NewGeneration makes a generation of a spec. It does no I/O.
func NewGeneration(spec *Spec) *Generation {
	return &Generation{spec: spec, ready: make(chan struct{}), adapters: spec.adapters()}
}

// Spec is what the generation was made of.
func (g *Generation) Spec() *Spec { return g.spec }

// Find returns the model with this name or alias, or with an adapter of this name
// (see [Generation.Adapter]). It returns an [*Error] with
// [CodeUnknownModel] when there is none, and waits for the generation to be
// applied first, or for ctx. A name that is new in the generation in force is
// found by older ones too: connections outlive a reload, and so the handlers
// of the old configuration go on getting requests for a while.
func (g *Generation) Find(ctx context.Context, name string) (*Model, error) {
	routes := g.routes.Load()
	if routes == nil {
		select {
		case <-g.ready:
			routes = g.routes.Load()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m, ok := (*routes)[name]; ok {
		return m, nil
	}
	if g.newest != nil {
		if n := g.newest.Load(); n != nil && n != g {
			if m, ok := (*n.routes.Load())[name]; ok {
				return m, nil
			}
		}
	}
	return nil, &Error{Code: CodeUnknownModel, Message: fmt.Sprintf("the model %q does not exist", name), NoRetry: true}
}

// setRoutes opens the generation to requests.
func (g *Generation) setRoutes(models map[string]*Model) {
	routes := make(map[string]*Model, len(models))
	for i := range g.spec.Models {
		ms := &g.spec.Models[i]
		m, ok := models[ms.Name]
		if !ok {
			continue
		}
		routes[ms.Name] = m
		for _, a := range ms.Aliases {
			routes[a] = m
		}
		for _, a := range ms.Launch.LoRA {
			routes[a.Name] = m
		}
	}
	if g.routes.CompareAndSwap(nil, &routes) {
		close(g.ready)
	}
}
