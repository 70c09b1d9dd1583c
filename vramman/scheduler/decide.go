package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// Decide says what to do now. Its decisions are meant to be carried out in
// their order; when one cannot be (an instance that was idle got a request
// meanwhile), the rest is void and Decide is to be asked again.
//
// Instances that are leaving, or idle for longer than they may, stop first.
// Then each demand, first come first served:
//
//  1. A card with room as it is: start there, or wait for its gate. Room that is
//     about to come, since who holds it is stopping, is waited for, too.
//  2. Room after stopping idle instances: stop those, in the policy's order,
//     the young ones (below their minimum residency) last, and start.
//  3. Room once busy instances are idle or others have ended: wait for them.
//     After MaxWaitForTurn those in the way are drained, and the cards are
//     kept from every later demand, so that nobody waits for ever.
//  4. No room whatever ends: refuse, with the figures.
func Decide(s *State) Plan {
	mine := *s
	mine.Instances = slices.Clip(s.Instances) // reserve appends: never into the caller's array
	d := decider{State: &mine}
	d.cards = make([]placement.Card, len(s.Cards))
	d.gates = make([]string, len(s.Cards))
	d.kept = make([]string, len(s.Cards))
	for i, c := range s.Cards {
		d.cards[i] = placement.Card{Card: c.Card, Charged: c.Charged}
		d.gates[i] = c.Gate
	}
	d.taken = make([]bool, len(s.Instances))
	d.order = make([]int, len(s.Instances))
	for i := range d.order {
		d.order[i] = i
	}
	slices.SortFunc(d.order, d.compare)
	d.stops()
	for i := range s.Demands {
		d.demand(&s.Demands[i])
	}
	return d.plan
}

// decider is one decision in the making: the state, and what the decisions so
// far have done to it.
type decider struct {
	*State
	cards []placement.Card
	gates []string // per card, who holds the gate
	kept  []string // per card, the model whose turn it is kept for
	taken []bool   // per instance: stopped by a decision of this plan
	order []int    // the instances, those first that should go first
	plan  Plan

	// Scratch of victims and hopes.
	offered  []placement.Victim
	numbers  []int
	outlooks []outlook
}

// compare puts instances past their residency before young ones, and each kind
// in the policy's order.
func (d *decider) compare(a, b int) int {
	x, y := &d.Instances[a], &d.Instances[b]
	if young := x.young(d.Now); young != y.young(d.Now) {
		if young {
			return 1
		}
		return -1
	}
	switch {
	case d.Policy.Less(x, y):
		return -1
	case d.Policy.Less(y, x):
		return 1
	}
	return cmp.Compare(x.ID, y.ID)
}

// stops ends what should end without anybody's demand.
func (d *decider) stops() {
	for n := range d.Instances {
		i := &d.Instances[n]
		var reason string
		switch {
		case i.Phase == Draining && i.Expired:
			reason = "its drain deadline has passed"
		case i.Phase == Draining && i.Leases == 0:
			reason = "it has been drained"
		case i.Phase == Ready && i.Leaving && !i.busy():
			reason = "the configuration no longer has it"
		case i.Phase == Ready && i.IdleTimeout > 0 && !i.AlwaysOn:
			if i.busy() {
				d.plan.wakeAt(d.Now.Add(i.IdleTimeout)) // not idle for long enough before
				continue
			}
			if end := i.LastUsed.Add(i.IdleTimeout); d.Now.Before(end) {
				d.plan.wakeAt(end)
				continue
			}
			reason = fmt.Sprintf("no request for %v", i.IdleTimeout)
		default:
			continue
		}
		if d.gatesFree(i.Cards) {
			d.take(n)
			d.plan.Decisions = append(d.plan.Decisions, Decision{
				Kind: Stop, Model: i.Model, Instance: i.ID, Gates: slices.Clone(i.Cards), Reason: reason,
			})
			d.hold(i.Cards, "stopping "+i.ID)
		}
	}
}

// demand decides about one model that should run.
func (d *decider) demand(q *Demand) {
	all := placement.Request{Need: q.Need, Degree: q.Degree, Cards: d.usable(q.Cards)}
	if len(q.Cards) < q.Degree {
		reason := fmt.Sprintf("%s wants %d cards, pool %s has %d that are there", q.Model, q.Degree, q.Pool, len(q.Cards))
		d.refuse(q, reason, reason)
		return
	}
	free := all
	free.Cards = d.withFreeGate(all.Cards)

	if c, ok := placement.Place(d.cards, nil, all); ok {
		if now, ok := placement.Place(d.cards, nil, free); ok {
			d.start(q, now, nil)
			return
		}
		d.wait(q, c, nil, "room on "+d.names(c.Cards)+", waiting for "+d.holders(c.Cards))
		return
	}
	coming, soon := d.victims(func(i *Instance) bool {
		return i.Phase == Stopping || i.Phase == Draining && i.Leases == 0
	})
	if c, ok := placement.Place(d.cards, coming, all); ok {
		d.wait(q, c, pick(soon, c.Victims), "")
		return
	}
	victims, numbers := d.victims(func(i *Instance) bool {
		return i.Phase == Ready && !i.AlwaysOn && !i.busy() && d.gatesFree(i.Cards)
	})
	if c, ok := placement.Place(d.cards, victims, free); ok {
		d.start(q, c, pick(numbers, c.Victims))
		return
	}
	d.waitOrRefuse(q, all)
}

