package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about the end of instances: it is over only when their VRAM is
// seen to be free.

const (
	// releaseTimeout is how long a gate is held for VRAM that does not become
	// free after its server has ended. The charge stays.
	releaseTimeout = 30 * time.Second
	// releaseInterval is how often the cards are read while VRAM is expected
	// to become free.
	releaseInterval = 100 * time.Millisecond
	// diedSoon is the age below which the death of an instance counts as one
	// in a row.
	diedSoon = time.Minute
)

// stopInstance has an instance stopped whose state is stopping already.
func (o *owner) stopInstance(now time.Time, i *Instance, action, reason string) {
	r := i.record
	i.since, i.stage = now, ""
	o.lose(i)
	o.publish(r)
	o.decided(now, action, r.model.name, i, i.cards, reason)
	o.askStop(i)
}

// askStop has a worker stop the server, or has the start given up that has not
// come to a server yet.
func (o *owner) askStop(i *Instance) {
	if i.stopAsked {
		return
	}
	i.stopAsked = true
	if i.running != nil {
		o.fx.stop(i)
	} else {
		o.fx.abandon(i)
	}
}

// halt ends an instance in whatever state it is, without waiting for its leases.
func (o *owner) halt(now time.Time, i *Instance, reason string) {
	switch i.word.state() {
	case StateFetching:
		o.decided(now, "stop", i.model.name, i, nil, reason)
		o.fx.abandon(i)
		o.endLoad(o.loadOf(i))
		o.gone(i)
	case StateStarting, StateMeasuring, StateReady, StateSleeping, StateAsleep, StateWaking, StateDraining:
		i.word.set(StateStopping)
		o.free("sleep " + i.id)
		o.stopInstance(now, i, "stop", reason)
	}
}

// exited is told that a server has ended, asked or not.
func (o *owner) exited(now time.Time, e exitedEvent) {
	i, r := e.i, e.i.record
	if i.ended {
		return
	}
	switch i.word.state() {
	case StateStarting, StateMeasuring:
		line := i.failure
		if line.Class == server.ClassNone {
			line = server.Line{Class: server.ClassExited, Why: fmt.Sprintf("its server ended while it started (%v)", e.exit)}
		}
		i.word.set(StateStopping)
		i.since = now
		o.log.Error("a server ended while it started", zap.String("instance", i.id), zap.String("class", string(line.Class)),
			zap.Stringer("exit", e.exit), zap.Strings("last_lines", i.tail.Last(20)))
		o.decided(now, "failed", r.model.name, i, i.cards, line.Why)
		o.failed(now, i, line.Class, line.Why)
	case StateSleeping, StateAsleep, StateWaking:
		if i.word.state() != StateAsleep { // it died of it
			r.sleepless = now.Add(sleepless)
		}
		i.word.set(StateStopping)
		i.since = now
		o.free("sleep " + i.id)
		o.log.Error("a server died asleep", zap.String("instance", i.id), zap.Stringer("exit", e.exit), zap.Strings("last_lines", i.tail.Last(20)))
		o.decided(now, "failed", r.model.name, i, i.cards, fmt.Sprintf("its server died asleep (%v)", e.exit))
		o.endLoad(o.loadOf(i)) // who wanted it awake gets a new one
	case StateReady, StateDraining:
		i.word.set(StateStopping)
		if now.Sub(i.readySince) >= diedSoon {
			r.failure = nil
		}
		o.log.Error("a server died", zap.String("instance", i.id), zap.Stringer("exit", e.exit), zap.Strings("last_lines", i.tail.Last(20)))
		o.decided(now, "failed", r.model.name, i, i.cards, fmt.Sprintf("its server died (%v)", e.exit))
		first := r.current == i // one that drains has a successor, which may be well
		o.lose(i)
		if first && r.current == nil {
			o.failed(now, i, server.ClassDied, fmt.Sprintf("its server died (%v)", e.exit))
			r.preload = r.preload || r.spec != nil && r.spec.Preload
		}
		i.since = now
		o.publish(r)
	}
	o.lose(i)
	o.hasEnded(now, i)
}

