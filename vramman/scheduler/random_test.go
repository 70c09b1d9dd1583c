package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file makes states by chance, for properties.

// randomState makes a crowded machine in the midst of things: instances in all
// phases, gates held, other programs' VRAM, and demands of every age.
func randomState(rng *rand.Rand) *scheduler.State {
	sizes := make([]int64, 1+rng.IntN(5))
	for n := range sizes {
		sizes[n] = 10 + rng.Int64N(15)
	}
	s := room(sizes...)
	switch rng.IntN(4) {
	case 0:
		s.Policy = largestFirst{}
	case 1, 2:
		s.Policy = scheduler.Cost{}
	}
	for n := range s.Cards {
		c := &s.Cards[n]
		c.Budget -= rng.Int64N(4) * gib
		c.Class = rng.IntN(3) / 2
		if rng.IntN(5) == 0 {
			c.Foreign = rng.Int64N(8) * gib
			c.Squeezed = rng.IntN(2) == 0
		}
		if rng.IntN(8) == 0 {
			c.Gate = "start somebody"
		}
	}
	chance := func(n int) bool { return rng.IntN(n) == 0 }
	s.HostRoom = []int64{0, 8, 1000, 1000}[rng.IntN(4)] * gib
	minutes := func(n int) time.Duration { return time.Duration(rng.IntN(n*60)) * time.Second }
	calm := chance(2) // there is hardly more than fits, and most are idle
	crowd := rng.IntN(9)
	if calm {
		crowd = len(s.Cards) + rng.IntN(1+len(s.Cards))
	}
	for n := range crowd {
		cards := rng.Perm(len(s.Cards))[:1+rng.IntN(min(2, len(s.Cards)))]
		with(s, fmt.Sprintf("i-%d", n), 1+rng.Int64N(12), cards, func(i *scheduler.Instance) {
			i.ReadySince, i.LastUsed = ago(minutes(20)), ago(minutes(20))
			i.DemandSince = i.ReadySince.Add(-minutes(10))
			i.MinResidency = 90 * time.Second * time.Duration(rng.IntN(3))
			i.LoadTime, i.Likelihood = minutes(3), float64(rng.IntN(10))/100
			sleepy(0, rng.Int64N(8))(i)
			for k := range i.Resting {
				i.Resting[k] = rng.Int64N(i.Charges[k]/gib) * gib
			}
			what := rng.IntN(14)
			if calm && what < 4 && chance(2) {
				what = 13
			}
			switch what {
			default:
				if chance(2) {
					i.Resting = nil
				}
			case 0:
				i.Phase, i.ReadySince, i.LastUsed = scheduler.Starting, time.Time{}, time.Time{}
			case 1:
				i.Phase = scheduler.Stopping
			case 2:
				i.Phase = scheduler.Unreleased
			case 3:
				i.Phase, i.Expired = scheduler.Draining, chance(3)
			case 4, 5:
				i.Phase, i.Awake, i.Resting = scheduler.Asleep, slices.Clone(i.Charges), nil
				for k := range i.Awake {
					i.Awake[k] += rng.Int64N(9) * gib
				}
			}
			if i.Phase == scheduler.Starting || i.Phase == scheduler.Stopping {
				for _, c := range cards {
					s.Cards[c].Gate = i.ID
				}
			}
			switch {
			case (i.Phase == scheduler.Ready || i.Phase == scheduler.Draining) && chance(3) && !(calm && chance(2)):
				i.Leases = 1 + rng.IntN(3)
				i.Tickets = i.Leases + rng.IntN(3)
			case i.Phase != scheduler.Asleep && chance(8):
				i.Tickets = 1
			}
			i.AlwaysOn, i.Leaving = chance(8), !calm && chance(6)
			if chance(6) {
				i.IdleTimeout = time.Minute + minutes(25)
			}
		})
	}
	for n := range rng.IntN(5) {
		d := wants(s, fmt.Sprintf("m-%d", n), 1+rng.Int64N(14), 1, minutes(10))
		if !chance(3) {
			d.Degree = 1 + rng.IntN(min(3, len(s.Cards)))
		}
		d.AlwaysOn, d.Gentle, d.Waiting = chance(6), chance(8), rng.IntN(3)
		d.Conflict = []scheduler.Conflict{scheduler.Evict, scheduler.Evict, scheduler.Evict, scheduler.Evict, scheduler.Hold, scheduler.Reject}[rng.IntN(6)]
		d.Since = d.Since.Truncate(2 * time.Minute)
		d.Explain = true
		need := placement.Need{Bytes: d.Need[0]}
		switch rng.IntN(5) {
		case 0:
			need = placement.Need{}
		case 1:
			need = placement.Need{Share: 0.3 + 0.6*rng.Float64()}
		}
		cards := rng.Perm(len(s.Cards))
		if chance(3) {
			cards = cards[:1+rng.IntN(len(cards))]
		}
		within(s, cards, need)
	}
	asked := 0
	for n := range s.Instances {
		if i := &s.Instances[n]; i.Phase == scheduler.Asleep && asked < len(s.Demands) && chance(2) {
			d := &s.Demands[asked]
			asked++
			i.Model, d.Asleep = d.Model, i.ID
			if !d.Gentle && !chance(5) { // its requests may just have gone
				i.Tickets = 1 + d.Waiting
			}
		}
	}
	rng.Shuffle(len(s.Demands), func(a, b int) { s.Demands[a], s.Demands[b] = s.Demands[b], s.Demands[a] })
	return s
}

