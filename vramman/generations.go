package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// This file is about which configuration is in force, and what follows for
// models, engines and cards.

// record is what the owner knows of a model beside what requests see.
type record struct {
	model *Model
	from  *Spec      // the spec that its configuration comes from
	spec  *ModelSpec // nil: no configuration has it any more
	hash  string

	demand  *demand   // nil: nobody needs it to start
	current *Instance // being fetched, started, or ready; nil: none
	failure *failure  // nil: the last start was well, or there was none
	waiting string    // what the start waits for, in words
	toldAt  time.Time // when a refusal was last told of

	loadTime time.Duration // of the last load; 0: never loaded
	wakeTime time.Duration // of the last waking; 0: never woken

	replicas replicas

	sizes    sizes
	tuning   tuning
	planners []planEvent // who waits to hear what would happen

	resting   map[string]int64 // the most that a sleeping instance was seen to hold, per card
	sleepless time.Time        // until then it is stopped rather than put to sleep
	preload   bool             // it is to be started by itself, once
	preloaded bool             // its configuration has had its preload
}

func (o *owner) record(name string) *record {
	for _, r := range o.records {
		if r.model.name == name {
			return r
		}
	}
	return nil
}

func (o *owner) apply(now time.Time, g *Generation) {
	if o.closing {
		g.setRoutes(nil)
		return
	}
	o.generations = append(o.generations, generation{g: g})
	if g.spec.Log != nil && o.spec == nil {
		o.log = g.spec.Log
	}
	for i := range g.spec.Models {
		name := g.spec.Models[i].Name
		if o.models[name] == nil {
			m := &Model{name: name, mgr: o.manager}
			o.models[name] = m
			o.records = append(o.records, &record{model: m})
		}
	}
	g.newest = &o.manager.inForce
	g.setRoutes(o.models)
	o.refresh(now)
}

func (o *owner) commit(now time.Time, g *Generation) {
	for i := range o.generations {
		if o.generations[i].g == g {
			o.generations[i].committed = true
		}
	}
	o.refresh(now)
}

func (o *owner) withdraw(now time.Time, g *Generation) {
	o.generations = slices.DeleteFunc(o.generations, func(h generation) bool { return h.g == g })
	g.setRoutes(nil) // a generation that was never applied keeps nobody waiting
	o.refresh(now)
}

func (o *owner) close(now time.Time) {
	o.closing = true
	o.generations = nil
	for _, r := range o.records {
		o.endDemand(r, errShuttingDown(r.model.name))
		o.answerPlanners(r, nil)
	}
	o.refresh(now)
	for _, i := range slices.Clone(o.instances) {
		if k, ok := i.engine.engine.(engine.Keeper); ok && k.Outlives() && (i.word.state() == StateReady || i.word.state() == StateAsleep) {
			o.decided(now, "leave", i.model.name, i, i.cards, "the gateway ends, and its servers live on")
			o.fx.letGo(i)
			o.gone(i)
			continue
		}
		o.halt(now, i, "the gateway is shutting down")
	}
}

// refresh puts the newest committed generation in force, or, while none has
// been committed yet, the newest. Models that only an uncommitted generation
// has come from there: adding is allowed before the commit.
func (o *owner) refresh(now time.Time) {
	var newest *Generation
	for _, g := range o.generations {
		if g.committed {
			newest = g.g
		}
	}
	if n := len(o.generations); newest == nil && n > 0 {
		newest = o.generations[n-1].g
	}
	o.manager.inForce.Store(newest)
	if o.spec = nil; newest != nil {
		o.spec = newest.spec
	}
	if o.spec != nil {
		if o.spec.Log != nil {
			o.log = o.spec.Log
		}
		o.useEngine(o.spec.Engine)
		o.useInventory(o.spec.GPUs)
		_, o.inventory.machine = o.spec.Engine.(engine.Imager)
		o.useStore(o.spec.Store)
		o.accounts()
	}
	for _, r := range o.records {
		o.refreshModel(now, r)
	}
	o.limitTotal()
	o.records = slices.DeleteFunc(o.records, func(r *record) bool {
		if r.spec != nil || o.holds(r) || r.model.tickets() > 0 || o.routed(r.model) {
			return false
		}
		delete(o.models, r.model.name)
		return true
	})
	o.closeUnused()
}

// refreshModel gives a model its configuration, and has instances go that no
// longer match it.
func (o *owner) refreshModel(now time.Time, r *record) {
	name := r.model.name
	r.from, r.spec = o.spec, nil
	if o.spec != nil {
		r.spec = o.spec.model(name)
	}
	for n := len(o.generations) - 1; n >= 0 && r.spec == nil; n-- {
		if g := o.generations[n]; !g.committed {
			r.from, r.spec = g.g.spec, g.g.spec.model(name)
		}
	}
	if r.spec == nil {
		o.removed(now, r)
		return
	}
	r.model.maxWait.Store(int64(r.spec.MaxWait))
	o.limits(r)
	r.hash = r.from.launchHash(r.spec)
	r.sizes.footings = nil // budgets and pools may be others
	switch {
	case !r.spec.Preload:
		r.preload, r.preloaded = false, false
	case !r.preloaded && r.from == o.spec:
		r.preload, r.preloaded = true, true
	}
	o.shrink(now, r)
	for _, i := range slices.Clone(o.instances) {
		if i.record != r {
			continue
		}
		i.leaving = false
		if i.word.state() == StateReady {
			i.drainBy = time.Time{}
		}
		cards := i.cards
		if l := o.loadOf(i); l != nil { // chosen, if not reserved yet
			cards = l.cards
		}
		i.outdated = false
		if i.hash != r.hash || slices.ContainsFunc(cards, func(c string) bool { return !o.allowed(r, c) }) {
			o.outdate(now, i)
		}
	}
}

