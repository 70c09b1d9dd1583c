package vramman

import (
	"context"
	"fmt"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

// Ticket is a request's place in its model's queue, then its slot while it is
// served. The zero Ticket is none; [Model.Admit] fills it. A Ticket belongs to
// one request and is not safe for use by several goroutines.
type Ticket struct {
	model    *Model
	place    admission.Place
	arrived  time.Time
	deadline time.Time
	started  time.Time // when service began: its first lease
	queued   time.Duration
	loaded   time.Duration
}

// Model is the model the ticket is for, or nil for none.
func (t *Ticket) Model() *Model { return t.model }

// Queued is how long the ticket waited for its slot.
func (t *Ticket) Queued() time.Duration { return t.queued }

// Loading is how long its leases waited for the model to be ready.
func (t *Ticket) Loading() time.Duration { return t.loaded }

// Admit waits for a slot at the model and makes t the ticket for it. now is
// when the request arrived. It returns an [*Error] when the queue is full or
// max_wait has passed, or the context's error when the caller gave up; then t
// is no ticket and there is nothing to return.
//
// When a slot is free, Admit takes no lock but the model's own, allocates
// nothing and does not look at the clock.
func (m *Model) Admit(ctx context.Context, now time.Time, t *Ticket) error {
	admitted, err := m.enter(now, t)
	if admitted || err != nil {
		return err
	}
	timer := time.NewTimer(t.deadline.Sub(now))
	defer timer.Stop()
	select {
	case <-t.place.Turn:
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = m.timeout()
	case <-m.mgr.closed:
		err = errShuttingDown(m.name)
	}
	t.started = time.Now()
	t.queued = t.started.Sub(now)
	if err != nil {
		m.giveUp(t)
		return err
	}
	t.model = m
	return nil
}

// enter takes a place for a ticket. When the request is neither admitted nor
// refused, it waits for its place's Turn.
func (m *Model) enter(now time.Time, t *Ticket) (admitted bool, _ error) {
	*t = Ticket{arrived: now, started: now, deadline: now.Add(time.Duration(m.maxWait.Load()))}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = true
	switch m.queue.Enter(&t.place) {
	case admission.Admitted:
		t.model = m
		return true, nil
	case admission.Full:
		return false, m.full(now)
	default:
		t.place.Turn = make(chan struct{})
		return false, nil
	}
}

// giveUp takes a ticket out of the queue that waits no longer.
func (m *Model) giveUp(t *Ticket) {
	m.mu.Lock()
	waited := m.queue.Remove(&t.place)
	m.mu.Unlock()
	if !waited { // its turn came at the same moment
		m.leave(0)
	}
}

// Unmeasured has the ticket say nothing of how long serving takes: the request
// was not served to its end.
func (t *Ticket) Unmeasured() { t.started = time.Time{} }

// Return gives the ticket's slot back. Returning no ticket does nothing, so
// that a deferred Return is always right. now is the time at that moment.
func (t *Ticket) Return(now time.Time) {
	if t.model == nil {
		return
	}
	held := now.Sub(t.started)
	if t.started.IsZero() {
		held = 0 // never served: says nothing of how long serving takes
	}
	t.model.leave(held)
	t.model = nil
}

// leave gives a slot back and lets the next one in.
func (m *Model) leave(held time.Duration) {
	m.mu.Lock()
	if p := m.queue.Leave(held); p != nil {
		close(p.Turn)
	}
	idle := m.queue.Serving() == 0 && m.queue.Waiting() == 0
	m.mu.Unlock()
	if idle && m.wanted.Load() {
		m.mgr.wake()
	}
}

// full is the refusal of a request that may not even wait. The caller holds mu.
func (m *Model) full(now time.Time) *Error {
	return &Error{
		Code:       CodeQueueFull,
		Model:      m.name,
		Message:    fmt.Sprintf("the queue of model %s is full: %d requests wait, %d are served", m.name, m.queue.Waiting(), m.queue.Serving()),
		RetryAfter: m.retryAfter(now),
	}
}

func (m *Model) timeout() *Error {
	return &Error{
		Code:    CodeQueueTimeout,
		Model:   m.name,
		Message: fmt.Sprintf("the request was not served by model %s within its max_wait of %v", m.name, time.Duration(m.maxWait.Load())),
	}
}

func errShuttingDown(model string) *Error {
	return &Error{Code: CodeShuttingDown, Model: model, Message: "the gateway is shutting down", RetryAfter: 5 * time.Second}
}
