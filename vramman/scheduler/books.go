package scheduler

import (
	"fmt"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file keeps the books of a plan: what each of its decisions does to cards,
// gates and instances, so that those who come later see it.

// begin begins a start or wakes an instance: it takes the gates, and the room that
// the victims leave.
func (d *decider) begin(a *aim, p prospect) {
	dec := Decision{Kind: Start, Model: a.Model, Cards: p.choice.Cards, Candidates: d.candidates(a, p)}
	who := "starting " + a.Model
	if a.wakes != nobody {
		i := &d.Instances[a.wakes]
		dec.Kind, dec.Instance, dec.Cards = Wake, i.ID, slices.Clone(i.Cards)
		who = "waking " + i.ID
	}
	dec.Gates = slices.Clone(dec.Cards)
	before := d.rooms(dec.Cards)
	var names []string
	for _, v := range p.victims {
		i := &d.Instances[v.n]
		names = append(names, d.evicted(v))
		dec.Victims = append(dec.Victims, Victim{Instance: i.ID, Sleep: v.sleep})
		for _, g := range i.Cards {
			if !slices.Contains(dec.Gates, g) {
				dec.Gates = append(dec.Gates, g)
			}
		}
		if v.sleep {
			d.lull(v.n)
		} else {
			d.take(v.n)
		}
	}
	if len(names) == 0 {
		dec.Reason = fmt.Sprintf("%s fit on %s: %s", d.needs(a, dec.Cards), d.names(dec.Cards), before)
	} else {
		dec.Reason = fmt.Sprintf("%s on %s, with %s; evicting by %s: %s", d.needs(a, dec.Cards), d.names(dec.Cards), before, d.Policy.Name(), join(names))
	}
	dec.Reason += a.depth()
	d.reserve(a, dec.Cards)
	d.hold(dec.Gates, who)
	d.plan.Decisions = append(d.plan.Decisions, dec)
}

// reserve adds the instance that a start will make, or what one that is woken will
// be, so that later demands see that it holds the room, and may wait for it.
func (d *decider) reserve(a *aim, cards []int) {
	i := Instance{ID: a.Model, Model: a.Model, Phase: Starting, Cards: cards, AlwaysOn: a.AlwaysOn}
	if a.wakes != nobody {
		x := &d.Instances[a.wakes]
		i.ID, i.AlwaysOn, i.Charges = x.ID, x.AlwaysOn, x.Awake
		d.take(a.wakes)
	} else {
		for _, c := range cards {
			i.Charges = append(i.Charges, a.need[slices.Index(a.cards, c)])
		}
	}
	d.order = append(d.order, d.add(i))
}

// lull counts an instance as asleep, in the place that it has in the policy's order.
func (d *decider) lull(n int) {
	i := d.Instances[n]
	d.take(n)
	d.host -= i.HostBytes
	i.Phase, i.Awake, i.Charges, i.Resting = Asleep, i.Charges, i.Resting, nil
	d.order[slices.Index(d.order, n)] = d.add(i)
}

// add charges an instance that the state does not have, and returns its number.
func (d *decider) add(i Instance) int {
	n := len(d.Instances)
	d.Instances = append(d.Instances, i)
	d.taken, d.young = append(d.taken, false), append(d.young, false)
	for k, c := range i.Cards {
		d.cards[c].Charged += i.Charges[k]
		if d.on != nil {
			d.on[c] = append(d.on[c], n)
		}
	}
	return n
}

// take counts an instance as gone from its cards.
func (d *decider) take(n int) {
	d.taken[n] = true
	i := &d.Instances[n]
	for k, c := range i.Cards {
		d.cards[c].Charged -= i.Charges[k]
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

// unheld says whether nobody holds the gates of some cards, kept or not.
func (d *decider) unheld(cards []int) bool {
	return !slices.ContainsFunc(cards, func(c int) bool { return d.gates[c] != "" })
}

// charged lists the instances on a card.
func (d *decider) charged(card int) []int {
	if d.on == nil {
		d.on = make([][]int, len(d.cards))
		for n := range d.Instances {
			for _, c := range d.Instances[n].Cards {
				d.on[c] = append(d.on[c], n)
			}
		}
	}
	return d.on[card]
}

// chargeOn is what an instance is charged on one of its cards.
func (i *Instance) chargeOn(card int) ledger.Size {
	return ledger.Size(i.Charges[slices.Index(i.Cards, card)])
}
