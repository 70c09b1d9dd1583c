package vramman

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file carries decisions out: a start from the grant of its gates until
// the instance is ready, and the stops that make room for it.

// load is a start that has been decided and holds the gates of its cards.
//
//	victims stop → their VRAM is seen free → the cards are read again →
//	the room is reserved → the server starts, answers, is measured → ready
type load struct {
	instance *Instance
	cards    []string    // where it goes
	need     []int64     // on each of them
	victims  []*Instance // not gone yet
	began    time.Time
	reason   string
	// fresh is the number of the last reading begun before the room was free;
	// the start is confirmed by a later one. It counts once victims is empty.
	fresh    uint64
	reserved bool // charged, and the server is being started
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

// decide asks the scheduler until its plan could be carried out as a whole.
func (o *owner) decide(now time.Time) {
	for range 16 {
		o.again = false
		o.demands(now)
		o.keepGates()
		o.learn(now)
		o.want()
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
	case scheduler.Start:
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
	case scheduler.Drain:
		o.drain(now, o.instance(d.Instance), d.Reason)
	case scheduler.Wait:
		o.waits(now, d)
	case scheduler.Refuse:
		r := o.record(d.Model)
		if r.waiting != d.Reason {
			o.decided(now, "refuse", d.Model, nil, nil, d.Reason)
		}
		if r.spec.AlwaysOn {
			r.waiting = d.Reason // it asks again by itself
			o.answer(r, o.unplaceable(d))
			return true
		}
		o.endDemand(r, o.unplaceable(d))
	}
	return true
}

func (o *owner) unplaceable(d scheduler.Decision) *Error {
	return &Error{Code: CodeUnplaceable, Model: d.Model, Message: "no room in VRAM: " + d.Summary}
}

// answer ends the wait of all who wait for a model that goes on being needed.
func (o *owner) answer(r *record, err error) {
	for _, w := range r.demand.waiters {
		w.fail(err)
	}
	r.demand.waiters = nil
}

func (o *owner) waits(now time.Time, d scheduler.Decision) {
	r := o.record(d.Model)
	if r.waiting == "" {
		o.decided(now, "wait", d.Model, nil, nil, d.Reason)
	}
	r.waiting = d.Reason
}

// grant begins a load: it claims the victims, all or none, takes the gates and
// has the victims stopped.
func (o *owner) grant(now time.Time, s *scheduler.State, d scheduler.Decision) bool {
	var victims []*Instance
	for _, id := range d.Victims {
		v := o.instance(id)
		if !v.word.claim(StateReady, StateStopping) {
			for _, c := range victims {
				c.word.set(StateReady)
			}
			return false
		}
		victims = append(victims, v)
	}
	r := o.record(d.Model)
	l := &load{instance: r.current, victims: victims, began: now, reason: d.Reason, fresh: o.readings}
	for _, c := range d.Cards {
		l.cards = append(l.cards, s.Cards[c].UUID)
		l.need = append(l.need, o.needOf(r).On(s.Cards[c].Card))
	}
	var gates []string
	for _, g := range d.Gates {
		gates = append(gates, s.Cards[g].UUID)
	}
	o.loads = append(o.loads, l)
	o.hold(gates, l.holder())
	r.waiting = ""
	o.decided(now, "start", d.Model, l.instance, l.cards, d.Reason)
	if r.loadTime > 0 {
		r.model.readyAt.Store(now.Add(r.loadTime).UnixNano())
	}
	for _, v := range victims {
		seen := slices.IndexFunc(s.Instances, func(x scheduler.Instance) bool { return x.ID == v.id })
		o.stopInstance(now, v, "evict", fmt.Sprintf("%s needs its room; chosen by %s, %s", d.Model, s.Policy.Name(), s.Policy.Why(&s.Instances[seen], now)))
	}
	if len(victims) == 0 {
		o.wantReading()
	}
	return true
}

// advance takes each load as far as it can go after a reading.
func (o *owner) advance(now time.Time, number uint64) {
	for _, l := range slices.Clone(o.loads) {
		if !l.reserved && len(l.victims) == 0 && number > l.fresh {
			o.confirm(now, l)
		}
	}
}

// confirm reserves the room for a load if the cards, just read, still have it,
// and starts the server.
func (o *owner) confirm(now time.Time, l *load) {
	i := l.instance
	for n, c := range l.cards {
		if room := o.ledger.Room(c); room < l.need[n] || o.present(c) == nil {
			o.decided(now, "replan", i.model.name, i, l.cards,
				fmt.Sprintf("%s was read again and has %v of room, not the %v needed", c, ledger.Size(room), ledger.Size(l.need[n])))
			o.endLoad(l)
			return
		}
	}
	i.cards, i.need = l.cards, l.need
	for n, c := range l.cards {
		// The card was found in the ledger a moment ago.
		if err := o.ledger.Charge(c, i.id, l.need[n]); err != nil {
			o.log.DPanic("charging", zap.Error(err))
		}
		if card, _ := o.ledger.Card(c); i.total == 0 || card.Total < i.total {
			i.total, i.share = card.Total, l.need[n]
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
	r.loadTime = now.Sub(i.started)
	o.usage.Loaded(r.model.name, r.loadTime)
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
	o.decided(now, "ready", r.model.name, i, i.cards, o.measurement(i, now))
	for _, w := range waiters {
		if !w.grant(i) {
			i.word.release()
		}
	}
	o.endLoad(l)
}

// measurement says what an instance was found to use.
func (o *owner) measurement(i *Instance, now time.Time) string {
	s := fmt.Sprintf("loaded in %s", now.Sub(i.started).Round(time.Millisecond))
	for n, c := range i.cards {
		if m := i.measured[c]; m > 0 {
			s += fmt.Sprintf("; %s: %v measured, %v declared", c, ledger.Size(m), ledger.Size(i.need[n]))
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
	if r.current == i {
		r.current = nil
	}
	o.publish(r)
	o.decided(now, "drain", r.model.name, i, i.cards, reason)
	o.again = true
}

func (o *owner) hold(cards []string, who string) {
	for _, c := range cards {
		o.gates[c] = who
	}
}

// keepGates has stopping instances hold the gates of their cards that nobody
// else holds: victims whose load has ended, servers that died, and one that
// still stops where another has gone. Nobody starts beside memory that is being
// freed.
func (o *owner) keepGates() {
	for _, i := range o.instances {
		if i.word.state() != StateStopping {
			continue
		}
		for _, c := range i.cards {
			if o.gates[c] == "" {
				o.gates[c] = "stop " + i.id
			}
		}
	}
}

func (o *owner) free(who string) {
	for c, h := range o.gates {
		if h == who {
			delete(o.gates, c)
		}
	}
}

func (o *owner) instance(id string) *Instance {
	for _, i := range o.instances {
		if i.id == id {
			return i
		}
	}
	return nil
}
