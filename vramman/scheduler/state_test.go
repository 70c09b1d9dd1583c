package scheduler_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file makes states by hand, for table tests, and puts plans into words.

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

// sleepy can be put to sleep, on so many GiB of each card and of the host.
func sleepy(rest, host int64) func(*scheduler.Instance) {
	return func(i *scheduler.Instance) {
		i.Resting, i.HostBytes = slices.Repeat([]int64{rest * gib}, len(i.Cards)), host*gib
	}
}

// asleep sleeps, and takes so many GiB of each card once it is woken.
func asleep(awake int64) func(*scheduler.Instance) {
	return func(i *scheduler.Instance) {
		i.Phase, i.Awake = scheduler.Asleep, slices.Repeat([]int64{awake * gib}, len(i.Cards))
	}
}

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
	s.Demands = append(s.Demands, scheduler.Demand{Model: model, Since: ago(waited), Degree: degree, Pool: "all"})
	return within(s, allCards(s), placement.Need{Bytes: need * gib})
}

// within has the last demand have some cards to choose from, and need so much on
// each of them.
func within(s *scheduler.State, cards []int, need placement.Need) *scheduler.Demand {
	d := &s.Demands[len(s.Demands)-1]
	d.Cards, d.Need = cards, nil
	for _, c := range cards {
		d.Need = append(d.Need, need.On(s.Cards[c].Card))
	}
	return d
}

// only leaves a demand one of its cards.
func only(d *scheduler.Demand, card int) {
	k := slices.Index(d.Cards, card)
	d.Cards, d.Need = d.Cards[k:k+1], d.Need[k:k+1]
}

// wakes has a demand be for the model of an instance that is asleep.
func wakes(s *scheduler.State, id string, d *scheduler.Demand) {
	i := &s.Instances[slices.IndexFunc(s.Instances, func(i scheduler.Instance) bool { return i.ID == id })]
	d.Asleep, d.Waiting, i.Model = id, 1, d.Model
	i.Tickets = 1
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
			line += fmt.Sprintf(" evicting %v", ids(d.Victims))
		}
		if !slices.Equal(d.Gates, d.Cards) {
			line += fmt.Sprintf(" gates %v", d.Gates)
		}
		return line
	case scheduler.Wake:
		line := "wake " + d.Instance
		if len(d.Victims) > 0 {
			line += fmt.Sprintf(" evicting %v", ids(d.Victims))
		}
		if !slices.Equal(d.Gates, d.Cards) {
			line += fmt.Sprintf(" gates %v", d.Gates)
		}
		return line
	case scheduler.Stop, scheduler.Sleep:
		return fmt.Sprintf("%v %s", d.Kind, d.Instance)
	case scheduler.Drain:
		return fmt.Sprintf("drain %s for %s", d.Instance, d.Model)
	default:
		return fmt.Sprintf("%v %s", d.Kind, d.Model)
	}
}

// ids names victims, those that are put to sleep with a mark.
func ids(victims []scheduler.Victim) (names []string) {
	for _, v := range victims {
		if v.Sleep {
			v.Instance += " (sleeps)"
		}
		names = append(names, v.Instance)
	}
	return names
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
		i.Resting, i.Awake = slices.Clone(i.Resting), slices.Clone(i.Awake)
	}
	c.Demands = slices.Clone(s.Demands)
	for n := range c.Demands {
		d := &c.Demands[n]
		d.Cards, d.Need = slices.Clone(d.Cards), slices.Clone(d.Need)
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
