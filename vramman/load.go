package vramman

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about a load: a start or a waking that has been decided, until its
// instance is ready.

// load is a start that has been decided and holds the gates of its cards.
//
//	victims stop → their VRAM is seen free → the cards are read again →
//	the room is reserved → the server starts, answers, is measured → ready
type load struct {
	instance *Instance
	cards    []string    // where it goes
	need     []int64     // on each of them
	footing  footing     // where the need comes from
	victims  []*Instance // not gone yet
	began    time.Time
	reason   string
	// fresh is the number of the last reading begun before the room was free;
	// the start is confirmed by a later one. It counts once victims is empty.
	fresh    uint64
	reserved bool // charged, and the server is being started or woken
	wakes    bool // the instance is asleep, and is to be woken
}

// holder is the name under which the load holds its gates.
func (l *load) holder() string { return "start " + l.instance.id }

// loadOf is the load that an instance comes from, while it holds its gates.
func (o *owner) loadOf(i *Instance) *load {
	for _, l := range o.loads {
		if l.instance == i {
			return l
		}
	}
	return nil
}

// advance takes each load as far as it can go after a reading.
func (o *owner) advance(now time.Time, number uint64) {
	for _, l := range slices.Clone(o.loads) {
		if !l.reserved && len(l.victims) == 0 && number > l.fresh && !o.freeing(l) {
			o.confirm(now, l)
		}
	}
}

// freeing says whether somebody has died on a load's cards since it was granted,
// whose memory is not seen to be free yet: nobody starts beside that.
func (o *owner) freeing(l *load) bool {
	return slices.ContainsFunc(o.instances, func(i *Instance) bool {
		return i != l.instance && i.word.state() == StateStopping &&
			slices.ContainsFunc(i.cards, func(c string) bool { return slices.Contains(l.cards, c) })
	})
}

// confirm reserves the room for a load if the cards, just read, still have it,
// and starts the server.
func (o *owner) confirm(now time.Time, l *load) {
	i := l.instance
	for n, c := range l.cards {
		room := o.ledger.Room(c) + o.ledger.ChargeOf(c, i.id) // what it holds asleep is part of it
		if room < l.need[n] || o.present(c) == nil {
			o.decided(now, "replan", i.model.name, i, l.cards,
				fmt.Sprintf("%s was read again and has %v of room, not the %v needed", c, ledger.Size(room), ledger.Size(l.need[n])))
			o.endLoad(l)
			return
		}
	}
	if l.wakes {
		o.wakeUp(now, l)
		return
	}
	i.cards, i.need, i.footing, i.free = l.cards, l.need, l.footing, math.MaxInt64
	for n, c := range l.cards {
		// The card was found in the ledger a moment ago.
		if err := o.ledger.Charge(c, i.id, l.need[n]); err != nil {
			o.log.DPanic("charging", zap.Error(err))
		}
		card, _ := o.ledger.Card(c)
		if i.total == 0 || card.Total < i.total {
			i.total, i.share = card.Total, l.need[n]
		}
		seen := o.present(c)
		i.before[c] = seen.Used
		i.free = min(i.free, seen.Total-seen.Used)
		if seen.Unmeasured || seen.Total == 0 {
			i.free = 0
		}
	}
	l.reserved = true
	i.started = now
	i.stage = "starting"
	i.enter(StateStarting, now)
	i.inventory, i.environ = o.inventory, o.inventory.inventory.Environ()
	o.fx.start(i)
}

// startedOrNot is told what came of the engine's start.
func (o *owner) startedOrNot(now time.Time, e startedEvent) {
	i := e.i
	if e.err == nil {
		i.running, i.transport, i.authorization = e.run.running, e.run.transport, e.run.authorization
		i.listed.since = o.audit.lists
		for _, p := range e.run.pids {
			i.pids[p] = true
		}
		if i.word.state() != StateStarting { // to be stopped since
			o.fx.stop(i)
		}
		return
	}
	if i.word.state() == StateStarting {
		o.log.Error("the engine could not start a server", zap.String("instance", i.id), zap.Error(e.err))
		i.enter(StateStopping, now)
		o.decided(now, "failed", i.model.name, i, i.cards,
			cmp.Or(engine.Explanation(e.err), "the engine could not start its server; the gateway's log says why"))
		o.failed(now, i, server.ClassEngine, "the engine could not start its server; the gateway's status and log say why")
	}
	o.hasEnded(now, i)
}

