package scheduler_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file follows a plan decision by decision and knows, by plain counting and by
// trying all there is to try, what each may be. It shares no code with the
// scheduler.

// referee is the world as the plan has left it so far.
type referee struct {
	t         *testing.T
	s         *scheduler.State
	instances []*piece
	gates     []bool
	kept      []bool // for an earlier demand's turn
	wanted    []bool // by a demand that waits
	charged   []int64
	host      int64
	rooms     []int64 // per card, when the demand in question had its say
}

// piece is an instance on the referee's board.
type piece struct {
	scheduler.Instance
	gone  bool
	added bool // put there by the plan
}

func newReferee(t *testing.T, s *scheduler.State) *referee {
	r := &referee{t: t, s: s, host: s.HostRoom}
	for _, c := range s.Cards {
		r.gates, r.kept, r.wanted = append(r.gates, c.Gate != ""), append(r.kept, false), append(r.wanted, false)
		r.charged = append(r.charged, c.Charged)
	}
	for _, i := range s.Instances {
		r.instances = append(r.instances, &piece{Instance: i})
	}
	return r
}

// instance is one that the plan has not touched yet.
func (r *referee) instance(id string) *piece {
	r.t.Helper()
	for _, i := range r.instances {
		if i.ID == id && !i.gone && !i.added {
			return i
		}
	}
	r.t.Fatalf("there is no instance %q", id)
	return nil
}

func (r *referee) put(i scheduler.Instance) {
	r.instances = append(r.instances, &piece{Instance: i, added: true})
	for k, c := range i.Cards {
		r.charged[c] += i.Charges[k]
	}
}

func (r *referee) remove(i *piece) {
	i.gone = true
	for k, c := range i.Cards {
		r.charged[c] -= i.Charges[k]
	}
}

// sleep has an instance be charged what it is asleep.
func (r *referee) sleep(i *piece) {
	r.t.Helper()
	if i.Phase != scheduler.Ready || i.Resting == nil {
		r.t.Fatalf("%s cannot sleep", i.ID)
	}
	if r.host -= i.HostBytes; r.host < 0 {
		r.t.Fatalf("the host has no memory for %s to sleep", i.ID)
	}
	r.remove(i)
	then := i.Instance
	then.Phase, then.Charges = scheduler.Asleep, i.Resting
	r.put(then)
}

func isBusy(i *piece) bool { return i.Leases > 0 || i.Tickets > 0 }

func (r *referee) isYoung(i *piece) bool {
	return i.Phase == scheduler.Ready && r.s.Now.Sub(i.ReadySince) < i.MinResidency
}

// before is the order in which instances go.
func (r *referee) before(a, b *piece) bool {
	if r.isYoung(a) != r.isYoung(b) {
		return r.isYoung(b)
	}
	if x, y := r.s.Policy.Less(&a.Instance, &b.Instance), r.s.Policy.Less(&b.Instance, &a.Instance); x != y {
		return x
	}
	return cmp.Less(a.ID, b.ID)
}

func sorted(cards []int) []int { return slices.Compact(slices.Sorted(slices.Values(cards))) }

// takeGates fails if one is held, or not one of those it should be.
func (r *referee) takeGates(d scheduler.Decision, of []int) {
	r.t.Helper()
	if want, got := sorted(of), slices.Sorted(slices.Values(d.Gates)); !slices.Equal(got, want) {
		r.t.Fatalf("%s takes gates %v, want %v", words(d), got, want)
	}
	for _, g := range d.Gates {
		if r.gates[g] {
			r.t.Fatalf("%s: the gate of card %d is held", words(d), g)
		}
		r.gates[g] = true
	}
}

func (r *referee) held(cards []int) bool {
	return slices.ContainsFunc(cards, func(c int) bool { return r.gates[c] })
}

func (r *referee) spokenFor(cards []int) bool {
	return slices.ContainsFunc(cards, func(c int) bool { return r.gates[c] || r.kept[c] })
}

// room is the room on a card once so much of it is free.
func (r *referee) room(c int, freed func(*piece) []int64) int64 {
	card, charged := r.s.Cards[c], r.charged[c]
	for _, i := range r.instances {
		if i.gone {
			continue
		}
		if f := freed(i); f != nil {
			for k, on := range i.Cards {
				if on == c {
					charged -= f[k]
				}
			}
		}
	}
	return min(card.Budget-charged, card.Total-card.Foreign-charged)
}

