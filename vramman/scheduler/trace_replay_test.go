package scheduler_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file plays a trace one request after the other, as caches are compared:
// each is served before the next comes, and a load takes no time. Who goes is
// decided by Decide, as in the manager.

// seer knows the trace's future, which is no policy that anybody can have. It
// evicts by what cost would evict by if it knew when each model is used next.
// Where models are equal, that is whoever is used again last.
type seer struct {
	tr   *trace
	next map[string]func() time.Time // when each model is used next
	now  func() time.Time
}

func (*seer) Name() string { return "seer" }

func (s *seer) Why(*scheduler.Instance, time.Time) string { return "used again last" }

func (s *seer) Less(a, b *scheduler.Instance) bool {
	if x, y := s.price(a), s.price(b); x != y {
		return x < y
	}
	return a.ID < b.ID
}

func (s *seer) price(i *scheduler.Instance) float64 {
	wait := s.next[i.Model]().Sub(s.now())
	return i.LoadTime.Seconds() / math.Max(1e-9, wait.Seconds()) / float64(i.Charges[0])
}

// newSeer makes a seer of a trace's future after the moment that now tells.
func newSeer(tr *trace, now func() time.Time) *seer {
	s := &seer{tr: tr, next: make(map[string]func() time.Time), now: now}
	never := tr.uses[len(tr.uses)-1].at.Add(10000 * time.Hour)
	for m := range tr.models {
		var at []time.Time
		for _, u := range tr.uses {
			if u.model == m {
				at = append(at, u.at)
			}
		}
		s.next[tr.models[m].name] = func() time.Time {
			for len(at) > 0 && !at[0].After(now()) {
				at = at[1:]
			}
			if len(at) == 0 {
				return never
			}
			return at[0]
		}
	}
	return s
}

// traceCards are the cards of a trace as the scheduler sees them.
func (tr *trace) traceCards() (cards []scheduler.Card, all []int) {
	for n, size := range tr.cards {
		cards = append(cards, scheduler.Card{Card: ledger.Card{UUID: string(rune('A' + n)), Total: size, Budget: size}})
		all = append(all, n)
	}
	return cards, all
}

// replayed is what came of a trace.
type replayed struct {
	loads   int
	loading time.Duration // over all loads
}

// replay plays a trace under a policy; seer where that is nil.
func replay(t *testing.T, tr *trace, policy scheduler.Policy) (r replayed) {
	t.Helper()
	s := scheduler.State{Policy: policy, MaxWaitForTurn: time.Minute}
	if policy == nil {
		s.Policy = newSeer(tr, func() time.Time { return s.Now })
	}
	var usage scheduler.Usage
	var all []int
	s.Cards, all = tr.traceCards()
	for _, u := range tr.uses {
		m := &tr.models[u.model]
		s.Now = u.at
		usage.Used(m.name, s.Now)
		byName := func(i scheduler.Instance) bool { return i.ID == m.name }
		at := slices.IndexFunc(s.Instances, byName)
		if at < 0 {
			for n := range s.Instances {
				i := &s.Instances[n]
				i.LoadTime, i.Likelihood = usage.LoadTime(i.Model), usage.Likelihood(i.Model)
			}
			s.Demands = []scheduler.Demand{{
				Model: m.name, Since: s.Now, Need: slices.Repeat([]int64{m.size}, len(all)), Degree: 1, Cards: all,
			}}
			plan := scheduler.Decide(&s)
			d := plan.Decisions[0]
			if len(plan.Decisions) != 1 || d.Kind != scheduler.Start {
				t.Fatalf("%s: %q", tr.kind, allWords(plan))
			}
			s.Instances = slices.DeleteFunc(s.Instances, func(i scheduler.Instance) bool {
				gone := slices.Contains(d.Victims, scheduler.Victim{Instance: i.ID})
				if gone {
					s.Cards[i.Cards[0]].Charged -= i.Charges[0]
				}
				return gone
			})
			s.Cards[d.Cards[0]].Charged += m.size
			s.Instances = append(s.Instances, scheduler.Instance{
				ID: m.name, Model: m.name, Phase: scheduler.Ready, Cards: d.Cards, Charges: []int64{m.size}, ReadySince: s.Now,
			})
			at = len(s.Instances) - 1
			usage.Loaded(m.name, m.loading)
			r.loads++
			r.loading += m.loading
		}
		s.Instances[at].LastUsed = s.Now
	}
	return r
}