func (o *owner) line(i *Instance, l server.Line) {
	switch state := i.word.state(); {
	case l.Stage == "":
	case state == StateFetching && !i.fetched:
		i.stage = l.Stage
	case state == StateStarting:
		i.stage = l.Stage
		o.wantReading() // its workers may be new, and are known by what they use
	}
	// What comes after the first is mostly its consequence.
	if l.Class != server.ClassNone && i.failure.Class == server.ClassNone {
		i.failure = l
	}
	i.facts = i.facts.Join(l.Facts)
}

// answered is told that the server is ready; before requests may come, what it
// uses is measured.
func (o *owner) answered(now time.Time, i *Instance) {
	if i.word.state() != StateStarting {
		return
	}
	i.enter(StateMeasuring, now)
	i.stage = "measuring"
	i.fresh = o.readings
	o.wantReading()
}

// measuredNow opens an instance to requests, those first that have waited.
func (o *owner) measuredNow(now time.Time, i *Instance) {
	r, l := i.record, o.loadOf(i)
	i.since, i.readySince, i.stage = now, now, ""
	i.lastUsed.Store(now.UnixNano())
	if l == nil || !l.wakes {
		r.loadTime = now.Sub(i.started)
		o.usage.Loaded(r.model.name, r.loadTime)
	}
	o.settle(now, i, true)
	i.grown = true // and once more when it has served
	o.wantList()
	if r.replicas.coming == i {
		r.replicas.coming, r.replicas.failed = nil, 0
	}
	r.preload, r.tuning.adjusted = false, false
	if r.failure != nil && r.failure.class != server.ClassDied {
		r.failure = nil
	}
	var waiters []*waiter
	if r.demand != nil {
		waiters = r.demand.waiters
	}
	r.demand, r.waiting = nil, ""
	i.word.grant(len(waiters))
	o.publish(r)
	o.decided(now, "ready", r.model.name, i, i.cards, o.measurement(i, l, now))
	for _, w := range waiters {
		if !w.grant(i) {
			i.word.release()
		}
	}
	o.endLoad(l)
}

// measurement says what an instance was found to use.
func (o *owner) measurement(i *Instance, l *load, now time.Time) string {
	s := fmt.Sprintf("loaded in %s", now.Sub(i.started).Round(time.Millisecond))
	if l != nil && l.wakes {
		s = fmt.Sprintf("woken in %s", now.Sub(i.nap.since).Round(time.Millisecond))
	}
	for n, c := range i.cards {
		if m := i.measured[c]; m > 0 {
			s += fmt.Sprintf("; %s: %v measured, %v reserved (%s)", c, ledger.Size(m), ledger.Size(i.need[n]), i.footing.source)
		}
	}
	return s
}

// endLoad frees the gates of a load, whether it came to an instance or not.
func (o *owner) endLoad(l *load) {
	if l == nil {
		return
	}
	o.loads = slices.DeleteFunc(o.loads, func(x *load) bool { return x == l })
	o.free(l.holder())
	l.instance.model.readyAt.Store(0) // ready, or nobody knows when
	if r := l.instance.record; l.wakes && !l.reserved && r.current == l.instance {
		r.current = nil // it sleeps on
	}
	o.again = true
}

// publish makes the model's ready instances known to requests, and has their
// number in its limits.
func (o *owner) publish(r *record) {
	var ready []*Instance
	for _, i := range o.instances {
		if i.record == r && i.word.state() == StateReady {
			ready = append(ready, i)
		}
	}
	r.model.ready.Store(&ready)
	o.limits(r)
}

// drain gives an instance no more requests; it stops once it has none, at the
// latest after the drain timeout.
func (o *owner) drain(now time.Time, i *Instance, reason string) {
	if i.word.state() != StateReady {
		return
	}
	i.enter(StateDraining, now)
	if i.drainBy.IsZero() {
		i.drainBy = now.Add(o.drainTimeout())
	}
	r := i.record
	o.lose(i)
	o.publish(r)
	o.decided(now, "drain", r.model.name, i, i.cards, reason)
	o.again = true
}
