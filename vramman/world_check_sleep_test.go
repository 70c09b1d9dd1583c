package vramman

import (
	"maps"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about those who sleep: that nobody is put to sleep who serves, what
// they are charged, what of the host's memory they are promised, and that they wake
// only where there is room.

// checkSleep is what must be so when a server is told to sleep.
func (w *world) checkSleep(i *Instance) {
	o := w.owner
	w.saw("told to sleep")
	w.must(i.word.state() == StateSleeping, 4, "%s is told to sleep and is %v", i.id, i.word.state())
	n := 0
	for _, c := range w.clients {
		if c.lease.instance == i && !c.finished {
			n++
		}
	}
	w.must(n == 0 && i.word.leases() == 0, 4, "%s is put to sleep with %d leases", i.id, n)
	w.must(i.model.tickets() == 0, 4, "%s is put to sleep with %d requests waiting for it", i.id, i.model.tickets())
	_, can := i.spec.Server.(server.Sleeper)
	w.must(can && i.spec.Launch.Sleep, 7, "%s is put to sleep and was not started for it", i.id)
	w.must(i.record.spec == nil || !i.record.spec.AlwaysOn, 7, "%s is put to sleep and is always on", i.id)
	w.must(w.sight == seen, 2, "%s is put to sleep where nobody sees what it frees", i.id)
	w.checkHost(o)
	for _, c := range i.cards {
		holder := o.gates[c]
		l := o.loadHolding(holder)
		w.must(holder == "sleep "+i.id || l != nil && slices.Contains(l.victims, i), 3, "%s is put to sleep on %s, whose gate is held by %q", i.id, c, holder)
	}
	w.checkAlone(i)
}

// checkHost is about what those who sleep are promised of the host's memory.
func (w *world) checkHost(o *owner) {
	w.must(w.hostTold != (host.Memory{}), 7, "somebody is put to sleep, and the host's memory is not known")
	all, promised := int64(0), int64(0)
	for _, x := range o.instances {
		switch x.word.state() {
		case StateSleeping:
			promised += x.nap.host
			all += x.nap.host
		case StateAsleep, StateWaking:
			all += x.nap.host
		}
	}
	most := w.hostTold.Total / 2
	if o.spec.SleepMemory > 0 {
		most = o.spec.SleepMemory
	}
	w.must(all <= most, 7, "those who sleep are promised %d of the host's memory, and may have %d", all, most)
	w.must(promised <= w.hostTold.Available-hostSpare, 7, "those who are put to sleep are promised %d of the host's memory, of which %d are available", promised, w.hostTold.Available)
}

// checkWake is invariant 1 at the moment at which a server is told to wake.
func (w *world) checkWake(i *Instance) {
	o := w.owner
	w.saw("told to wake")
	l := o.loadOf(i)
	w.must(l != nil && l.wakes && i.word.state() == StateWaking, 3, "%s is woken and holds no gate", i.id)
	w.must(!w.readingBegan.Before(l.began) && !w.readingBegan.Before(w.hadVictims[l]), 1, "%s is woken on a reading that began too early", i.id)
	w.must(!i.outdated && !i.leaving && i.record.spec != nil && i.hash == i.record.hash, 9, "%s is woken, and its configuration is another", i.id)
	pool := o.spec.pool(i.record.spec.Pool)
	for n, c := range i.cards {
		total := w.card(c).total()
		charge, charged := o.ledger.ChargeOf(c, i.id), o.ledger.Charged(c)
		w.must(charge >= i.need[n] && charge >= w.started[i].seen[c], 2, "%s is woken on %s and charged %d, with %d reserved and %d seen", i.id, c, charge, i.need[n], w.started[i].seen[c])
		w.must(charged <= int64(pool.Budget*float64(total)), 1, "%s is woken on %s: %d charged, more than the budget", i.id, c, charged)
		account, _ := o.ledger.Card(c)
		w.must(charged+account.Foreign <= total, 1, "%s is woken on %s: %d charged and %d used by others, of %d", i.id, c, charged, account.Foreign, total)
		w.must(o.gates[c] == l.holder(), 3, "%s is woken on %s, whose gate is held by %q", i.id, c, o.gates[c])
	}
	w.checkAlone(i)
}

// checkRest sees to it that an instance counts as asleep only when it was seen to be.
func (w *world) checkRest(p *process) {
	i := p.i
	switch {
	case !i.nap.rests:
		p.rested = nil
		return
	case p.rested != nil:
		return
	}
	w.must(!p.sleptAt.IsZero() && !w.readingBegan.Before(p.sleptAt), 2, "%s counts as asleep, and no reading has begun since its server said so", i.id)
	for n, c := range i.cards {
		w.must(p.last[c] < i.awake(n), 2, "%s counts as asleep, and was seen to use %d of %s", i.id, p.last[c], c)
	}
	p.rested = maps.Clone(p.last)
}

// leastCharge is what an instance is charged on a card at least, by what was seen.
func (w *world) leastCharge(p *process, card string) int64 {
	if p.i.nap.rests {
		return p.rested[card]
	}
	return p.seen[card]
}

// checkNaps sees to it that nobody sleeps for longer than to be asleep, or for nobody.
func (w *world) checkNaps() {
	o := w.owner
	for _, i := range o.instances {
		switch s := i.word.state(); s {
		case StateSleeping, StateWaking:
			w.must(!w.now.After(i.nap.since.Add(sleepTimeout+stopSlack+napSettles)), 6, "%s is %v for too long", i.id, s)
			w.must(s == StateWaking || !i.nap.rests, 2, "%s is charged as if it slept, and is %v", i.id, s)
		case StateAsleep:
			w.must(i.nap.rests, 2, "%s is asleep and charged as if it were not", i.id)
		default:
			w.must(!i.nap.rests || s == StateStopping || s == StateUnreleased, 2, "%s is charged as if it slept, and is %v", i.id, s)
		}
		w.must(i.word.state() != StateAsleep || i.word.leases() == 0, 4, "%s is asleep with leases", i.id)
	}
}

// checkAttended sees to it that somebody is at whatever a model waits for that
// requests need.
func (w *world) checkAttended(at time.Time) {
	o := w.owner
	for _, r := range o.records {
		if r.demand == nil || len(r.demand.waiters) == 0 || r.from != o.spec {
			continue
		}
		h := o.engineOf(o.spec.Engine)
		switch {
		case h == nil || h.engine == nil || !o.read || o.readErr != nil: // opening, or tried again
		case o.loadOf(r.current) != nil, r.fetching(), o.napping(r): // its end is told
		case r.sizes.under, o.store.reading:
		case o.placeable(at, r):
			w.must(r.waiting != "", 5, "requests wait for %s, and nobody has said for what", r.model.name)
		default:
			w.breaks(5, "requests wait for %s, and nobody is at it (%v, asleep: %v)", r.model.name, r.current != nil, o.asleepOf(r) != nil)
		}
	}
}