// outdate has an instance go that was started from another configuration.
func (o *owner) outdate(now time.Time, i *Instance) {
	switch i.word.state() {
	case StateFetching, StateStarting, StateMeasuring, StateWaking:
		o.halt(now, i, "its configuration has changed")
	case StateSleeping, StateAsleep:
		i.outdated = true
		o.endLoad(o.loadOf(i))
	case StateReady:
		o.drain(now, i, "its configuration has changed")
	}
}

// removed has a model go that no configuration has any more: a ready instance
// serves those who wait, and then stops; nothing is started.
func (o *owner) removed(now time.Time, r *record) {
	o.endDemand(r, &Error{Code: CodeModelRemoved, Model: r.model.name, Message: fmt.Sprintf("model %s is no longer configured", r.model.name), NoRetry: true})
	o.answerPlanners(r, nil)
	for _, i := range slices.Clone(o.instances) {
		if i.record != r {
			continue
		}
		switch i.word.state() {
		case StateFetching, StateStarting, StateMeasuring, StateWaking:
			o.halt(now, i, "the configuration no longer has it")
		case StateReady, StateSleeping, StateAsleep:
			if !i.leaving {
				o.endLoad(o.loadOf(i))
				i.leaving = true
				i.drainBy = now.Add(o.drainTimeout())
			}
		}
	}
}

// holds says whether an instance of the model is not gone yet.
func (o *owner) holds(r *record) bool {
	return r.demand != nil || slices.ContainsFunc(o.instances, func(i *Instance) bool { return i.record == r })
}

// routed says whether a generation still leads requests to the model.
func (o *owner) routed(m *Model) bool {
	return slices.ContainsFunc(o.generations, func(g generation) bool { return g.g.spec.model(m.name) != nil })
}

func (o *owner) drainTimeout() time.Duration {
	if o.spec == nil {
		return time.Minute
	}
	return o.spec.DrainTimeout
}

// limits puts the model's limits in force, over all its ready instances.
func (o *owner) limits(r *record) {
	if r.spec == nil {
		return
	}
	n := 0
	if ready := r.model.ready.Load(); ready != nil {
		n = len(*ready)
	}
	r.model.setLimits(r.spec.MaxConcurrent*max(1, n), r.spec.MaxQueue)
}

// useEngine opens the engine of the spec in force, unless it is open.
func (o *owner) useEngine(spec engine.Spec) {
	if o.engineOf(spec) == nil {
		h := &engineHandle{spec: spec, log: o.log, opening: true}
		o.engines = append(o.engines, h)
		o.fx.openEngine(h)
	}
}

func (o *owner) engineOf(spec engine.Spec) *engineHandle {
	for _, h := range o.engines {
		if h.spec.Key() == spec.Key() {
			return h
		}
	}
	return nil
}

func (o *owner) engineOpened(now time.Time, e engineEvent) {
	h := e.handle
	h.opening, h.engine, h.err = false, e.engine, e.err
	switch {
	case e.err != nil:
		h.failed++
		h.retryAt = now.Add(retryDelay(h.failed))
		o.log.Error("the engine is not available", zap.Error(e.err), zap.Time("next_try", h.retryAt))
	case e.removed > 0:
		o.log.Info("removed what an earlier gateway had left behind", zap.Int("instances", e.removed))
	}
	if e.err == nil {
		h.failed = 0
	}
	o.closeUnused()
	o.tellUnavailable(now)
}

func (o *owner) useInventory(spec gpu.Spec) {
	if o.inventory != nil && o.inventory.spec.Key() == spec.Key() {
		return
	}
	if old := o.inventory; old != nil && old.inventory != nil {
		o.fx.closeInventory(old)
	}
	o.inventory = &inventoryHandle{spec: spec, log: o.log, opening: true}
	o.cards, o.read, o.readErr = nil, false, nil
	o.fx.openInventory(o.inventory)
}

func (o *owner) inventoryOpened(now time.Time, e inventoryEvent) {
	h := e.handle
	h.opening, h.inventory, h.err = false, e.inventory, e.err
	switch {
	case h != o.inventory: // replaced while it opened
		if e.inventory != nil {
			o.fx.closeInventory(h)
		}
	case e.err != nil:
		h.failed++
		h.retryAt = now.Add(retryDelay(h.failed))
		o.log.Error("the cards cannot be read", zap.Error(e.err), zap.Time("next_try", h.retryAt))
	default:
		h.failed = 0
		o.wantReading()
	}
	o.closeUnused()
	o.tellUnavailable(now)
}

// tellUnavailable answers those who wait while nothing can be started.
func (o *owner) tellUnavailable(now time.Time) {
	if o.spec == nil {
		return
	}
	for _, r := range o.records {
		if r.demand == nil || o.loadOf(r.current) != nil {
			continue
		}
		if err := o.unavailable(now, r.model.name); err != nil {
			o.endDemand(r, err)
		}
	}
}

// closeUnused closes the engines that neither the spec in force nor an
// instance needs.
func (o *owner) closeUnused() {
	o.engines = slices.DeleteFunc(o.engines, func(h *engineHandle) bool {
		if h.opening || (o.spec != nil && o.spec.Engine.Key() == h.spec.Key()) {
			return false
		}
		if slices.ContainsFunc(o.instances, func(i *Instance) bool { return i.engine == h }) {
			return false
		}
		if h.engine != nil {
			o.fx.closeEngine(h)
		}
		return true
	})
	if o.spec == nil && o.inventory != nil && len(o.instances) == 0 && !o.inventory.opening {
		if o.inventory.inventory != nil {
			o.fx.closeInventory(o.inventory)
		}
		o.inventory = nil
		o.cards, o.read = nil, false
	}
}
