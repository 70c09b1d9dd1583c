// Package vramman is the VRAM manager: it starts models on demand, keeps exact
// account of the memory of each card, and makes room for one model by stopping
// another. It knows nothing of Caddy.
//
// Requests come in by [Generation.Find], [Model.Admit], [Ticket.Acquire]; on
// the hot path they touch nothing but their model's queue and their instance's
// word. Everything else belongs to one goroutine, the owner, which handles
// events one by one and never blocks; workers do what takes time and report
// back by events.
package vramman

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/host"
)

// Manager is the owner's door. There is one per process; it lives through
// every reload. The zero Manager is not usable: see [New].
type Manager struct {
	events chan event
	woken  chan struct{} // of capacity 1: something that was waited for may have become idle
	closed chan struct{} // closed when the manager takes no more requests

	inForce atomic.Pointer[Generation] // nil: none
	total   total                      // the limits on all models together

	// readHost tells how much memory servers may take: of the whole machine, or of
	// the control group that they share with the gateway.
	readHost func(machine bool) (host.Memory, error)

	begin   sync.Once
	begun   atomic.Bool
	stopped chan struct{} // closed when the owner and its workers have ended
}

// New makes a manager. It starts nothing before the first [Manager.Apply].
func New() *Manager {
	return &Manager{
		events:  make(chan event, 64),
		woken:   make(chan struct{}, 1),
		closed:  make(chan struct{}),
		stopped: make(chan struct{}),

		readHost: func(machine bool) (host.Memory, error) {
			if machine {
				return host.ReadMachine()
			}
			return host.Read()
		},
	}
}

// Apply adds a generation: its models can be asked for from now on. It only
// adds. What the generation changes or removes, and its limits, wait for
// [Manager.Commit].
func (m *Manager) Apply(g *Generation) {
	m.begin.Do(func() {
		m.begun.Store(true)
		go m.run()
	})
	m.call(func(done chan<- struct{}) event { return applyEvent{g, done} })
	g.setRoutes(nil) // where a closed manager has not: nobody is kept waiting
}

// Commit puts the generation in force: what it changes is restarted, what it
// no longer has is stopped once it is idle.
func (m *Manager) Commit(g *Generation) {
	m.call(func(done chan<- struct{}) event { return commitEvent{g, done} })
}

// Withdraw takes a generation away, which may never have been applied. If it
// was in force, the newest committed one that remains is in force again;
// without any, everything is stopped.
func (m *Manager) Withdraw(g *Generation) {
	if m.never() {
		g.setRoutes(nil)
		return
	}
	m.call(func(done chan<- struct{}) event { return withdrawEvent{g, done} })
	g.setRoutes(nil)
}

// Status returns a picture of everything.
func (m *Manager) Status(ctx context.Context) (*Status, error) {
	reply := make(chan *Status, 1)
	if m.never() {
		return &Status{Engine: "no configuration is in force"}, nil
	}
	if !m.post(statusEvent{reply}) {
		return nil, errShuttingDown("")
	}
	select {
	case s := <-reply:
		return s, nil
	case <-m.stopped:
		return nil, errShuttingDown("")
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the manager's status: %w", ctx.Err())
	}
}

// Close refuses all who wait, stops every instance and returns when they are
// gone, or when ctx ends. It comes at the end of the process; a closed manager
// is not opened again.
func (m *Manager) Close(ctx context.Context) error {
	if m.never() {
		return nil
	}
	m.post(closeEvent{})
	select {
	case <-m.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for instances to stop: %w", ctx.Err())
	}
}

// never says that the owner was never started.
func (m *Manager) never() bool { return !m.begun.Load() }

// run is the owner's goroutine.
func (m *Manager) run() {
	w := newWorkers(m)
	o := newOwner(m, w)
	for !o.finished() {
		var e event
		select {
		case e = <-m.events:
		case <-m.woken:
			e = wakeEvent{}
		case <-w.timer.C:
			e = wakeEvent{}
		}
		if _, ok := e.(closeEvent); ok && !o.closing {
			close(m.closed)
		}
		o.handle(time.Now(), e)
	}
	o.shut()
	w.wait()
	close(m.stopped)
}

// post tells the owner of an event. It returns false when nobody listens any more.
func (m *Manager) post(e event) bool {
	select {
	case m.events <- e:
		return true
	case <-m.stopped:
		return false
	}
}

// wake has the owner look again. It never blocks: one wake that is not heard
// yet stands for all.
func (m *Manager) wake() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// call posts an event and waits until it has been handled.
func (m *Manager) call(withDone func(done chan<- struct{}) event) {
	done := make(chan struct{})
	if m.post(withDone(done)) {
		select {
		case <-done:
		case <-m.stopped:
		}
	}
}
