package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// bigState is a machine room: 64 cards of 80 GiB of two kinds, full with 200
// instances of 1,000 models, of which every seventh is asleep and half of the others
// could be, and 50 models that want in, every fifth of them asleep. busy is the share
// of instances that serve requests.
func bigState(busy float64) *scheduler.State {
	rng := rand.New(rand.NewPCG(1, 1))
	s := &scheduler.State{Now: start, MaxWaitForTurn: 5 * time.Minute, Policy: scheduler.LRU{}, HostRoom: 200 * gib}
	var all []int
	for c := range 64 {
		s.Cards = append(s.Cards, scheduler.Card{Card: ledger.Card{UUID: fmt.Sprintf("GPU-%08d", c), Total: 80 * gib, Budget: 74 * gib}, Class: c / 32})
		all = append(all, c)
	}
	for n := range 200 {
		i := scheduler.Instance{
			ID: fmt.Sprintf("model-%d-1", n), Model: fmt.Sprintf("model-%d", n), Phase: scheduler.Ready,
			LastUsed: start.Add(-time.Duration(rng.IntN(3600)) * time.Second), ReadySince: start.Add(-2 * time.Hour),
			MinResidency: 90 * time.Second, IdleTimeout: 2 * time.Hour,
			LoadTime: time.Minute, Likelihood: float64(n%50) / 5000,
		}
		charge := 17 * gib
		switch {
		case n%7 == 0:
			i.Phase, charge = scheduler.Asleep, 2*gib
		case rng.Float64() < busy:
			i.Leases, i.Tickets = 3, 3
		}
		degree := []int{1, 1, 1, 2}[n%4]
		for k := range degree {
			c := (n + k) % 64
			i.Cards, i.Charges = append(i.Cards, c), append(i.Charges, charge)
			switch {
			case i.Phase == scheduler.Asleep:
				i.Awake = append(i.Awake, 17*gib)
			case n%2 == 0:
				i.Resting, i.HostBytes = append(i.Resting, 2*gib), 16*gib
			}
			s.Cards[c].Charged += charge
		}
		s.Instances = append(s.Instances, i)
	}
	for n := range 50 {
		d := scheduler.Demand{
			Model: fmt.Sprintf("model-%d", 950+n), Since: start.Add(-time.Duration(500-n) * time.Second), Waiting: n % 9,
			Need: slices.Repeat([]int64{int64(20+rng.IntN(50)) * gib}, len(all)), Degree: []int{1, 1, 2, 4}[rng.IntN(4)], Pool: "all", Cards: all,
		}
		if n%5 == 0 {
			i := &s.Instances[n/5*7]
			d.Model, d.Asleep, i.Tickets = i.Model, i.ID, 1
		}
		s.Demands = append(s.Demands, d)
	}
	return s
}

func BenchmarkDecide(b *testing.B) {
	decide := func(name string, s *scheduler.State) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				scheduler.Decide(s)
			}
		})
	}
	decide("idle", bigState(0))
	byCost := bigState(0)
	byCost.Policy = scheduler.Cost{}
	decide("idle, by cost", byCost)
	decide("half busy", bigState(0.5))
	decide("all busy", bigState(1))
	due := bigState(1)
	due.MaxWaitForTurn = time.Minute
	decide("all due", due)
	refused := bigState(0.5)
	for n := range refused.Demands {
		refused.Demands[n].Need = slices.Repeat([]int64{100 * gib}, len(refused.Cards))
	}
	decide("all refused", refused)
}

// What was decided before costs nothing now: there is nowhere to keep it.
func TestDecideAllocatesNoMoreWithHistory(t *testing.T) {
	s := bigState(0.5)
	before := testing.AllocsPerRun(5, func() { scheduler.Decide(s) })
	others := []*scheduler.State{bigState(0), bigState(1)}
	for n := range 50 {
		o := others[n%2]
		o.Now = o.Now.Add(time.Minute)
		scheduler.Decide(o)
	}
	// Formatting takes its buffers from a pool that is emptied now and then, hence the 2 %.
	if after := testing.AllocsPerRun(5, func() { scheduler.Decide(s) }); after > before*1.02 {
		t.Errorf("%v allocations, and %v after 50 other decisions", before, after)
	}
}