// need is what is asked for on a card.
type need struct {
	card  int
	bytes int64
}

// wish is what is to be done for a demand: a start, or the waking of an instance.
type wish struct {
	*scheduler.Demand
	needs  []need
	degree int
	wakes  *piece // nil: a start
	spent  *piece // is stopped for the start
}

func startOf(q *scheduler.Demand) *wish {
	o := &wish{Demand: q, degree: q.Degree}
	for k, c := range q.Cards {
		o.needs = append(o.needs, need{c, q.Need[k]})
	}
	return o
}

func wakeOf(q *scheduler.Demand, i *piece) *wish {
	o := &wish{Demand: q, degree: len(i.Cards), wakes: i}
	for k, c := range i.Cards {
		o.needs = append(o.needs, need{c, i.Awake[k] - i.Charges[k]})
	}
	return o
}

func nothing(*piece) []int64 { return nil }

// all frees the whole of those who match.
func all(match func(*piece) bool) func(*piece) []int64 {
	return func(i *piece) []int64 {
		if match(i) {
			return i.Charges
		}
		return nil
	}
}

// fits says whether an order finds enough room on the cards that may be used.
func (r *referee) fits(o *wish, usable func(card int) bool, freed func(*piece) []int64) bool {
	of := make(map[int]int)
	for _, n := range o.needs {
		if usable(n.card) && r.room(n.card, freed) >= n.bytes {
			class := r.s.Cards[n.card].Class
			if o.degree == 1 || o.wakes != nil {
				class = 0
			}
			if of[class]++; of[class] >= o.degree {
				return true
			}
		}
	}
	return false
}

// stopping says whether an instance is about to free its room.
func stopping(i *piece) bool {
	return i.Phase == scheduler.Stopping || i.Phase == scheduler.Draining && i.Leases == 0
}

// mayGo says whether an instance can be expected to end or to be evicted.
func mayGo(i *piece) bool {
	switch i.Phase {
	case scheduler.Unreleased:
		return false
	case scheduler.Stopping, scheduler.Draining:
		return true
	}
	return i.Leaving || !i.AlwaysOn
}

// victim says whether an instance may be evicted now.
func (r *referee) victim(i *piece) bool {
	return (i.Phase == scheduler.Ready || i.Phase == scheduler.Asleep) && !i.AlwaysOn && !isBusy(i) && !i.gone && !i.added && !r.spokenFor(i.Cards)
}

// ends is what is to become of an instance without anybody's demand.
func (r *referee) ends(i *piece) (kind scheduler.Kind, ok bool) {
	limit := i.IdleTimeout
	if i.Phase == scheduler.Asleep {
		limit *= 2
	}
	unused := !isBusy(i) && !i.AlwaysOn && limit > 0 && r.s.Now.Sub(i.LastUsed) >= limit
	switch i.Phase {
	case scheduler.Draining:
		return scheduler.Stop, i.Expired || i.Leases == 0
	case scheduler.Asleep:
		return scheduler.Stop, i.Leaving || unused
	case scheduler.Ready:
		if i.Leaving && !isBusy(i) {
			return scheduler.Stop, true
		}
		if unused && i.Resting != nil && i.HostBytes <= r.host {
			return scheduler.Sleep, true
		}
		return scheduler.Stop, unused
	}
	return 0, false
}

// end follows decisions about those who end by themselves, and returns the rest.
func (r *referee) end(rest []scheduler.Decision) []scheduler.Decision {
	r.t.Helper()
	for _, i := range slices.Clone(r.instances) {
		kind, ok := r.ends(i)
		if !ok || r.spokenFor(i.Cards) {
			continue
		}
		if len(rest) == 0 || rest[0].Kind != kind || rest[0].Instance != i.ID || rest[0].Model != i.Model {
			r.t.Fatalf("%s should %v", i.ID, kind)
		}
		r.takeGates(rest[0], i.Cards)
		if kind == scheduler.Sleep {
			r.sleep(i)
		} else {
			r.remove(i)
		}
		rest = rest[1:]
	}
	return rest
}

