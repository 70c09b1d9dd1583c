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
	if len(r.demand.waiters) > 0 || o.loadOf(r.current) != nil || r.fetching() || r.spec != nil && r.spec.AlwaysOn {
		return
	}
	o.endDemand(r, nil)
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

// demands begins what always-on models need, and fetches what is missing.
func (o *owner) demands(now time.Time) {
	if o.closing || o.spec == nil {
		return
	}
	for _, r := range o.records {
		if r.spec == nil {
			continue
		}
		if r.demand != nil && len(r.demand.waiters) == 0 && !r.spec.AlwaysOn && o.loadOf(r.current) == nil && !r.fetching() {
			o.endDemand(r, nil) // nothing is begun for nobody
		}
		if r.from != o.spec {
			continue // before the commit nobody is stopped for it, and the engine may be another
		}
		backingOff := r.failure != nil && now.Before(r.failure.until)
		if r.spec.AlwaysOn && r.demand == nil && r.current == nil && !backingOff && o.unavailable(now, r.model.name) == nil {
			o.require(now, r)
		}
		if r.demand != nil && r.current == nil && !backingOff {
			if h := o.engineOf(o.spec.Engine); h != nil && h.engine != nil {
				o.begin(now, r, h)
			}
		}
	}
}

// begin makes the instance that is to serve a demand, and has it fetched.
func (o *owner) begin(now time.Time, r *record, h *engineHandle) {
	o.ordinals[r.model.name]++
	i := &Instance{
		id:          fmt.Sprintf("%s-%d", r.model.name, o.ordinals[r.model.name]),
		gateway:     o.spec.Name,
		model:       r.model,
		record:      r,
		spec:        r.spec,
		hash:        r.hash,
		engine:      h,
		demandSince: r.demand.since,
		start:       r.spec.StartTimeout,
		stop:        r.spec.StopGrace,
		left:        make(chan struct{}),
		pids:        make(map[int]bool),
		measured:    make(map[string]int64),
	}
	i.enter(StateFetching, now)
	i.stage = "fetching"
	r.current = i
	o.instances = append(o.instances, i)
	o.fx.fetch(i)
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
	f := &failure{class: class, message: message, count: 1}
	if r.failure != nil {
		f.count = r.failure.count + 1
	}
	if class == server.ClassDied {
		// The first death may be an accident: start again at once.
		if f.count > 1 {
			f.until = now.Add(retryDelay(f.count - 1))
		}
	} else {
		f.until = now.Add(retryDelay(f.count))
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
