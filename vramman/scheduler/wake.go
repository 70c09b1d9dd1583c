package scheduler

import (
	"fmt"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// This file is about demands whose model is asleep.

// wakeOrReplace decides about such a demand. It returns false if there is no
// instance to wake, so that the demand is an ordinary one.
func (d *decider) wakeOrReplace(q *Demand) bool {
	n := slices.IndexFunc(d.Instances, func(i Instance) bool { return i.ID == q.Asleep && i.Phase == Asleep && len(i.Awake) == len(i.Charges) })
	if n < 0 {
		return false
	}
	i := &d.Instances[n]
	a := d.start(q)
	if d.taken[n] || i.Leaving {
		// It is not woken, and while it is there no other is started.
		d.stand(a, prospect{when: behind}, fmt.Sprintf("%s is asleep and about to stop", i.ID))
		d.want(a)
		return true
	}
	a = &aim{Demand: q, cards: i.Cards, degree: len(i.Cards), wakes: n, spent: nobody, due: d.due(q)}
	for k := range i.Awake {
		a.need = append(a.need, i.Awake[k]-i.Charges[k])
	}
	p := d.look(a)
	if p.when != now && d.replace(a, p) {
		return true
	}
	if p.when == hopeless {
		a = d.start(q)
		a.spent = n
	}
	d.settle(a, p)
	return true
}

// replace stops a sleeping instance that cannot be woken now, if a new one fares
// better: one that could be started at once, on other cards and at nobody's cost, or
// one that could be started at all where this one never wakes.
func (d *decider) replace(a *aim, p prospect) bool {
	i := &d.Instances[a.wakes]
	fresh := d.start(a.Demand)
	fresh.spent = a.wakes
	mayStop := d.unheld(i.Cards) && !(a.Gentle && !d.gatesFree(i.Cards))
	if mayStop {
		elsewhere := d.request(&d.requests[0], fresh, func(c int) bool {
			return d.gates[c] == "" && d.kept[c] == "" && !(a.Gentle && d.wanted[c]) && !slices.Contains(i.Cards, c)
		})
		if c, ok := d.place.Place(d.cards, nil, elsewhere); ok {
			d.stop(a.wakes, fmt.Sprintf("it cannot be woken now, and there is room for a new instance on %s: %s", d.names(c.Cards), d.rooms(c.Cards)))
			d.reserve(fresh, c.Cards) // nobody takes it before the demand is looked at again
			d.hold(c.Cards, "starting "+a.Model)
			return true
		}
	}
	if p.when != hopeless || !d.hopeful(fresh) {
		return false
	}
	if mayStop {
		d.stop(a.wakes, "there will be no room to wake it, and there may be for a new instance: "+d.explain(a))
	} else {
		d.stand(a, p, fmt.Sprintf("%s cannot be woken, and is to be stopped: waiting for %s", i.ID, join(append(d.heldGates(i.Cards), d.keptFor(i.Cards)...))))
	}
	d.want(a)
	return true
}

// hopeful says whether a start could be possible some day, or, for one that does
// not wait for that, soon.
func (d *decider) hopeful(a *aim) bool {
	var going []placement.Victim
	if a.rejects() {
		going, _ = d.coming(a)
	} else {
		going, _ = d.hopes(a)
	}
	_, ok := d.place.Place(d.cards, going, d.request(&d.requests[0], a, func(int) bool { return true }))
	return ok
}