// yield follows decisions about those who yield to other programs: of the sets that
// are enough, it wants the one whose last member stands furthest to the front.
func (r *referee) yield(rest []scheduler.Decision) []scheduler.Decision {
	r.t.Helper()
	var idle []*piece
	for _, i := range r.instances {
		if r.victim(i) {
			idle = append(idle, i)
		}
	}
	slices.SortFunc(idle, func(a, b *piece) int {
		if r.before(a, b) {
			return -1
		}
		return 1
	})
	overdrawn := func(c int, gone func(*piece) bool) bool {
		card, charged := r.s.Cards[c], r.charged[c]
		for _, i := range r.instances {
			if k := slices.Index(i.Cards, c); k >= 0 && !i.gone && (stopping(i) || gone(i)) {
				charged -= i.Charges[k]
			}
		}
		return card.Squeezed && card.Total-card.Foreign-charged < 0
	}
	in := func(set int) func(*piece) bool {
		return func(i *piece) bool { k := slices.Index(idle, i); return k >= 0 && set&(1<<k) != 0 }
	}
	every := 1<<len(idle) - 1
	must := 0 // where all are not enough, all go
	for c := range r.s.Cards {
		if overdrawn(c, in(every)) {
			for k, i := range idle {
				if slices.Contains(i.Cards, c) {
					must |= 1 << k
				}
			}
		}
	}
	for set := range every + 1 {
		enough := set&must == must
		for c := range r.s.Cards {
			enough = enough && (!overdrawn(c, in(set)) || overdrawn(c, in(every)))
		}
		if !enough {
			continue
		}
		for k, i := range idle {
			if set&(1<<k) == 0 || r.spokenFor(i.Cards) {
				continue
			}
			if len(rest) == 0 || rest[0].Kind != scheduler.Stop || rest[0].Instance != i.ID {
				r.t.Fatalf("%s should yield", i.ID)
			}
			r.takeGates(rest[0], i.Cards)
			r.remove(i)
			rest = rest[1:]
		}
		return rest
	}
	return rest
}

// due says whether a demand's turn has come, and over whether that of an instance
// in its way is over.
func (r *referee) due(q *scheduler.Demand) bool {
	return r.s.Now.Sub(q.Since) >= r.s.MaxWaitForTurn
}

func (r *referee) over(q *scheduler.Demand, i *piece) bool {
	asked := !i.DemandSince.After(q.Since)
	return r.due(q) && !(asked && i.ReadySince.After(q.Since) && r.s.Now.Sub(i.ReadySince) < r.s.MaxWaitForTurn)
}

// drain checks that an instance's turn is over.
func (r *referee) drain(q *scheduler.Demand, d scheduler.Decision) {
	r.t.Helper()
	i := r.instance(d.Instance)
	if d.Kind == scheduler.Drain && i.Phase != scheduler.Ready || i.AlwaysOn && !i.Leaving {
		r.t.Fatalf("%s: it is not one to be drained", words(d))
	}
	near := slices.Clone(q.Cards)
	if q.Asleep != "" {
		near = append(near, r.instance(q.Asleep).Cards...)
	}
	if !slices.ContainsFunc(i.Cards, func(c int) bool { return slices.Contains(near, c) }) {
		r.t.Fatalf("%s: it is on none of its cards", words(d))
	}
	if q.Gentle || q.Conflict != scheduler.Evict || !r.over(q, i) {
		r.t.Fatalf("%s, which has waited for %v, for one that is ready for %v: it is nobody's turn", words(d), r.s.Now.Sub(q.Since), r.s.Now.Sub(i.ReadySince))
	}
	if d.Kind == scheduler.Stop {
		if i.Phase != scheduler.Asleep || i.Tickets == 0 {
			r.t.Fatalf("%s: it should be drained, or go as a victim", words(d))
		}
		r.takeGates(d, i.Cards)
		r.remove(i)
	}
}

// line is the order in which demands have their say.
func line(s *scheduler.State) []*scheduler.Demand {
	var all []*scheduler.Demand
	for n := range s.Demands {
		all = append(all, &s.Demands[n])
	}
	key := func(q *scheduler.Demand) [4]int64 {
		k := [4]int64{0, int64(q.Since.Sub(start) / time.Nanosecond), 1, 0}
		if q.Gentle {
			k[0] = 1
		}
		if q.AlwaysOn {
			k[2] = 0
		}
		return k
	}
	slices.SortStableFunc(all, func(a, b *scheduler.Demand) int { x, y := key(a), key(b); return slices.Compare(x[:], y[:]) })
	return all
}
