// This file owns the state that the planner is asked about: a large machine room.

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// roomState is 64 cards of 80 GiB, full with 200 instances of 1,000 models, of which
// half serve requests, and 50 other models that want in.
func roomState() *scheduler.State {
	const gib = int64(1) << 30
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &scheduler.State{Now: start, MaxWaitForTurn: 5 * time.Minute, Policy: scheduler.LRU{}}
	var all []int
	for c := range 64 {
		s.Cards = append(s.Cards, scheduler.Card{
			Card: ledger.Card{UUID: fmt.Sprintf("GPU-%08d", c), Total: 80 * gib, Budget: 74 * gib}, Class: c / 32,
		})
		all = append(all, c)
	}
	for n := range 200 {
		i := scheduler.Instance{
			ID: fmt.Sprintf("model-%d-1", n), Model: fmt.Sprintf("model-%d", n), Phase: scheduler.Ready,
			LastUsed: start.Add(-time.Duration(n*7919%3600) * time.Second), ReadySince: start.Add(-2 * time.Hour),
			MinResidency: 90 * time.Second, IdleTimeout: 2 * time.Hour, LoadTime: time.Minute,
			Cards: []int{n % 64}, Charges: []int64{17 * gib},
		}
		if n%2 == 0 {
			i.Leases, i.Tickets = 3, 3
		}
		s.Cards[n%64].Charged += 17 * gib
		s.Instances = append(s.Instances, i)
	}
	for n := range 50 {
		s.Demands = append(s.Demands, scheduler.Demand{
			Model: fmt.Sprintf("model-%d", 950+n), Since: start.Add(-time.Duration(500-n) * time.Second), Waiting: n % 9,
			Need: slices.Repeat([]int64{int64(20+n*31%50) * gib}, len(all)), Degree: 1 + n%2, Pool: "all", Cards: all,
		})
	}
	return s
}
