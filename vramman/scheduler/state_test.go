package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file makes states: by hand for table tests, by chance for properties.

const gib = int64(1) << 30

var start = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// ago is a moment before the state's present.
func ago(d time.Duration) time.Time { return start.Add(-d) }

// room is a state with cards of so many GiB, without a budget below that.
func room(sizes ...int64) *scheduler.State {
	s := &scheduler.State{Now: start, MaxWaitForTurn: 5 * time.Minute, Policy: scheduler.LRU{}}
	for n, size := range sizes {
		s.Cards = append(s.Cards, scheduler.Card{Card: ledger.Card{UUID: fmt.Sprintf("GPU-%d", n), Total: size * gib, Budget: size * gib}})
	}
	return s
}

// with adds an instance that is charged so many GiB on each of the cards: an
// idle one, ready since an hour ago, last used ten minutes ago.
func with(s *scheduler.State, id string, charge int64, cards []int, change ...func(*scheduler.Instance)) {
	i := scheduler.Instance{
		ID: id, Model: "model of " + id, Phase: scheduler.Ready, Cards: cards,
		ReadySince: ago(time.Hour), LastUsed: ago(10 * time.Minute), DemandSince: ago(time.Hour),
	}
	for _, c := range cards {
		i.Charges = append(i.Charges, charge*gib)
		s.Cards[c].Charged += charge * gib
	}
	for _, f := range change {
		f(&i)
	}
	s.Instances = append(s.Instances, i)
}

func busy(i *scheduler.Instance)     { i.Leases, i.Tickets = 2, 2 }
func ticketed(i *scheduler.Instance) { i.Tickets = 1 }
func alwaysOn(i *scheduler.Instance) { i.AlwaysOn = true }
func leaving(i *scheduler.Instance)  { i.Leaving = true }
func young(i *scheduler.Instance)    { i.ReadySince, i.MinResidency = ago(time.Minute), 90*time.Second }
func expired(i *scheduler.Instance)  { i.Expired = true }

func phase(p scheduler.Phase) func(*scheduler.Instance) {
	return func(i *scheduler.Instance) { i.Phase = p }
}

func used(d time.Duration) func(*scheduler.Instance) {
	return func(i *scheduler.Instance) { i.LastUsed = ago(d) }
}

func idleFor(d time.Duration) func(*scheduler.Instance) {
	return func(i *scheduler.Instance) { i.IdleTimeout = d }
}

// wants adds a demand for so many GiB on each of degree cards out of all.
func wants(s *scheduler.State, model string, need int64, degree int, waited time.Duration) *scheduler.Demand {
	s.Demands = append(s.Demands, scheduler.Demand{
		Model: model, Since: ago(waited), Need: placement.Need{Bytes: need * gib}, Degree: degree, Pool: "all", Cards: allCards(s),
	})
	return &s.Demands[len(s.Demands)-1]
}

func allCards(s *scheduler.State) []int {
	all := make([]int, len(s.Cards))
	for n := range all {
		all[n] = n
	}
	return all
}

// words puts a decision into a line to compare, without its reason.
func words(d scheduler.Decision) string {
	switch d.Kind {
	case scheduler.Start:
		line := fmt.Sprintf("start %s on %v", d.Model, d.Cards)
		if len(d.Victims) > 0 {
			line += fmt.Sprintf(" evicting %v", d.Victims)
		}
		if !slices.Equal(d.Gates, d.Cards) {
			line += fmt.Sprintf(" gates %v", d.Gates)
		}
		return line
	case scheduler.Stop:
		return "stop " + d.Instance
	case scheduler.Drain:
		return fmt.Sprintf("drain %s for %s", d.Instance, d.Model)
	default:
		return fmt.Sprintf("%v %s", d.Kind, d.Model)
	}
}

func allWords(p scheduler.Plan) []string {
	var lines []string
	for _, d := range p.Decisions {
		lines = append(lines, words(d))
	}
	return lines
}

func clone(s *scheduler.State) *scheduler.State {
	c := *s
	c.Cards = slices.Clone(s.Cards)
	c.Instances = slices.Clone(s.Instances)
	for n := range c.Instances {
		i := &c.Instances[n]
		i.Cards, i.Charges = slices.Clone(i.Cards), slices.Clone(i.Charges)
	}
	c.Demands = slices.Clone(s.Demands)
	for n := range c.Demands {
		c.Demands[n].Cards = slices.Clone(c.Demands[n].Cards)
	}
	return &c
}

