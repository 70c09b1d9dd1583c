package vramman

import (
	"fmt"
	"math"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// TestEveryModelGetsItsTurn has more models than fit, all of them always busy, half
// of them such that can sleep, and checks invariant 6: the first in line waits no longer than its turn.
func TestEveryModelGetsItsTurn(t *testing.T) {
	seeds := uint64(20)
	if raceEnabled || testing.Short() {
		seeds = 2
	}
	naps := 0
	for seed := uint64(1); seed <= seeds; seed++ {
		w := newWorld(plot{seed: seed})
		w.faults, w.calm, w.hostTotal = false, true, 1<<40
		for n := range 2 {
			w.cards = append(w.cards, &worldCard{uuid: fmt.Sprintf("GPU-%d", n), kind: cardKinds[1]})
		}
		spec := &Spec{
			Name: "world", Engine: engineKey("engine-1"), GPUs: gpuKey("cards"), Eviction: []scheduler.Policy{scheduler.LRU{}, scheduler.Cost{}}[seed%2],
			MaxWaitForTurn: 2 * time.Minute, DrainTimeout: 10 * time.Minute, Log: zap.NewNop(), Pools: []Pool{{Name: "all", Budget: 1}},
		}
		for n := range 6 {
			w.names = append(w.names, fmt.Sprintf("m%d", n))
			spec.Models = append(spec.Models, ModelSpec{
				Name: w.names[n], Pool: "all", Server: sleepyServer{}, Launch: server.Model{TensorParallel: 1 + n/5, Sleep: n%2 == 0}, Need: placement.Need{Bytes: 10 * worldGiB},
				StartTimeout: 2 * time.Minute, StopGrace: 10 * time.Second, MaxConcurrent: 2, MaxQueue: 10, MaxWait: math.MaxInt64,
			})
		}
		starts := make(map[string]int)
		w.guard(func() {
			w.reloadTo(spec, true)
			for _, name := range w.names {
				w.keepBusy(name, 1)
			}
			for w.now.Before(worldBegin.Add(4 * time.Hour)) {
				w.step()
				w.check()
				for _, r := range w.owner.records {
					// Six models on two cards; each turn is a wait, a drain and a start.
					bound := 6 * (spec.MaxWaitForTurn + spec.DrainTimeout + 2*time.Minute)
					if r.demand != nil && w.now.Sub(r.demand.since) > bound {
						w.breaks(6, "%s has waited %v for its turn: %s", r.model.name, w.now.Sub(r.demand.since), r.waiting)
					}
					starts[r.model.name] = w.owner.ordinals[r.model.name]
				}
			}
		})
		if w.broken != nil {
			t.Fatalf("seed %d: %v", seed, w.broken)
		}
		total := 0
		for _, name := range w.names {
			if starts[name] == 0 {
				t.Errorf("seed %d: %s never ran", seed, name)
			}
			total += starts[name]
		}
		naps += w.sights["told to wake"]
		total += w.sights["told to wake"]
		// No thrash: a card is not swapped more often than once a turn.
		if most := int(4*time.Hour/spec.MaxWaitForTurn)*2 + len(spec.Models); total > most {
			t.Errorf("seed %d: %d starts and wakings in four hours, more than %d", seed, total, most)
		}
	}
	if naps == 0 {
		t.Error("nobody ever slept")
	}
}

// keepBusy has a second request come before the first ends, for ever.
func (w *world) keepBusy(name string, n int) {
	w.arrive(name, n)
	w.after(w.chanceBetween("busy", name, n, 5*time.Second, 10*time.Second), func() { w.keepBusy(name, n+1) })
}
