package scheduler_test

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file holds every decision about a demand against what the referee knows: what
// is to be decided at all.

// expect is what is to be decided about an order: the kind, as far as it is one of
// start (or wake), wait and refuse.
func (r *referee) expect(o *wish) scheduler.Kind {
	evicts, rejects := o.Conflict == scheduler.Evict && !o.Gentle, o.Conflict == scheduler.Reject && !o.Gentle
	mine := func(i *piece) bool { return i == o.wakes }
	soon := func(i *piece) bool { return !mine(i) && (stopping(i) || i == o.spent) }
	open := r.usable(o)
	free := func(c int) bool { return open(c) && !r.gates[c] }
	switch {
	case r.fits(o, free, nothing):
		return scheduler.Start
	case r.fits(o, open, nothing), r.fits(o, open, all(soon)):
		return scheduler.Wait
	case evicts && r.fits(o, free, all(func(i *piece) bool { return !mine(i) && r.victim(i) })):
		return scheduler.Start
	case !rejects && r.fits(o, everywhere, all(func(i *piece) bool { return !mine(i) && (mayGo(i) || i == o.spent) })):
		return scheduler.Wait
	case o.Gentle:
		return scheduler.Wait
	}
	return scheduler.Refuse
}

func everywhere(int) bool { return true }

// usable says which cards an order may use, whoever holds their gates.
func (r *referee) usable(o *wish) func(card int) bool {
	return func(c int) bool { return !r.kept[c] && !(o.Gentle && r.wanted[c]) }
}

// verdict checks the decision about a demand.
func (r *referee) verdict(q *scheduler.Demand, d scheduler.Decision) {
	r.t.Helper()
	o := startOf(q)
	var sleeper *piece
	for _, i := range r.instances {
		if i.ID == q.Asleep && i.Phase == scheduler.Asleep && !i.added {
			sleeper = i
		}
	}
	if sleeper != nil {
		if sleeper.gone || sleeper.Leaving {
			if d.Kind != scheduler.Wait {
				r.t.Fatalf("%s, but its sleeping instance is on its way out", words(d))
			}
			r.waits(o, d)
			return
		}
		o = wakeOf(q, sleeper)
	}
	kind := r.expect(o)
	if sleeper != nil && kind != scheduler.Start {
		if r.replaced(o, kind, d) {
			return
		}
		if kind == scheduler.Refuse || q.Gentle {
			fresh := startOf(q)
			fresh.spent = sleeper
			if kind == scheduler.Refuse && r.expectEver(fresh) {
				kind = scheduler.Wait // to be stopped once its gates are free
			}
		}
	}
	if kind == scheduler.Start && sleeper != nil {
		kind = scheduler.Wake
	}
	if d.Kind != kind {
		r.t.Fatalf("%s, want %v", words(d), kind)
	}
	switch kind {
	case scheduler.Start, scheduler.Wake:
		r.begin(o, d)
	case scheduler.Wait:
		r.waits(o, d)
	default:
		r.refused(o, d)
	}
}

// expectEver says whether a start may be possible some day, or, where that is not
// waited for, soon.
func (r *referee) expectEver(o *wish) bool {
	goes := func(i *piece) bool { return mayGo(i) || i == o.spent }
	if o.Conflict == scheduler.Reject && !o.Gentle {
		goes = func(i *piece) bool { return stopping(i) || i == o.spent }
	}
	return r.fits(o, everywhere, all(goes))
}

// replaced says whether the decision is to stop the sleeping instance of a demand,
// which it must be if and only if a new one fares better.
func (r *referee) replaced(o *wish, kind scheduler.Kind, d scheduler.Decision) bool {
	r.t.Helper()
	i, fresh := o.wakes, startOf(o.Demand)
	fresh.spent = i
	mayStop := !r.held(i.Cards) && !(o.Gentle && r.spokenFor(i.Cards))
	elsewhere := mayStop && r.fits(fresh, func(c int) bool { return r.usable(o)(c) && !r.gates[c] && !slices.Contains(i.Cards, c) }, nothing)
	evicts := o.Conflict != scheduler.Reject || o.Gentle
	never := !r.fits(o, everywhere, all(func(x *piece) bool { return x != i && (evicts && mayGo(x) || stopping(x)) }))
	// A demand that rejects does not wait for what is kept for others either.
	if !evicts {
		never = !r.fits(o, r.usable(o), all(func(x *piece) bool { return x != i && stopping(x) }))
	}
	want := elsewhere || mayStop && never && r.expectEver(fresh)
	if got := d.Kind == scheduler.Stop; got != want {
		r.t.Fatalf("%s; a new instance elsewhere: %v, woken never: %v, started some day: %v", words(d), elsewhere, never, r.expectEver(fresh))
	}
	if !want {
		return false
	}
	if d.Instance != i.ID {
		r.t.Fatalf("%s, want %s", words(d), i.ID)
	}
	r.takeGates(d, i.Cards)
	r.remove(i)
	if elsewhere {
		r.keptForStart(fresh, i.Cards)
	} else {
		r.want(o)
	}
	return true
}

