package vramman

// This file owns the names of adapters: they share the queue, the limits and the
// instances of the model that they are for, whose server knows them by their own
// names.

// Adapter says whether a name for which [Generation.Find] has found a model is that
// of an adapter of the model.
func (g *Generation) Adapter(name string) bool {
	if routes := g.routes.Load(); routes != nil && g.newest != nil {
		if _, own := (*routes)[name]; !own {
			if n := g.newest.Load(); n != nil {
				return n.adapters[name]
			}
		}
	}
	return g.adapters[name]
}

// adapters are the names of the adapters of all models; nil: there are none.
func (s *Spec) adapters() map[string]bool {
	var names map[string]bool
	for i := range s.Models {
		for _, a := range s.Models[i].Launch.LoRA {
			if names == nil {
				names = make(map[string]bool)
			}
			names[a.Name] = true
		}
	}
	return names
}
