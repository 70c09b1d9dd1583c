package vramman

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// request has a request come for a model, whatever state that is in, and go.
func (s *script) request(name string) {
	var t Ticket
	if err := s.o.models[name].Admit(context.Background(), s.now, &t); err != nil {
		s.t.Fatal(err)
	}
	if i := s.o.models[name].lease(nil); i != nil {
		Lease{i}.Release(s.now)
	}
	t.Return(s.now)
	s.after(time.Second)
}

// evict has room made for a model on a full card, and returns who made it.
func (s *script) evict(g *Generation, name string) *Instance {
	s.ask(g, name)
	s.fetchAll()
	s.read()
	if len(s.stops) == 0 {
		s.t.Fatalf("nobody makes room: %+v", s.o.decisions)
	}
	return s.stops[len(s.stops)-1]
}

// history has a model used often, and then another once, so that the policies
// differ about who is to go.
func history(s *script) (spec *Spec, g *Generation) {
	spec = scriptSpec(scriptModel("often", 8), scriptModel("once", 8), scriptModel("next", 8))
	g = s.load(spec)
	s.openAll()
	for _, name := range []string{"often", "once"} {
		s.run(g, name).Release(s.now)
	}
	for range 30 {
		s.request("often")
		s.after(2 * time.Minute)
	}
	s.request("once")
	s.after(time.Minute)
	return spec, g
}

// A policy may come with a reload: what was learned before it is there.
func TestUsageIsLearnedWhateverThePolicy(t *testing.T) {
	t.Run("lru", func(t *testing.T) {
		s := newScript(t, 16)
		_, g := history(s)
		if v := s.evict(g, "next"); v.model.name != "often" {
			t.Errorf("lru evicts %s", v.id)
		}
	})
	t.Run("cost", func(t *testing.T) {
		s := newScript(t, 16)
		spec, _ := history(s)
		next := *spec
		next.Eviction = scheduler.Cost{}
		if v := s.evict(s.load(&next), "next"); v.model.name != "once" {
			t.Errorf("cost evicts %s", v.id)
		}
		for _, d := range s.o.decisions {
			if d.Action == "evict" && !strings.Contains(d.Reason, "chosen by cost, loads in ") {
				t.Errorf("the reason is %q", d.Reason)
			}
		}
	})
}

// What is known of a model outlives its instances, and its configuration.
func TestUsageOutlivesInstancesAndConfigurations(t *testing.T) {
	s := newScript(t, 16)
	spec, _ := history(s)
	known := func() (time.Duration, float64) { return s.o.usage.LoadTime("often"), s.o.usage.Likelihood("often") }
	load, likelihood := known()
	if likelihood < 0.5 {
		t.Fatalf("it is likely by %g", likelihood)
	}
	// Time that passes without a use is none that anything is learned in.
	for _, models := range [][]ModelSpec{spec.Models[1:], spec.Models} {
		next := *spec
		next.Models = models
		old := s.o.generations[0].g
		s.load(&next)
		s.tell(withdrawEvent{g: old})
		s.after(time.Minute)
		if got := s.o.record("often") != nil && s.o.record("often").spec != nil; got != (len(models) == 3) {
			t.Fatalf("it is configured: %v", got)
		}
		if l, p := known(); l != load || p != likelihood {
			t.Errorf("it loads in %v and is likely by %g; before it was %v and %g", l, p, load, likelihood)
		}
	}
	if n := len(s.stops); n != 1 || s.stops[0].model.name != "often" {
		t.Fatalf("%d instances were stopped, not its own", n)
	}
}

// A request that nobody could serve is a use, too: the model was asked for.
func TestRefusedRequestsCount(t *testing.T) {
	s := newScript(t, 16)
	s.load(scriptSpec(scriptModel("a", 8), scriptModel("b", 8)))
	s.openAll()
	s.o.models["a"].setLimits(0, 0)
	if err := s.o.models["a"].Admit(context.Background(), s.now, new(Ticket)); err == nil {
		t.Fatal("it was let in")
	}
	s.after(time.Second)
	if a, b := s.o.usage.Likelihood("a"), s.o.usage.Likelihood("b"); a <= b {
		t.Errorf("asked for, it is likely by %g; never asked for, by %g", a, b)
	}
}