// forStates runs a check on many random states and names the seed of one that
// fails. On to repeat one: replace the seed.
func forStates(t *testing.T, n int, check func(*testing.T, *scheduler.State)) {
	t.Helper()
	for range n {
		seed := rand.Uint64()
		s := randomState(rand.New(rand.NewPCG(seed, 0)))
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("panic: %v", r)
				}
				if t.Failed() {
					t.Logf("seed %d: %s", seed, describe(s))
				}
			}()
			check(t, s)
		}()
		if t.Failed() {
			return
		}
	}
}

// describe puts a state into lines that a reader can follow.
func describe(s *scheduler.State) string {
	var b []byte
	since := func(t time.Time) string {
		if t.IsZero() {
			return "never"
		}
		return fmt.Sprintf("-%v", s.Now.Sub(t))
	}
	b = fmt.Appendf(b, "policy %s, host room %d\n", s.Policy.Name(), s.HostRoom/gib)
	sizes := func(bytes []int64) (all []int64) {
		for _, x := range bytes {
			all = append(all, x/gib)
		}
		return all
	}
	for n, c := range s.Cards {
		b = fmt.Appendf(b, "card %d: total %d budget %d foreign %d charged %d class %d squeezed %v gate %q\n", n, c.Total/gib, c.Budget/gib, c.Foreign/gib, c.Charged/gib, c.Class, c.Squeezed, c.Gate)
	}
	for _, i := range s.Instances {
		b = fmt.Appendf(b, "%s: phase %d cards %v charges %d resting %d awake %d host %d leases %d tickets %d expired %v always %v leaving %v ready %s used %s asked %s residency %v idle timeout %v\n",
			i.ID, i.Phase, i.Cards, sizes(i.Charges), sizes(i.Resting), sizes(i.Awake), i.HostBytes/gib, i.Leases, i.Tickets, i.Expired, i.AlwaysOn, i.Leaving, since(i.ReadySince), since(i.LastUsed), since(i.DemandSince), i.MinResidency, i.IdleTimeout)
	}
	for _, d := range s.Demands {
		b = fmt.Appendf(b, "demand %s: since %s need %d degree %d cards %v always %v conflict %d gentle %v waiting %d asleep %q\n",
			d.Model, since(d.Since), sizes(d.Need), d.Degree, d.Cards, d.AlwaysOn, d.Conflict, d.Gentle, d.Waiting, d.Asleep)
	}
	return string(b)
}
