package vramman

import (
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what the cards are seen to hold, and the accounts that
// follow from it.

// readInterval is how often the cards are read when nothing else asks for it,
// so that what other programs take is known before it is in the way.
const readInterval = 10 * time.Second

// retryReading is how soon a reading that failed is tried again.
const retryReading = time.Second

// measureTimeout is how long a server that answers is kept from its requests
// for a reading that does not come.
const measureTimeout = 20 * time.Second

// wantReading has the cards read as soon as possible, by a reading that begins
// after now.
func (o *owner) wantReading() {
	if o.inventory == nil || o.inventory.inventory == nil {
		return
	}
	if o.reading {
		o.readAgain = true
		return
	}
	o.reading, o.readAgain = true, false
	o.readings++
	var of []*Instance
	for _, i := range o.instances {
		if i.running != nil {
			of = append(of, i)
		}
	}
	o.fx.readCards(o.readings, o.inventory, of)
}

// cardsRead takes a reading into the accounts, and lets those go on that
// waited for it.
func (o *owner) cardsRead(now time.Time, e readEvent) {
	o.reading = false
	if e.handle != o.inventory { // of an inventory that has been replaced
		o.wantReading()
		return
	}
	before := o.readErr
	o.readAt, o.readErr = now, e.err
	if e.err == nil {
		o.read = true
		o.cards, o.host = e.cards, e.host
		for i, pids := range e.pids {
			for _, p := range pids {
				i.pids[p] = true
			}
		}
		o.accounts()
		if before != nil {
			o.log.Info("the cards can be read again", zap.Duration("after", now.Sub(o.blindSince)))
		}
	} else {
		if before == nil {
			o.blindSince = now
		}
		if before == nil || before.Error() != e.err.Error() {
			o.log.Error("reading the cards failed", zap.Error(e.err))
		}
		o.blind(now)
	}
	// Without figures, nothing is seen to become free, and no start is
	// confirmed; but what has started is not kept waiting for them.
	if e.err == nil {
		o.releases(now, e.number)
		o.naps(now, e.number)
		o.byDifference(e.number)
		o.advance(now, e.number)
	}
	for _, i := range slices.Clone(o.instances) {
		if i.word.state() == StateMeasuring && e.number > i.fresh {
			o.measuredNow(now, i)
		}
	}
	if e.err == nil {
		o.auditCards(now, e.number)
		o.grow(now)
	}
	if o.readAgain {
		o.wantReading()
	}
}

// blind is told of each reading that failed. One may be an accident; when they
// go on failing, nothing is begun any more, and those who wait are told.
func (o *owner) blind(now time.Time) {
	if now.Sub(o.blindSince) < readInterval {
		return
	}
	for _, l := range slices.Clone(o.loads) {
		if !l.reserved {
			o.decided(now, "replan", l.instance.model.name, l.instance, l.cards, "the cards cannot be read")
			o.endLoad(l)
		}
	}
	o.tellUnavailable(now)
}

// accounts brings the ledger up to date with the cards and the spec in force.
func (o *owner) accounts() {
	for n := range o.cards {
		c := &o.cards[n]
		budget := 0.0
		if p := o.poolWith(c.UUID); p != nil {
			budget = p.Budget
		}
		foreign := c.Used
		for _, i := range o.instances {
			if !i.word.state().charged() {
				continue
			}
			used := usedBy(c, i)
			o.sees(i, c.UUID, used)
			if k := slices.Index(i.cards, c.UUID); k >= 0 && c.Unattributed {
				// Nobody knows how much of its charge it uses. What it does not use
				// hides as much of what is foreign; the other way round, its own
				// VRAM would be charged twice.
				used = i.charge(k)
			}
			foreign -= used
		}
		total := size(c)
		o.ledger.SetCard(ledger.Card{
			UUID:    c.UUID,
			Total:   total,
			Budget:  int64(math.Floor(budget * float64(total))),
			Foreign: max(0, foreign),
		})
	}
	o.repair()
}

// byDifference measures the instances whose start is just over on cards that
// nobody tells processes apart on: by how much more is in use than before.
// Since their gates are held, it is theirs.
func (o *owner) byDifference(number uint64) {
	for _, i := range o.instances {
		if i.word.state() != StateMeasuring || number <= i.fresh {
			continue
		}
		for _, uuid := range i.cards {
			if c := o.present(uuid); c != nil && c.Unattributed && !c.Unmeasured {
				i.measured[uuid] = max(i.measured[uuid], c.Used-i.before[uuid])
			}
		}
	}
	o.repair()
}

// size is a card's size for the accounts.
func size(c *gpu.Card) int64 {
	if c.Total == 0 {
		return ledger.Unsized
	}
	return c.Total
}

// sees notes what an instance was seen to use of a card.
func (o *owner) sees(i *Instance, card string, used int64) {
	switch {
	case i.nap.rests:
		i.nap.held[card] = max(i.nap.held[card], used)
	case used > i.measured[card]:
		i.measured[card] = used
		i.grown = true
	}
}

// usedBy is how much of a card an instance's processes use.
func usedBy(c *gpu.Card, i *Instance) (used int64) {
	for _, p := range c.Processes {
		if i.pids[p.PID] {
			used += p.Used
		}
	}
	return used
}

// poolWith is the pool that a card belongs to, or nil.
func (o *owner) poolWith(uuid string) *Pool {
	if o.spec == nil {
		return nil
	}
	for n := range o.spec.Pools {
		p := &o.spec.Pools[n]
		if len(p.GPUs) == 0 {
			return p
		}
		if slices.Contains(p.GPUs, uuid) {
			return p
		}
	}
	return nil
}

// present says whether a card was in the last reading.
func (o *owner) present(uuid string) *gpu.Card {
	for n := range o.cards {
		if o.cards[n].UUID == uuid {
			return &o.cards[n]
		}
	}
	return nil
}

// deadlines does what the time has come for.
func (o *owner) deadlines(now time.Time) {
	for _, i := range slices.Clone(o.instances) {
		switch i.word.state() {
		case StateStarting:
			if !now.Before(i.started.Add(i.start)) {
				o.tooSlow(now, i)
			}
		case StateMeasuring:
			if !now.Before(i.since.Add(measureTimeout)) {
				o.measuredNow(now, i)
			}
		case StateReady:
			if now.Sub(i.readySince) >= diedSoon {
				i.record.failure = nil // it lives: what was before is forgiven
			}
			if i.leaving && !now.Before(i.drainBy) {
				o.drain(now, i, "the configuration no longer has it, and its drain timeout has passed")
			}
		case StateSleeping, StateWaking:
			o.overslept(now, i)
		case StateStopping, StateUnreleased:
			o.overdue(now, i)
			if !i.stopAgain.IsZero() && !now.Before(i.stopAgain) {
				i.stopAgain = time.Time{}
				o.askStop(i)
			}
		}
	}
	for _, h := range o.engines {
		if h.err != nil && !h.opening && !now.Before(h.retryAt) && o.spec != nil && h.spec.Key() == o.spec.Engine.Key() {
			h.opening, h.err = true, nil
			o.fx.openEngine(h)
		}
	}
	if h := o.inventory; h != nil && h.err != nil && !h.opening && !now.Before(h.retryAt) {
		h.opening, h.err = true, nil
		o.fx.openInventory(h)
	}
	if !now.Before(o.nextReading()) {
		o.wantReading()
	}
	if at := o.store.retryAt; !at.IsZero() && !now.Before(at) {
		o.save()
	}
}

// tooSlow ends a start that has not come to an end within its start timeout.
func (o *owner) tooSlow(now time.Time, i *Instance) {
	why := fmt.Sprintf("its server was not ready within its start_timeout of %v", i.start)
	if i.stage != "" {
		why += fmt.Sprintf(" (it was %s)", i.stage)
	}
	i.word.set(StateStopping)
	o.log.Error("a server did not become ready in time", zap.String("instance", i.id), zap.Strings("last_lines", i.tail.Last(20)))
	o.stopInstance(now, i, "failed", why)
	o.failed(now, i, server.ClassTimeout, why)
}

// nextReading is when the cards are to be read again.
func (o *owner) nextReading() time.Time {
	if o.reading || o.inventory == nil || o.inventory.inventory == nil {
		return never
	}
	if o.readErr != nil {
		return o.readAt.Add(retryReading)
	}
	for _, i := range o.instances {
		if i.ended && i.word.state() == StateStopping || i.nap.slept && i.word.state() == StateSleeping {
			return o.readAt.Add(releaseInterval)
		}
	}
	for _, n := range o.squeezed {
		if n == 1 { // to be seen again before anybody makes room for it
			return o.readAt.Add(retryReading)
		}
	}
	return o.readAt.Add(readInterval)
}

// never is later than any deadline.
var never = time.Unix(1<<40, 0)

// nextWake is when the owner must look again though nothing has happened.
func (o *owner) nextWake(now time.Time) time.Time {
	next := o.nextReading()
	if !o.planNext.IsZero() && o.planNext.Before(next) {
		next = o.planNext
	}
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	for _, i := range o.instances {
		switch i.word.state() {
		case StateStarting:
			earlier(i.started.Add(i.start))
		case StateMeasuring:
			earlier(i.since.Add(measureTimeout))
		case StateReady:
			if i.leaving {
				earlier(i.drainBy)
			}
		case StateDraining:
			if now.Before(i.drainBy) { // once past, it waits for its gate, not for a time
				earlier(i.drainBy)
			}
		case StateSleeping, StateWaking:
			earlier(i.napDeadline())
		case StateStopping:
			earlier(o.releaseBy(i))
		}
		if !i.stopAgain.IsZero() {
			earlier(i.stopAgain)
		}
	}
	for _, r := range o.records {
		if o.heldBack(now, r) {
			earlier(r.demand.since.Add(orderly))
		}
		if f := r.failure; f != nil && r.spec != nil && (r.wantsItself() || r.demand != nil) && r.current == nil && now.Before(f.until) {
			earlier(f.until)
		}
	}
	for _, h := range o.engines {
		if h.err != nil && !h.opening {
			earlier(h.retryAt)
		}
	}
	if h := o.inventory; h != nil && h.err != nil && !h.opening {
		earlier(h.retryAt)
	}
	earlier(o.nextList())
	if at := o.store.retryAt; !at.IsZero() {
		earlier(at)
	}
	if next.Equal(never) {
		return time.Time{}
	}
	return next
}
