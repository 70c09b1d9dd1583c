package vramman

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about who needs a model that is not ready, and how that ends.

// demand is the need for a model to start. It outlives attempts to start it.
type demand struct {
	since   time.Time
	waiters []*waiter // in the order in which they came; those that left are taken out
}

// failure is why a model is not started at present.
type failure struct {
	class   server.Class
	message string
	count   int // in a row
	chances int // how many of them were followed by another start at once
	until   time.Time
}

// acquire answers a request that found no ready instance, or has it wait.
func (o *owner) acquire(now time.Time, m *Model, w *waiter) {
	if i := m.lease(nil); i != nil { // ready since
		if !w.grant(i) {
			i.word.release()
		}
		return
	}
	r := o.record(m.name)
	switch {
	case o.closing:
		w.fail(errShuttingDown(m.name))
	case r == nil || r.spec == nil || r.model != m:
		w.fail(&Error{Code: CodeModelRemoved, Model: m.name, Message: fmt.Sprintf("model %s is no longer configured", m.name), NoRetry: true})
	case r.failure != nil && now.Before(r.failure.until) && r.demand == nil:
		w.fail(r.failure.error(m.name, now))
	default:
		if err := o.unavailable(now, m.name); err != nil {
			w.fail(err)
			return
		}
		d := o.require(now, r)
		d.waiters = append(d.waiters, w)
	}
}

// require returns the model's demand, begun now if there is none.
func (o *owner) require(now time.Time, r *record) *demand {
	if r.demand == nil {
		r.demand = &demand{since: now}
	}
	return r.demand
}

// left takes a waiter out that gave up. A start that has not begun yet is not
// begun for nobody; one that has goes on, and so does a fetch: what it brings
// is not brought twice.
func (o *owner) left(m *Model, w *waiter) {
	r := o.record(m.name)
	if r == nil || r.demand == nil {
		return
	}
	r.demand.waiters = slices.DeleteFunc(r.demand.waiters, func(x *waiter) bool { return x == w })
	if len(r.demand.waiters) > 0 || o.loadOf(r.current) != nil || r.fetching() || r.wantsItself() {
		return
	}
	o.endDemand(r, nil)
}

// wantsItself says whether the model is to run though nobody asks for it.
func (r *record) wantsItself() bool { return r.spec != nil && (r.spec.AlwaysOn || r.preload) }

// gentle says whether the model's demand is nobody's but its own, and it has no
// right to anybody's room.
func (o *owner) gentle(r *record) bool {
	return !r.spec.AlwaysOn && r.preload && (r.demand == nil || len(r.demand.waiters) == 0)
}

// orderly is for how long models that start by themselves keep their order: who is
// fetched and sized sooner waits so long for those before it.
const orderly = time.Minute

// heldBack says whether a model that starts by itself waits for another's turn: the
// always-on ones go first, then those that are only to be there from the beginning,
// each in the order of the configuration.
func (o *owner) heldBack(now time.Time, r *record) bool {
	if r.demand == nil || len(r.demand.waiters) > 0 || !r.wantsItself() || !now.Before(r.demand.since.Add(orderly)) {
		return false
	}
	later := false // whether other comes after r in its class
	for _, other := range o.records {
		if other == r {
			later = true
			continue
		}
		if other.spec == nil || !other.wantsItself() || other.demand == nil || !other.fetching() && o.sized(other) {
			continue
		}
		if other.spec.AlwaysOn && !r.spec.AlwaysOn || !later && other.spec.AlwaysOn == r.spec.AlwaysOn {
			return true
		}
	}
	return false
}

// fetching says whether what the model needs is being brought.
func (r *record) fetching() bool {
	return r.current != nil && r.current.word.state() == StateFetching && !r.current.fetched
}

// endDemand answers all who wait with an error.
func (o *owner) endDemand(r *record, err error) {
	if r.demand == nil {
		return
	}
	for _, w := range r.demand.waiters {
		w.fail(err)
	}
	r.demand, r.waiting = nil, ""
	if i := r.current; i != nil && i.word.state() == StateFetching && o.loadOf(i) == nil {
		o.fx.abandon(i)
		o.gone(i)
	}
}

