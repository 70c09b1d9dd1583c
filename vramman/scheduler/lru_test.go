package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func TestLRU(t *testing.T) {
	lru := scheduler.LRU{}
	if lru.Name() != "lru" {
		t.Errorf("its name is %q", lru.Name())
	}
	elsewhere := start.In(time.FixedZone("elsewhere", 3600))
	for _, c := range []struct {
		name string
		a, b scheduler.Instance
		want bool
	}{
		{"used earlier", scheduler.Instance{ID: "z", LastUsed: ago(2)}, scheduler.Instance{ID: "a", LastUsed: ago(1)}, true},
		{"used later", scheduler.Instance{ID: "a", LastUsed: ago(1)}, scheduler.Instance{ID: "z", LastUsed: ago(2)}, false},
		{"at the same moment, by name", scheduler.Instance{ID: "a", LastUsed: start}, scheduler.Instance{ID: "b", LastUsed: elsewhere}, true},
		{"at the same moment, by name, the other way", scheduler.Instance{ID: "b", LastUsed: elsewhere}, scheduler.Instance{ID: "a", LastUsed: start}, false},
		{"itself", scheduler.Instance{ID: "a", LastUsed: start}, scheduler.Instance{ID: "a", LastUsed: start}, false},
		{"never used", scheduler.Instance{ID: "z"}, scheduler.Instance{ID: "a", LastUsed: start}, true},
	} {
		if got := lru.Less(&c.a, &c.b); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// The order of the instances in a State has no say in who goes first.
func TestOrderOfInstancesDoesNotMatter(t *testing.T) {
	forStates(t, 1500, func(t *testing.T, s *scheduler.State) {
		want := scheduler.Decide(s)
		if slices.ContainsFunc(want.Decisions, func(d scheduler.Decision) bool { return d.Kind == scheduler.Stop || d.Kind == scheduler.Sleep }) {
			return // of two that stop on one card, the state's first goes first
		}
		shuffled := clone(s)
		slices.Reverse(shuffled.Instances)
		if got := scheduler.Decide(shuffled); !slices.Equal(allWords(got), allWords(want)) {
			t.Fatalf("%q, the other way round %q", allWords(want), allWords(got))
		}
	})
}
