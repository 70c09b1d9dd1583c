package vramman

import (
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file asks the scheduler what to do, and begins it.

// decide asks the scheduler until its plan could be carried out as a whole.
func (o *owner) decide(now time.Time) {
	for range 16 {
		o.again = false
		o.demands(now)
		o.keepGates()
		o.learn(now)
		o.want(now)
		state := o.snapshot(now)
		plan := scheduler.Decide(&state)
		o.planNext = plan.Next
		if o.planned != nil {
			o.planned(&state, plan)
		}
		ok := true
		for _, d := range plan.Decisions {
			if ok = o.carryOut(now, &state, d); !ok {
				break // an instance was claimed by a request meanwhile: plan anew
			}
			if d.Kind != scheduler.Wait && d.Kind != scheduler.Refuse {
				o.again = true // what was decided before it may be decided otherwise now
			}
		}
		if ok && !o.again {
			return
		}
	}
	o.manager.wake() // requests keep slipping in: go on with the next event
}

// ready says whether the engine in force may start instances.
func (o *owner) ready() bool {
	if o.spec == nil {
		return false
	}
	h := o.engineOf(o.spec.Engine)
	return h != nil && h.engine != nil
}

// carryOut does what one decision says. False means that it could not, because
// an instance that was idle no longer is.
func (o *owner) carryOut(now time.Time, s *scheduler.State, d scheduler.Decision) bool {
	switch d.Kind {
	case scheduler.Start, scheduler.Wake:
		return o.grant(now, s, d)
	case scheduler.Stop:
		i := o.instance(d.Instance)
		from := i.word.state()
		if o.expired(i, now) {
			i.word.set(StateStopping)
		} else if !i.word.claim(from, StateStopping) {
			return false
		}
		o.hold(i.cards, "stop "+i.id)
		o.stopInstance(now, i, "stop", d.Reason)
	case scheduler.Sleep:
		i := o.instance(d.Instance)
		if !i.word.claim(StateReady, StateSleeping) {
			return false
		}
		o.hold(i.cards, "sleep "+i.id)
		o.putToSleep(now, i, d.Reason)
	case scheduler.Drain:
		o.drain(now, o.instance(d.Instance), d.Reason)
	case scheduler.Wait:
		o.waits(now, s, d)
	case scheduler.Refuse:
		r := o.record(d.Model)
		if r.demand == nil {
			return true // a replica, which asks for nothing
		}
		if r.waiting == "" || r.waiting != d.Reason && !now.Before(r.toldAt.Add(tellAgain)) {
			r.toldAt = now
			o.explained(now, "refuse", nil, s, d)
		}
		if r.spec.AlwaysOn || o.gentle(r) {
			r.waiting = d.Reason // it asks again by itself
			o.answer(r, o.unplaceable(d))
			return true
		}
		o.endDemand(r, o.unplaceable(d))
	}
	return true
}

// tellAgain is how often a model that goes on asking is told of being refused for
// another reason: figures change with each reading.
const tellAgain = time.Minute

func (o *owner) unplaceable(d scheduler.Decision) *Error {
	return &Error{Code: CodeUnplaceable, Model: d.Model, Message: "no room in VRAM: " + d.Summary, NoRetry: d.Never}
}

// answer ends the wait of all who wait for a model that goes on being needed.
func (o *owner) answer(r *record, err error) {
	for _, w := range r.demand.waiters {
		w.fail(err)
	}
	r.demand.waiters = nil
}

func (o *owner) waits(now time.Time, s *scheduler.State, d scheduler.Decision) {
	r := o.record(d.Model)
	if r.demand == nil {
		return // a replica
	}
	if r.waiting == "" {
		o.explained(now, "wait", nil, s, d)
	}
	r.waiting = d.Reason
}

// grant begins a load: it claims the victims, all or none, takes the gates and
// has the victims stopped.
func (o *owner) grant(now time.Time, s *scheduler.State, d scheduler.Decision) bool {
	victims, ok := o.claim(d.Victims)
	if !ok {
		return false
	}
	r := o.record(d.Model)
	l := &load{instance: r.starting(), victims: victims, began: now, reason: d.Reason, fresh: o.readings}
	action := "start"
	if d.Kind == scheduler.Wake {
		action, l.wakes, l.instance = "wake", true, o.instance(d.Instance)
		r.current = l.instance
	}
	for n, c := range d.Cards {
		l.cards = append(l.cards, s.Cards[c].UUID)
		if l.wakes {
			l.need = append(l.need, l.instance.awake(n))
		} else {
			l.footing = o.footingOn(r, s.Cards[c].Card, len(d.Cards)) // the cards are alike
			l.need = append(l.need, l.footing.bytes)
		}
	}
	var gates []string
	for _, g := range d.Gates {
		gates = append(gates, s.Cards[g].UUID)
	}
	o.loads = append(o.loads, l)
	o.hold(gates, l.holder())
	r.waiting = ""
	o.explained(now, action, l.instance, s, d)
	o.keepDegree(r, len(d.Cards))
	if expected := o.expectedLoad(r, l); expected > 0 {
		r.model.readyAt.Store(now.Add(expected).UnixNano())
	}
	for n, v := range victims {
		seen := slices.IndexFunc(s.Instances, func(x scheduler.Instance) bool { return x.ID == v.id })
		reason := fmt.Sprintf("%s needs its room; chosen by %s, %s", d.Model, s.Policy.Name(), s.Policy.Why(&s.Instances[seen], now))
		if d.Victims[n].Sleep {
			o.putToSleep(now, v, reason)
		} else {
			o.stopInstance(now, v, "evict", reason)
		}
	}
	if len(victims) == 0 {
		o.wantReading()
	}
	return true
}

// claim takes all victims of a decision, or none: one that got a request since is
// not to be had.
func (o *owner) claim(victims []scheduler.Victim) (claimed []*Instance, ok bool) {
	var were []State
	for _, victim := range victims {
		v := o.instance(victim.Instance)
		from, to := v.word.state(), StateStopping
		if victim.Sleep {
			to = StateSleeping
		}
		if from != StateReady && (from != StateAsleep || victim.Sleep) || !v.word.claim(from, to) {
			for n, c := range claimed {
				c.word.set(were[n])
			}
			return nil, false
		}
		claimed, were = append(claimed, v), append(were, from)
	}
	return claimed, true
}

// expectedLoad is how long a load will take once there is room; 0: not known.
func (o *owner) expectedLoad(r *record, l *load) time.Duration {
	if l.wakes {
		return o.wakeTime(l.instance)
	}
	return r.loadTime
}