// stopped is told that an asked stop is over.
func (o *owner) stopped(now time.Time, e stoppedEvent) {
	if e.err != nil {
		// Nobody knows whether the server lives: its charge stays, and the stop
		// is asked for again.
		o.log.Error("an instance could not be stopped", zap.String("instance", e.i.id), zap.Error(e.err))
		e.i.stopAsked = false
		e.i.stopAgain = now.Add(stopRetry)
		return
	}
	o.hasEnded(now, e.i)
}

// stopRetry is how long to wait before a failed stop is tried again.
const stopRetry = 5 * time.Second

// hasEnded begins the wait for an ended server's VRAM.
func (o *owner) hasEnded(now time.Time, i *Instance) {
	if i.ended {
		return
	}
	i.ended, i.endedAt, i.fresh = true, now, o.readings
	if i.transport != nil {
		i.transport.CloseIdleConnections()
	}
	o.wantReading()
}

// releases looks, after a reading, whose VRAM has become free.
func (o *owner) releases(now time.Time, number uint64) {
	for _, i := range slices.Clone(o.instances) {
		if !i.ended || number <= i.fresh {
			continue
		}
		if !o.holdsMemory(i) {
			o.decided(now, "gone", i.model.name, i, i.cards, o.seenFree(i))
			o.gone(i)
		}
	}
}

// overdue frees the gates of instances whose VRAM has not become free in time.
func (o *owner) overdue(now time.Time, i *Instance) {
	if i.word.state() != StateStopping || now.Before(o.releaseBy(i)) {
		return
	}
	reason := "its server has not stopped; it stays charged"
	if i.ended {
		reason = fmt.Sprintf("its server ended %v ago, but its VRAM is not free; it stays charged", releaseTimeout)
	}
	i.enter(StateUnreleased, now)
	o.decided(now, "unreleased", i.model.name, i, i.cards, reason)
	o.free("stop " + i.id)
	if i.listed.lost { // the engine was wrong, it seems, and nobody else would end it
		o.askStop(i)
	}
	o.wantReading() // whoever waited for it starts by a new one
	for _, l := range slices.Clone(o.loads) {
		if l.instance == i || slices.Contains(l.victims, i) {
			o.endLoad(l)
		}
	}
}

// releaseBy is when the wait for a stopping instance's VRAM ends.
func (o *owner) releaseBy(i *Instance) time.Time {
	if i.ended {
		return i.endedAt.Add(releaseTimeout)
	}
	return i.since.Add(i.stop + releaseTimeout)
}

// seenFree says why an instance's charge ends. Where nobody measures, or nobody
// knows whose it is, the end of its server has to do; what that leaves on a card
// whose use is known at all counts as foreign from then on.
func (o *owner) seenFree(i *Instance) string {
	for n := range o.cards {
		c := &o.cards[n]
		if (c.Unmeasured || c.Unattributed) && slices.Contains(i.cards, c.UUID) {
			return "its server has ended; whether its VRAM is free is not measured"
		}
	}
	return "its VRAM is seen to be free"
}

// holdsMemory says whether a process of the instance still uses one of its cards.
func (o *owner) holdsMemory(i *Instance) bool {
	for _, uuid := range i.cards {
		c := o.present(uuid)
		if c == nil {
			if i.inventory != o.inventory {
				continue // nobody will ever see that card again
			}
			return true // not seen is not free
		}
		for _, p := range c.Processes {
			if i.pids[p.PID] {
				return true
			}
		}
	}
	return false
}

// gone ends the charge of an instance, and lets those go on that waited for it.
func (o *owner) gone(i *Instance) {
	i.word.set(StateGone)
	o.ledger.Release(i.id)
	o.instances = slices.DeleteFunc(o.instances, func(x *Instance) bool { return x == i })
	o.lose(i)
	o.free("stop " + i.id)
	o.endLoad(o.loadOf(i))
	o.madeRoom(i)
	o.wantList()
	o.closeUnused()
}

// madeRoom lets those loads go on that waited for an instance's room.
func (o *owner) madeRoom(i *Instance) {
	for _, l := range o.loads {
		n := len(l.victims)
		l.victims = slices.DeleteFunc(l.victims, func(v *Instance) bool { return v == i })
		if n > 0 && len(l.victims) == 0 {
			l.fresh = o.readings
			o.wantReading()
		}
	}
	o.again = true
}