// largestFirst is another policy: whoever holds most goes first.
type largestFirst struct{}

func (largestFirst) Name() string { return "largest" }

func (largestFirst) Less(a, b *scheduler.Instance) bool {
	return slices.Max(a.Charges) > slices.Max(b.Charges)
}

func (largestFirst) Why(i *scheduler.Instance, _ time.Time) string {
	return fmt.Sprintf("holds %d", slices.Max(i.Charges))
}

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
		if rng.IntN(5) == 0 {
			c.Foreign = rng.Int64N(8) * gib
		}
		if rng.IntN(8) == 0 {
			c.Gate = "start somebody"
		}
	}
	chance := func(n int) bool { return rng.IntN(n) == 0 }
	minutes := func(n int) time.Duration { return time.Duration(rng.IntN(n*60)) * time.Second }
	for n := range rng.IntN(9) {
		cards := rng.Perm(len(s.Cards))[:1+rng.IntN(min(2, len(s.Cards)))]
		with(s, fmt.Sprintf("i-%d", n), 1+rng.Int64N(12), cards, func(i *scheduler.Instance) {
			i.ReadySince, i.LastUsed = ago(minutes(20)), ago(minutes(20))
			i.DemandSince = i.ReadySince.Add(-minutes(10))
			i.MinResidency = 90 * time.Second * time.Duration(rng.IntN(3))
			i.LoadTime, i.Likelihood = minutes(3), float64(rng.IntN(10))/100
			switch rng.IntN(12) {
			case 0:
				i.Phase, i.ReadySince, i.LastUsed = scheduler.Starting, time.Time{}, time.Time{}
			case 1:
				i.Phase = scheduler.Stopping
			case 2:
				i.Phase = scheduler.Unreleased
			case 3:
				i.Phase, i.Expired = scheduler.Draining, chance(3)
			}
			if i.Phase == scheduler.Starting || i.Phase == scheduler.Stopping {
				for _, c := range cards {
					s.Cards[c].Gate = i.ID
				}
			}
			switch {
			case (i.Phase == scheduler.Ready || i.Phase == scheduler.Draining) && chance(3):
				i.Leases = 1 + rng.IntN(3)
				i.Tickets = i.Leases + rng.IntN(3)
			case chance(8):
				i.Tickets = 1
			}
			i.AlwaysOn, i.Leaving = chance(8), chance(8)
			if chance(3) {
				i.IdleTimeout = time.Minute + minutes(25)
			}
		})
	}
	for n := range rng.IntN(5) {
		d := wants(s, fmt.Sprintf("m-%d", n), 1+rng.Int64N(18), 1+rng.IntN(2)*rng.IntN(3), minutes(10))
		d.Cards = rng.Perm(len(s.Cards))[:1+rng.IntN(len(s.Cards))]
		d.AlwaysOn = chance(6)
		switch rng.IntN(5) {
		case 0:
			d.Need = placement.Need{}
		case 1:
			d.Need = placement.Need{Share: 0.3 + 0.6*rng.Float64()}
		}
	}
	slices.SortStableFunc(s.Demands, func(a, b scheduler.Demand) int { return a.Since.Compare(b.Since) })
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
	b = fmt.Appendf(b, "policy %s\n", s.Policy.Name())
	for n, c := range s.Cards {
		b = fmt.Appendf(b, "card %d: total %d budget %d foreign %d charged %d gate %q\n", n, c.Total/gib, c.Budget/gib, c.Foreign/gib, c.Charged/gib, c.Gate)
	}
	for _, i := range s.Instances {
		b = fmt.Appendf(b, "%s: phase %d cards %v charge %d leases %d tickets %d expired %v always %v leaving %v ready %s used %s asked %s residency %v idle timeout %v\n",
			i.ID, i.Phase, i.Cards, i.Charges[0]/gib, i.Leases, i.Tickets, i.Expired, i.AlwaysOn, i.Leaving, since(i.ReadySince), since(i.LastUsed), since(i.DemandSince), i.MinResidency, i.IdleTimeout)
	}
	for _, d := range s.Demands {
		b = fmt.Appendf(b, "demand %s: since %s need %+v degree %d cards %v always %v\n", d.Model, since(d.Since), d.Need, d.Degree, d.Cards, d.AlwaysOn)
	}
	return string(b)
}
