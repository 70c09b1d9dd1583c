package vramman

import (
	"slices"
)

// This file is invariant 3: one gate holder per card, and nobody starts or stops
// on a card beside another.

// checkAlone sees to it that nobody else sizes itself or frees memory on the
// cards of an instance that starts, or sizes itself where one stops.
func (w *world) checkAlone(i *Instance) {
	starts := i.word.state() == StateStarting || i.word.state() == StateWaking
	for _, x := range w.owner.instances {
		if x == i || !slices.ContainsFunc(x.cards, func(c string) bool { return slices.Contains(i.cards, c) }) {
			continue
		}
		switch s := x.word.state(); s {
		case StateStarting, StateMeasuring, StateWaking:
			w.breaks(3, "%s (%v) on %v, and %s is %v beside it", i.id, i.word.state(), i.cards, x.id, s)
		case StateStopping, StateSleeping:
			w.must(!starts, 3, "%s starts on %v, and %s is %v beside it", i.id, i.cards, x.id, s)
		}
	}
}

// checkGates sees to it that gates and loads are held by those who may, no
// longer than they may.
func (w *world) checkGates() {
	o := w.owner
	for c, who := range o.gates {
		stopping := slices.ContainsFunc(o.instances, func(i *Instance) bool {
			return (who == "stop "+i.id && i.word.state() == StateStopping || who == "sleep "+i.id && i.word.state() == StateSleeping) && slices.Contains(i.cards, c)
		})
		w.must(stopping || o.loadHolding(who) != nil, 3, "the gate of %s is held by %q, which is over", c, who)
	}
	for _, l := range o.loads {
		if len(l.victims) > 0 {
			w.hadVictims[l] = w.now
		}
		for _, v := range l.victims {
			w.must(v.word.state() == StateStopping || v.word.state() == StateSleeping, 3, "%s waits for %s, which is %v", l.instance.id, v.id, v.word.state())
		}
	}
	operations := make(map[string]string) // card → who starts or stops there
	for _, i := range o.instances {
		switch state := i.word.state(); state {
		case StateStarting, StateMeasuring:
			w.checkGateOf(i, operations)
			w.must(state != StateStarting || !w.now.After(i.started.Add(i.start)), 6, "%s starts for longer than its start_timeout", i.id)
		case StateSleeping, StateWaking:
			w.checkGateOf(i, operations)
		case StateStopping:
			if !o.closing {
				w.checkGateOf(i, operations)
			}
			w.must(!w.now.After(o.releaseBy(i)), 6, "%s is stopping for too long", i.id)
			w.must(i.stopAsked || i.ended || !i.stopAgain.IsZero(), 2, "%s is stopping, and nobody stops it", i.id)
		}
	}
}

// checkGateOf sees to it that whoever starts or stops on a card holds its gate.
func (w *world) checkGateOf(i *Instance, operations map[string]string) {
	o, state := w.owner, i.word.state()
	for _, c := range i.cards {
		holder := o.gates[c]
		w.must(holder != "", 3, "%s is %v on %s and nobody holds the gate", i.id, state, c)
		if state == StateStopping && i.ended {
			continue // it may have died while another held the gate
		}
		if l := o.loadHolding(holder); l != nil {
			w.must(l.instance == i || slices.Contains(l.victims, i), 3, "%s is %v on %s, whose gate is held by %s", i.id, state, c, holder)
		} else { // two victims of a load that has ended share it
			stops := slices.ContainsFunc(o.instances, func(x *Instance) bool {
				return holder == "stop "+x.id && x.word.state() == StateStopping || holder == "sleep "+x.id && x.word.state() == StateSleeping
			})
			w.must(stops, 3, "%s is %v on %s, whose gate is held by %s, which does not stop", i.id, state, c, holder)
		}
		other := operations[c]
		w.must(other == "" || other == holder, 3, "%s and %s at once on %s", other, holder, c)
		operations[c] = holder
	}
}

func (o *owner) loadHolding(holder string) *load {
	for _, l := range o.loads {
		if l.holder() == holder {
			return l
		}
	}
	return nil
}
