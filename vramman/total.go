package vramman

import (
	"sync"
	"sync/atomic"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

// This file is about the limits on the requests of all models together. Without
// such limits no request comes here: a model counts in total only while its
// counted is set.

// total bounds how many requests are served, and how many wait, over all models.
// The zero total is usable and bounds nothing.
//
// A model that has a slot of its own for somebody, but finds none in total, waits
// for one in turns. Whoever gives a slot back, and whoever begins to wait in
// turns, pumps after it: each first changes its own count and then looks at the
// other's, so at least one of two that do so at the same moment sees the other,
// and no slot stays free while a model waits for it.
//
// Its lock comes after a model's; nobody who holds it takes a model's.
type total struct {
	slots  atomic.Int64 // served at once at most
	max    atomic.Int64 // waiting at most
	used   atomic.Int64 // slots in use
	queued atomic.Int64 // requests that wait

	waiters atomic.Int64 // how many wait in turns
	mu      sync.Mutex   // guards turns
	turns   admission.Turns[*Model]
}

// take takes a slot, unless there is none or others wait for it.
func (t *total) take() bool { return t.waiters.Load() == 0 && t.takeAny() }

// takeAny takes a slot if there is one.
func (t *total) takeAny() bool { return countUp(&t.used, &t.slots) }

// enqueue takes a place for one that waits, if there is one.
func (t *total) enqueue() bool { return countUp(&t.queued, &t.max) }

func countUp(n, limit *atomic.Int64) bool {
	for {
		v := n.Load()
		if v >= limit.Load() {
			return false
		}
		if n.CompareAndSwap(v, v+1) {
			return true
		}
	}
}

// wait has a model wait for a slot. Its lock is held; the caller pumps later.
func (t *total) wait(m *Model, class int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m.turn.Of = m
	t.turns.Wait(&m.turn, class)
	t.waiters.Store(int64(t.turns.Waiting()))
}

// pump gives the slots that are free to those who wait for them. No model's lock
// may be held.
func (t *total) pump() {
	for t.waiters.Load() > 0 && t.takeAny() {
		t.mu.Lock()
		turn := t.turns.Next()
		t.waiters.Store(int64(t.turns.Waiting()))
		t.mu.Unlock()
		if turn == nil || !turn.Of.grant() {
			t.used.Add(-1)
		}
	}
}

// grant gives a slot in total to whoever is next at the model. False means that
// nobody needs it.
func (m *Model) grant() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.counted || !m.queue.Wants() {
		return false
	}
	m.admitNext()
	if m.queue.Wants() {
		m.mgr.total.wait(m, m.queue.Class()) // the caller pumps on
	}
	return true
}

// count has the model's requests count in total, or no more.
func (m *Model) count(on bool) {
	t := &m.mgr.total
	m.mu.Lock()
	if on != m.counted {
		m.counted = on
		sign := int64(1)
		if !on {
			sign = -1
		}
		t.used.Add(sign * int64(m.queue.Serving()))
		t.queued.Add(sign * int64(m.queue.Waiting()))
	}
	m.advance()
	m.mu.Unlock()
	t.pump()
}

// limitTotal puts limits on all models together in force; 0 is no limit.
func (m *Manager) limitTotal(slots, waiting int, models map[string]*Model) {
	limit := func(to *atomic.Int64, n int) {
		v := int64(n)
		if n <= 0 {
			v = 1 << 62
		}
		to.Store(v)
	}
	limit(&m.total.slots, slots)
	limit(&m.total.max, waiting)
	for _, x := range models {
		x.count(slots > 0 || waiting > 0)
	}
}

// limitTotal puts the limits on all models together in force.
func (o *owner) limitTotal() {
	slots, waiting := 0, 0
	if o.spec != nil {
		slots, waiting = o.spec.TotalConcurrent, o.spec.TotalQueue
	}
	o.manager.limitTotal(slots, waiting, o.models)
}
