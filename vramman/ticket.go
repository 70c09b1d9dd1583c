package vramman

import (
	"context"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

// Request is what a model's queue needs to know of a request. The zero Request is
// one of nobody in particular, with no hurry.
type Request struct {
	// Client is who sends it: clients of one class share the service fairly.
	Client string
	// Class is its priority: requests of a higher class go first.
	Class int
	// Cost is about how many tokens its prompt has.
	Cost int64
	// Deadline is when its answer is of no more use; zero: never.
	Deadline time.Time

	// Notify is told every NotifyEvery how things stand while the request waits for
	// its turn and then for the model to be ready; nil: nobody is told. It is called by
	// the goroutine that waits.
	Notify      func(Progress)
	NotifyEvery time.Duration
}

// Progress is how things stand for a request that waits.
type Progress struct {
	Position int    // its turn in the queue, about: 1 is next; 0: it has a slot
	Stage    string // how far a load of the model has come: "compiling"; empty: none is under way
}

const (
	// outputWeight is how much service a token of an answer is, where one of a
	// prompt is 1: a prompt's tokens are computed together.
	outputWeight = 2
	// chargeEvery is the least service that is charged before the end. A request's
	// own lock is taken that often.
	chargeEvery = 512
	// maxUsage is the most that a server is believed to have served one request, in
	// tokens.
	maxUsage = 1 << 32
)

// Ticket is a request's place in its model's queue, then its slot while it is
// served. The zero Ticket is none; [Model.Admit] fills it. A Ticket belongs to
// one request and is not safe for use by several goroutines.
type Ticket struct {
	// Request is what the ticket is for; it is set before [Model.Admit].
	Request Request

	model    *Model
	place    admission.Place
	deadline time.Time // of waiting: its own, or that of max_wait
	hurried  bool      // the deadline is its own
	started  time.Time // when service began: its first lease
	queued   time.Duration
	loaded   time.Duration
	told     time.Time // when it was last told how things stand; first: its arrival

	depth   int   // how many waited when it came
	most    int   // how many might then
	stood   int   // its position then
	charged int64 // service it was charged
	pending int64 // service it is to be charged
}

// Model is the model the ticket is for, or nil for none.
func (t *Ticket) Model() *Model { return t.model }

// Queued is how long the ticket waited for its slot.
func (t *Ticket) Queued() time.Duration { return t.queued }

// Loading is how long its leases waited for the model to be ready.
func (t *Ticket) Loading() time.Duration { return t.loaded }

// Found is how many requests waited when this one came, and how many might.
func (t *Ticket) Found() (depth, maxQueue int) { return t.depth, t.most }

// Position is where the request stood in the queue when it came, itself included,
// about; 0: it was admitted at once, or refused.
func (t *Ticket) Position() int { return t.stood }

// Admit waits for a slot at the model and makes t the ticket for its Request. now
// is when the request arrived. It returns an [*Error] when the queue is full,
// max_wait or the request's deadline has passed or the deadline cannot be met,
// or the context's error when the caller gave up; then t is no ticket and there is
// nothing to return.
//
// When a slot is free, Admit takes no lock but the model's own, allocates
// nothing for a client it knows and does not look at the clock.
func (m *Model) Admit(ctx context.Context, now time.Time, t *Ticket) error {
	admitted, err := m.enter(now, t)
	if admitted || err != nil {
		return err
	}
	_, err = await(ctx, m, t, now, t.place.Turn)
	t.started = time.Now()
	t.queued = t.started.Sub(now)
	if err == nil && t.place.Displaced() {
		return m.lostPlace(t.started)
	}
	if err != nil {
		m.giveUp(t)
		return err
	}
	t.model = m
	return nil
}

// await waits for what comes through a channel, until the ticket's deadline. The
// error is the context's or an [*Error].
func await[T any](ctx context.Context, m *Model, t *Ticket, now time.Time, c <-chan T) (v T, err error) {
	timer := time.NewTimer(t.deadline.Sub(now))
	defer timer.Stop()
	every := t.Request.NotifyEvery
	var next *time.Timer
	var tell <-chan time.Time
	if t.Request.Notify != nil && every > 0 {
		next = time.NewTimer(t.told.Add(every).Sub(now)) // the waits before count
		defer next.Stop()
		tell = next.C
	}
	for {
		select {
		case v = <-c:
			return v, nil
		case <-ctx.Done():
			return v, ctx.Err()
		case <-timer.C:
			return v, m.timeout(t)
		case <-m.mgr.closed:
			return v, errShuttingDown(m.name)
		case t.told = <-tell:
			next.Reset(every)
			t.Request.Notify(m.progress(t))
		}
	}
}

// progress is how things stand for a ticket that waits.
func (m *Model) progress(t *Ticket) Progress {
	var p Progress
	if s := m.stage.Load(); s != nil {
		p.Stage = string(*s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p.Position = m.queue.Position(&t.place)
	return p
}

// enter takes a place for a ticket. When the request is neither admitted nor
// refused, it waits for its place's Turn.
func (m *Model) enter(now time.Time, t *Ticket) (admitted bool, _ error) {
	t.reset(now, now.Add(time.Duration(m.maxWait.Load())))
	if d := t.Request.Deadline; !d.IsZero() && d.Before(t.deadline) {
		t.deadline, t.hurried = d, true
	}
	r := admission.Request{Client: t.Request.Client, Class: t.Request.Class, Cost: t.charged}
	m.mu.Lock()
	m.asked = true
	t.depth, t.most = m.queue.Waiting(), m.queue.Max()
	if t.hurried {
		if d := m.expected(now, r); now.Add(d).After(t.deadline) {
			m.mu.Unlock()
			return false, m.unreachable(d)
		}
	}
	switch m.let(t, r) {
	case admission.Admitted:
		t.model = m
		m.mu.Unlock()
		return true, nil
	case admission.Full:
		serving, after := m.queue.Serving(), m.retryAfter(now)
		m.mu.Unlock()
		return false, m.full(t, serving, after)
	}
	t.stood = m.queue.Position(&t.place)
	counted := m.counted
	if counted {
		m.advance()
	}
	m.mu.Unlock()
	if counted {
		m.mgr.total.pump()
	}
	return false, nil
}

// reset makes a ticket that of a request which comes now. Field by field, since its
// Request stays, and a whole ticket is much to copy.
func (t *Ticket) reset(now, deadline time.Time) {
	t.model, t.place = nil, admission.Place{}
	t.started, t.told, t.deadline, t.hurried = now, now, deadline, false
	t.queued, t.loaded = 0, 0
	t.depth, t.most, t.stood = 0, 0, 0
	t.charged, t.pending = max(1, t.Request.Cost), 0
}

// let lets a ticket in or has it wait, or neither. The caller holds mu.
func (m *Model) let(t *Ticket, r admission.Request) admission.Verdict {
	var v admission.Verdict
	var lost *admission.Place
	total := &m.mgr.total
	switch {
	case !m.counted || m.queue.Free() && total.take():
		v, lost = m.queue.Enter(&t.place, r)
	default:
		room := total.enqueue()
		v, lost = m.queue.Wait(&t.place, r, room)
		if room && (v == admission.Full || lost != nil) {
			total.queued.Add(-1)
		}
	}
	if lost != nil {
		close(lost.Turn)
	}
	if v == admission.Queued {
		t.place.Turn = make(chan struct{})
	}
	return v
}

// expected is how long a request that comes now will wait, queue and load
// together, as far as is known. The caller holds mu.
func (m *Model) expected(now time.Time, r admission.Request) time.Duration {
	d, _ := m.queue.TimeTo(m.queue.PositionFor(r))
	if ready := m.ready.Load(); ready == nil || len(*ready) == 0 {
		if coming := m.coming(now); coming > 0 {
			return d + coming
		}
		d += time.Duration(m.loadTime.Load())
	}
	return d
}

// giveUp takes a ticket out of the queue that waits no longer.
func (m *Model) giveUp(t *Ticket) {
	m.mu.Lock()
	waited := m.queue.Remove(&t.place)
	lost := t.place.Displaced()
	counted := m.counted
	if waited && counted {
		m.mgr.total.queued.Add(-1)
		m.advance() // the next may be of another class
	}
	m.mu.Unlock()
	switch {
	case waited && counted:
		m.mgr.total.pump()
	case !waited && !lost: // its turn came at the same moment
		m.leave(t, 0)
	}
}

// Unmeasured has the ticket say nothing of how long serving takes: the request
// was not served to its end.
func (t *Ticket) Unmeasured() { t.started = time.Time{} }

// Served notes that so many events of an answer have come, each about a token.
func (t *Ticket) Served(events int64) {
	t.pending += outputWeight * events
	if t.pending >= chargeEvery && t.model != nil {
		t.model.mu.Lock()
		t.charge()
		t.model.mu.Unlock()
	}
}

// Used notes how many tokens the server says a request took, which is believed
// more than its size and the events that were counted. It comes at the end.
func (t *Ticket) Used(prompt, output int64) {
	inRange := func(n int64) int64 { return min(max(0, n), maxUsage) }
	t.pending = inRange(prompt) + outputWeight*inRange(output) - t.charged
}

// charge charges what is pending. The caller holds the model's mu.
func (t *Ticket) charge() {
	if t.pending != 0 {
		t.model.queue.Charge(&t.place, t.pending)
		t.charged += t.pending
		t.pending = 0
	}
}

// Return gives the ticket's slot back. Returning no ticket does nothing, so
// that a deferred Return is always right. now is the time at that moment.
func (t *Ticket) Return(now time.Time) {
	m := t.model
	if m == nil {
		return
	}
	held := now.Sub(t.started)
	if t.started.IsZero() {
		held = 0 // never served: says nothing of how long serving takes
	}
	m.leave(t, held)
	t.model = nil
}

// leave gives a ticket's slot back and lets the next one in.
func (m *Model) leave(t *Ticket, held time.Duration) {
	m.mu.Lock()
	if t.model != nil {
		t.charge()
	}
	m.queue.Leave(&t.place, held)
	counted := m.counted
	if counted {
		m.mgr.total.used.Add(-1)
	}
	m.advance()
	idle := m.queue.Serving() == 0 && m.queue.Waiting() == 0
	m.mu.Unlock()
	if counted {
		m.mgr.total.pump()
	}
	if idle && m.wanted.Load() {
		m.mgr.wake()
	}
}