// keptForStart has a start that comes next time hold its room and gates already:
// the first cards of the class that has enough.
func (r *referee) keptForStart(o *wish, except []int) {
	open := r.usable(o)
	for _, first := range o.needs {
		var cards []int
		var bytes []int64
		for _, n := range o.needs {
			alike := o.degree == 1 || r.s.Cards[n.card].Class == r.s.Cards[first.card].Class
			if alike && len(cards) < o.degree && open(n.card) && !r.gates[n.card] && !slices.Contains(except, n.card) && r.room(n.card, nothing) >= n.bytes {
				cards, bytes = append(cards, n.card), append(bytes, n.bytes)
			}
		}
		if len(cards) == o.degree {
			r.put(scheduler.Instance{ID: o.Model, Phase: scheduler.Starting, Cards: cards, Charges: bytes, AlwaysOn: o.AlwaysOn})
			for _, c := range cards {
				r.gates[c] = true
			}
			return
		}
	}
	r.t.Fatalf("no room for %s after all", o.Model)
}

func (r *referee) want(o *wish) {
	if o.Gentle {
		return
	}
	for _, c := range o.Cards {
		r.wanted[c] = true
	}
	for _, n := range o.needs {
		r.wanted[n.card] = true
	}
}

// waits checks a decision to wait, and what is kept.
func (r *referee) waits(o *wish, d scheduler.Decision) {
	r.t.Helper()
	r.candidates(o, d, nil)
	r.want(o)
	chosen := 0
	for _, c := range d.Candidates {
		if !c.Chosen {
			continue
		}
		chosen++
		if o.Conflict == scheduler.Evict && !o.Gentle && r.due(o.Demand) {
			r.kept[c.Card] = true
		}
		if r.room(c.Card, all(func(i *piece) bool { return i != o.wakes && mayGo(i) })) < c.Need {
			r.t.Fatalf("%s for card %d, which will have no room", words(d), c.Card)
		}
	}
	if chosen != 0 && chosen != o.degree {
		r.t.Fatalf("%s for %d cards", words(d), chosen)
	}
}

func (r *referee) refused(o *wish, d scheduler.Decision) {
	r.t.Helper()
	wakes := o.wakes != nil
	if wakes {
		for k, c := range o.wakes.Cards {
			wakes = wakes && o.wakes.Awake[k] <= min(r.s.Cards[c].Budget, r.s.Cards[c].Total)
		}
		o = startOf(o.Demand)
	}
	r.candidates(o, d, nil)
	of := make(map[int]int)
	most := 0
	for _, n := range o.needs {
		class := r.s.Cards[n.card].Class
		if o.degree == 1 {
			class = 0
		}
		if c := r.s.Cards[n.card]; n.bytes <= c.Budget && n.bytes <= c.Total {
			of[class]++
			most = max(most, of[class])
		}
	}
	if d.Never != (most < o.degree && !wakes) {
		r.t.Fatalf("%s for ever: %v, but %d of its cards are large enough and it needs %d", words(d), d.Never, most, o.degree)
	}
	if d.Summary == "" {
		r.t.Fatalf("%s without a summary", words(d))
	}
}

// candidates checks that every card of an order is spoken of.
func (r *referee) candidates(o *wish, d scheduler.Decision, chosen []int) {
	r.t.Helper()
	needs := slices.Clone(o.needs)
	for k, c := range o.Cards {
		if !slices.ContainsFunc(needs, func(n need) bool { return n.card == c }) {
			needs = append(needs, need{c, o.Need[k]})
		}
	}
	if o.wakes == nil && len(d.Candidates) != len(o.Cards) || len(d.Candidates) < len(o.Cards) {
		r.t.Fatalf("%s has %d candidates of %d cards", words(d), len(d.Candidates), len(o.Cards))
	}
	for _, c := range d.Candidates {
		if c.Verdict == "" || c.Room != r.rooms[c.Card] {
			r.t.Fatalf("%s: candidate %+v, its room is %d", words(d), c, r.rooms[c.Card])
		}
		if chosen != nil && c.Chosen != slices.Contains(chosen, c.Card) {
			r.t.Fatalf("%s: candidate %+v, chosen are %v", words(d), c, chosen)
		}
		if !slices.ContainsFunc(needs, func(n need) bool { return n.card == c.Card && (n.bytes == c.Need) }) && d.Kind != scheduler.Refuse && o.wakes == nil {
			r.t.Fatalf("%s: candidate %+v, needs are %v", words(d), c, needs)
		}
	}
}