// waitOrRefuse decides about a demand that has no room now.
func (d *decider) waitOrRefuse(q *Demand, r placement.Request) {
	victims, numbers := d.hopes(q)
	c, ok := placement.Place(d.cards, victims, r)
	if ok {
		d.wakeForOutlook(q, numbers)
		d.wait(q, c, pick(numbers, c.Victims), "")
		return
	}
	// That cards are kept for another's turn is no reason to refuse.
	r.Cards = q.Cards
	if _, ok := placement.Place(d.cards, victims, r); ok {
		d.plan.Decisions = append(d.plan.Decisions, Decision{
			Kind: Wait, Model: q.Model, Reason: "other models have waited for longer: " + join(d.keptFor(q.Cards)),
		})
		return
	}
	d.refuse(q, d.explain(q), d.summarize(q))
}

// outlook is how soon a demand may hope that an instance makes room for it.
type outlook int

// The outlooks, the best first. Whoever is starting comes after those who
// serve: to wait for it is to wait for its start, and then for its turn.
const (
	goingAnyway outlook = iota
	idle                // and lacks only a gate
	turnOver            // busy, and to be drained
	turnToCome          // busy, and not to be drained yet
	starting
	never
)

func (d *decider) outlook(q *Demand, i *Instance) outlook {
	switch {
	case i.Phase == Unreleased:
		return never
	case i.Phase == Stopping, i.Phase == Draining, i.Leaving:
		return goingAnyway
	case i.AlwaysOn:
		return never
	case i.Phase == Starting:
		return starting
	case !i.busy():
		return idle
	case d.Now.Before(d.turn(q, i)):
		return turnToCome
	}
	return turnOver
}

// hopes returns all instances that may make room for a demand some day, those
// with the best outlook first, and their numbers.
func (d *decider) hopes(q *Demand) ([]placement.Victim, []int) {
	d.outlooks = d.outlooks[:0]
	for _, n := range d.order {
		d.outlooks = append(d.outlooks, d.outlook(q, &d.Instances[n]))
	}
	d.offered, d.numbers = d.offered[:0], d.numbers[:0]
	for o := range never {
		for k, n := range d.order {
			if d.outlooks[k] == o && !d.taken[n] {
				d.offer(n)
			}
		}
	}
	return d.offered, d.numbers
}

// wakeForOutlook asks to be woken when time changes the order in which a
// waiting demand looks at instances: when a turn comes, or youth ends.
func (d *decider) wakeForOutlook(q *Demand, numbers []int) {
	for _, n := range numbers {
		i := &d.Instances[n]
		if turn := d.turn(q, i); i.Phase == Ready && d.Now.Before(turn) {
			d.plan.wakeAt(turn)
		}
		if i.young(d.Now) {
			d.plan.wakeAt(i.ReadySince.Add(i.MinResidency))
		}
	}
}

// start begins a start: it takes the gates, and the room that the victims leave.
func (d *decider) start(q *Demand, c placement.Choice, victims []int) {
	dec := Decision{Kind: Start, Model: q.Model, Cards: c.Cards, Gates: slices.Clone(c.Cards)}
	need := d.need(q, c.Cards[0])
	if len(victims) == 0 {
		dec.Reason = fmt.Sprintf("%v per card fit on %s: %s", need, d.names(c.Cards), d.rooms(c.Cards))
	} else {
		before := d.rooms(c.Cards)
		var names []string
		for _, v := range victims {
			i := &d.Instances[v]
			names = append(names, fmt.Sprintf("%s (%s, frees %v per card)", i.ID, d.Policy.Why(i, d.Now), ledger.Size(i.Charges[0])))
			dec.Victims = append(dec.Victims, i.ID)
			for _, g := range i.Cards {
				if !slices.Contains(dec.Gates, g) {
					dec.Gates = append(dec.Gates, g)
				}
			}
			d.take(v)
		}
		dec.Reason = fmt.Sprintf("%v per card on %s, with %s; evicting by %s: %s", need, d.names(c.Cards), before, d.Policy.Name(), join(names))
	}
	d.reserve(q, c.Cards)
	d.hold(dec.Gates, "starting "+q.Model)
	d.plan.Decisions = append(d.plan.Decisions, dec)
}