// demands begins what models need that start by themselves, fetches what is
// missing, and has those sized whose footprint is not known.
func (o *owner) demands(now time.Time) {
	if o.closing || o.spec == nil {
		return
	}
	for _, r := range o.records {
		if r.spec == nil {
			continue
		}
		if r.demand != nil && len(r.demand.waiters) == 0 && !r.wantsItself() && o.loadOf(r.current) == nil && !r.fetching() {
			o.endDemand(r, nil) // nothing is begun for nobody
		}
		if r.from != o.spec {
			continue // before the commit nobody is stopped for it, and the engine may be another
		}
		backingOff := r.failure != nil && now.Before(r.failure.until)
		asleep := o.asleepOf(r) != nil || o.napping(r)
		if r.wantsItself() && r.demand == nil && r.current == nil && !asleep && !backingOff && o.unavailable(now, r.model.name) == nil {
			o.require(now, r)
		}
		h := o.engineOf(o.spec.Engine)
		if h == nil || h.engine == nil {
			continue
		}
		if r.demand != nil && r.current == nil && !asleep && !backingOff {
			o.begin(now, r, h)
		}
		if wanted := r.demand != nil && (asleep || r.current != nil && r.current.fetched); (wanted || len(r.planners) > 0) && o.read && !o.sized(r) {
			o.size(r, h)
		}
	}
}

// begin makes the instance that is to serve a demand, and has it fetched.
func (o *owner) begin(now time.Time, r *record, h *engineHandle) {
	i := o.newInstance(now, r, h, r.demand.since)
	r.current = i
	o.fx.fetch(i)
}

// newInstance makes an instance that is to be fetched, for a demand that began then.
func (o *owner) newInstance(now time.Time, r *record, h *engineHandle, since time.Time) *Instance {
	o.ordinals[r.model.name]++
	i := &Instance{
		id:          fmt.Sprintf("%s-%d", r.model.name, o.ordinals[r.model.name]),
		gateway:     o.spec.Name,
		model:       r.model,
		record:      r,
		spec:        r.spec,
		hash:        r.hash,
		engine:      h,
		demandSince: since,
		start:       r.spec.StartTimeout,
		stop:        r.spec.StopGrace,
		left:        make(chan struct{}),
		pids:        make(map[int]bool),
		measured:    make(map[string]int64),
		before:      make(map[string]int64),
	}
	i.enter(StateFetching, now)
	i.stage = "fetching"
	o.instances = append(o.instances, i)
	return i
}

// fetched is told when an instance can be placed.
func (o *owner) fetched(now time.Time, i *Instance, err error) {
	if i.word.state() != StateFetching || i.ended {
		return
	}
	if err != nil {
		o.log.Error("fetching a model failed", zap.String("model", i.model.name), zap.Error(err))
		o.decided(now, "failed", i.model.name, i, nil,
			cmp.Or(engine.Explanation(err), "what it needs could not be fetched; the gateway's log says why"))
		o.failed(now, i, server.ClassFetch, "what it needs could not be fetched; the gateway's status and log say why")
		o.gone(i)
		return
	}
	i.fetched, i.stage = true, ""
	i.record.resize()
}

// unavailable is why nothing can be started at all, or nil.
func (o *owner) unavailable(now time.Time, model string) *Error {
	h := o.engineOf(o.spec.Engine)
	switch {
	case h != nil && h.err != nil:
		return &Error{Code: CodeNoEngine, Model: model, Message: "the engine that starts models is not available", RetryAfter: h.retryAt.Sub(now)}
	case o.inventory.err != nil:
		return &Error{Code: CodeNoEngine, Model: model, Message: "the GPUs cannot be read", RetryAfter: o.inventory.retryAt.Sub(now)}
	case o.readErr != nil && (!o.read || now.Sub(o.blindSince) >= readInterval):
		return &Error{Code: CodeNoEngine, Model: model, Message: "the GPUs cannot be read", RetryAfter: readInterval}
	}
	return nil
}

// failed notes that an instance did not come up, or died, and when its model may
// start again. Those who wait for it are told, unless it may start at once.
func (o *owner) failed(now time.Time, i *Instance, class server.Class, message string) {
	r := i.record
	if i.spare() {
		o.replicaFailed(now, i)
		return
	}
	f := &failure{class: class, message: message, count: 1}
	if r.failure != nil {
		f.count, f.chances = r.failure.count+1, r.failure.chances
	}
	if o.atOnce(now, i, f) {
		f.chances++
		f.until = now
	} else {
		f.until = now.Add(retryDelay(f.count - f.chances))
	}
	r.failure = f
	if now.Before(f.until) {
		o.endDemand(r, f.error(r.model.name, now))
	}
}

// error is the failure as those who ask for the model are told.
func (f *failure) error(model string, now time.Time) *Error {
	return &Error{
		Code: CodeStartFailed, Model: model,
		Message:    fmt.Sprintf("model %s is not available: %s", model, f.message),
		RetryAfter: max(f.until.Sub(now), time.Second),
	}
}
