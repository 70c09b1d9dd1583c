package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// bigState is a machine room: 64 cards of 80 GiB, full with 200 instances of
// 1,000 models, and 50 models that want in. busy is the share of instances that
// serve requests.
func bigState(busy float64) *scheduler.State {
	rng := rand.New(rand.NewPCG(1, 1))
	s := &scheduler.State{Now: start, MaxWaitForTurn: 5 * time.Minute, Policy: scheduler.LRU{}}
	var all []int
	for c := range 64 {
		s.Cards = append(s.Cards, scheduler.Card{Card: ledger.Card{UUID: fmt.Sprintf("GPU-%08d", c), Total: 80 * gib, Budget: 74 * gib}})
		all = append(all, c)
	}
	for n := range 200 {
		i := scheduler.Instance{
			ID: fmt.Sprintf("model-%d-1", n), Model: fmt.Sprintf("model-%d", n), Phase: scheduler.Ready,
			LastUsed: start.Add(-time.Duration(rng.IntN(3600)) * time.Second), ReadySince: start.Add(-2 * time.Hour),
			MinResidency: 90 * time.Second, IdleTimeout: 2 * time.Hour,
			LoadTime: time.Minute, Likelihood: float64(n%50) / 5000,
		}
		if rng.Float64() < busy {
			i.Leases, i.Tickets = 3, 3
		}
		degree := []int{1, 1, 1, 2}[n%4]
		for k := range degree {
			c := (n + k) % 64
			i.Cards, i.Charges = append(i.Cards, c), append(i.Charges, 17*gib)
			s.Cards[c].Charged += 17 * gib
		}
		s.Instances = append(s.Instances, i)
	}
	for n := range 50 {
		s.Demands = append(s.Demands, scheduler.Demand{
			Model: fmt.Sprintf("model-%d", 950+n), Since: start.Add(-time.Duration(500-n) * time.Second),
			Need: placement.Need{Bytes: int64(20+rng.IntN(50)) * gib}, Degree: []int{1, 1, 2, 4}[rng.IntN(4)], Pool: "all", Cards: all,
		})
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
		refused.Demands[n].Need.Bytes = 100 * gib
	}
	decide("all refused", refused)
}