// reserve adds the instance that a start will make, so that later demands see
// that it holds the room, and may wait for it.
func (d *decider) reserve(q *Demand, cards []int) {
	i := Instance{ID: q.Model, Model: q.Model, Phase: Starting, Cards: cards, AlwaysOn: q.AlwaysOn}
	for _, c := range cards {
		i.Charges = append(i.Charges, int64(d.need(q, c)))
		d.cards[c].Charged += int64(d.need(q, c))
	}
	d.order = append(d.order, len(d.Instances))
	d.taken = append(d.taken, false)
	d.Instances = append(d.Instances, i)
}

// wait has a demand wait for a choice that is not possible yet. Once its turn
// has come it drains what is in its way, all at the same time: none earlier,
// as nobody gains by it, and the idle as well as the busy, as they could be
// busy again by the time that the others are gone.
func (d *decider) wait(q *Demand, c placement.Choice, victims []int, reason string) {
	var names, drains []string
	concerned := slices.Clone(c.Cards)
	together := true
	for _, v := range victims {
		i := &d.Instances[v]
		for _, card := range i.Cards {
			if !slices.Contains(concerned, card) {
				concerned = append(concerned, card)
			}
		}
		names = append(names, fmt.Sprintf("%s (%s)", i.ID, d.doing(i)))
		switch {
		case i.Phase == Starting, i.Phase == Ready && d.Now.Before(d.turn(q, i)):
			together = false
		case i.Phase == Ready:
			drains = append(drains, i.ID)
		}
	}
	if !together {
		drains = nil
	}
	if reason == "" {
		names = append(append(names, d.heldGates(concerned)...), d.keptFor(concerned)...)
		reason = fmt.Sprintf("%v per card on %s, waiting for %s", d.need(q, c.Cards[0]), d.names(c.Cards), join(names))
	}
	for _, id := range drains {
		d.plan.Decisions = append(d.plan.Decisions, Decision{
			Kind: Drain, Model: q.Model, Instance: id,
			Reason: fmt.Sprintf("%s has waited for %v for its turn", q.Model, d.Now.Sub(q.Since).Round(time.Second)),
		})
	}
	due := q.Since.Add(d.MaxWaitForTurn)
	if d.Now.Before(due) {
		d.plan.wakeAt(due)
	} else {
		for _, card := range c.Cards {
			d.kept[card] = q.Model
		}
	}
	d.plan.Decisions = append(d.plan.Decisions, Decision{Kind: Wait, Model: q.Model, Reason: reason})
}

// turn is when an instance must go for a demand: MaxWaitForTurn after the
// demand began. An instance that was asked for before the demand has its own
// turn of that length first, from when it was ready, so that two models that
// are always busy swap at that pace and no faster.
func (d *decider) turn(q *Demand, i *Instance) time.Time {
	since := q.Since
	if !i.DemandSince.After(q.Since) && i.ReadySince.After(since) {
		since = i.ReadySince
	}
	return since.Add(d.MaxWaitForTurn)
}

func (d *decider) refuse(q *Demand, reason, summary string) {
	d.plan.Decisions = append(d.plan.Decisions, Decision{Kind: Refuse, Model: q.Model, Reason: reason, Summary: summary})
}

// take counts an instance as gone from its cards.
func (d *decider) take(n int) {
	d.taken[n] = true
	i := &d.Instances[n]
	for n, c := range i.Cards {
		d.cards[c].Charged -= i.Charges[n]
	}
}

func (d *decider) hold(cards []int, who string) {
	for _, c := range cards {
		d.gates[c] = who
	}
}

// gatesFree says whether all gates can be had: nobody holds them, and they are
// not kept for an earlier demand.
func (d *decider) gatesFree(cards []int) bool {
	return !slices.ContainsFunc(cards, func(c int) bool { return d.gates[c] != "" || d.kept[c] != "" })
}

func (d *decider) withFreeGate(cards []int) []int {
	return slices.DeleteFunc(slices.Clone(cards), func(c int) bool { return d.gates[c] != "" })
}

// usable leaves out the cards that are kept for an earlier demand's turn.
func (d *decider) usable(cards []int) []int {
	return slices.DeleteFunc(slices.Clone(cards), func(c int) bool { return d.kept[c] != "" })
}

// victims returns the instances that match, those first that should go first,
// and their numbers. Both slices are good until the next call of it or of hopes.
func (d *decider) victims(match func(*Instance) bool) ([]placement.Victim, []int) {
	d.offered, d.numbers = d.offered[:0], d.numbers[:0]
	for _, n := range d.order {
		if !d.taken[n] && match(&d.Instances[n]) {
			d.offer(n)
		}
	}
	return d.offered, d.numbers
}

func (d *decider) offer(n int) {
	i := &d.Instances[n]
	d.offered = append(d.offered, placement.Victim{Instance: n, Cards: i.Cards, Charges: i.Charges})
	d.numbers = append(d.numbers, n)
}

func (d *decider) need(q *Demand, card int) ledger.Size {
	return ledger.Size(q.Need.On(d.cards[card].Card))
}

func pick(numbers, which []int) []int {
	out := make([]int, len(which))
	for i, w := range which {
		out[i] = numbers[w]
	}
	return out
}
