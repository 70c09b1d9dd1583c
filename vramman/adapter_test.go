package vramman

import (
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// An adapter's name leads to its model, and is told from the model's own names,
// also by a configuration that is older than the adapter.
func TestAdaptersLeadToTheirModel(t *testing.T) {
	s := newScript(t, 16)
	plain, with := scriptModel("a", 8), scriptModel("a", 8)
	with.Aliases = []string{"alias"}
	with.Launch.LoRA = []server.LoRA{{Name: "sql", Path: "org/sql"}}
	old := s.load(scriptSpec(plain))
	if _, err := old.Find(t.Context(), "sql"); err == nil {
		t.Error("an adapter is found that no configuration has")
	}
	newer := s.load(scriptSpec(with))
	for _, g := range []*Generation{old, newer} {
		for name, adapter := range map[string]bool{"a": false, "alias": false, "sql": true} {
			m, err := g.Find(t.Context(), name)
			if err != nil || m.Name() != "a" || g.Adapter(name) != adapter {
				t.Errorf("%s: %v, an adapter: %t", name, err, g.Adapter(name))
			}
		}
	}
	if plain, with := scriptSpec(plain), scriptSpec(with); plain.launchHash(&plain.Models[0]) == with.launchHash(&with.Models[0]) {
		t.Error("a server without the adapter may serve it")
	}
}
