package vramman

import (
	"context"
	"sync/atomic"
	"time"
)

// Lease is one attempt's hold on one instance: while it is held, the instance
// is busy and is not evicted. The zero Lease is none.
type Lease struct{ instance *Instance }

// Instance is what the lease is on, or nil for none.
func (l Lease) Instance() *Instance { return l.instance }

// Release ends the lease; it must be called once, whatever happened. now is
// the time at that moment. Releasing no lease does nothing.
func (l Lease) Release(now time.Time) {
	if l.instance == nil {
		return
	}
	l.instance.lastUsed.Store(now.UnixNano())
	if l.instance.word.release() {
		l.instance.model.mgr.wake()
	}
}

// Acquire leases an instance of the ticket's model, other than avoid where
// there is another. It joins the load that is under way, or asks for one, and
// ends in exactly one of three ways: a lease; an [*Error] that says why there
// is none; the context's own error.
//
// When an instance is ready, Acquire takes no lock, allocates nothing and does
// not look at the clock.
func (t *Ticket) Acquire(ctx context.Context, avoid *Instance) (Lease, error) {
	m := t.model
	if i := m.lease(avoid); i != nil {
		return Lease{i}, nil
	}
	began := time.Now()
	l, err := t.acquireSlow(ctx, began)
	now := time.Now()
	t.loaded += now.Sub(began)
	t.started = time.Time{}
	if err == nil {
		t.started = now
	}
	return l, err
}

func (t *Ticket) acquireSlow(ctx context.Context, now time.Time) (Lease, error) {
	m := t.model
	w := &waiter{result: make(chan acquired, 1)}
	if !m.mgr.post(acquireEvent{m, w}) {
		return Lease{}, errShuttingDown(m.name)
	}
	r, failure := await(ctx, m, t, now, w.result)
	if failure == nil {
		return r.lease, r.err
	}
	if !w.over.CompareAndSwap(false, true) { // the owner answered at the same moment
		r := <-w.result
		r.lease.Release(time.Now())
		return Lease{}, failure
	}
	m.mgr.post(leftEvent{m, w})
	return Lease{}, failure
}

// waiter is an Acquire that waits for the owner's answer. Whoever sets over
// first, decides: the owner answers only then, and who left gets no answer.
type waiter struct {
	over   atomic.Bool
	result chan acquired // of capacity 1
}

type acquired struct {
	lease Lease
	err   error
}

// fail answers with an error; a waiter that left hears nothing.
func (w *waiter) fail(err error) {
	if w.over.CompareAndSwap(false, true) {
		w.result <- acquired{err: err}
	}
}

// grant answers with a lease that has been counted already. It returns false
// when the waiter left, and the lease is still the caller's.
func (w *waiter) grant(i *Instance) bool {
	if !w.over.CompareAndSwap(false, true) {
		return false
	}
	w.result <- acquired{lease: Lease{i}}
	return true
}
