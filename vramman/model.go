package vramman

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// Model is a model as requests see it: its queue, its limits and its ready
// instances. There is one per name for the manager's life, so a reload keeps
// every place in the queue and two sites share them.
type Model struct {
	name string
	mgr  *Manager

	mu      sync.Mutex // guards queue, asked and counted; held for a few field accesses at a time
	queue   admission.Queue
	asked   bool // a request has come since the owner last looked
	counted bool // its requests count in total; see total

	turn admission.Turn[*Model] // for a slot in total; guarded by the total's lock

	maxWait atomic.Int64                // time.Duration
	ready   atomic.Pointer[[]*Instance] // those that may give leases; replaced, never changed
	wanted  atomic.Bool                 // the owner waits for the model to become idle
	// readyAt is when a load under way is expected to end, in Unix nanoseconds;
	// 0: no load is under way, or nothing is known.
	readyAt atomic.Int64
	// loadTime is how long it would take to be ready if it was asked for now, in
	// nanoseconds; 0: not known.
	loadTime atomic.Int64
	// stage is how far a load under way has come; nil: there is none.
	stage atomic.Pointer[server.Stage]
}

// Name is the model's name in the configuration.
func (m *Model) Name() string { return m.name }

// QueueState is how a model's queue stands.
type QueueState struct {
	Depth         int           `json:"depth"`          // requests that wait for a slot
	MaxQueue      int           `json:"max_queue"`      // requests that may wait
	Serving       int           `json:"serving"`        // requests that have a slot
	MaxConcurrent int           `json:"max_concurrent"` // slots, over all ready instances
	Refused       uint64        `json:"refused"`        // requests that found the queue full, or lost their place in it
	Service       time.Duration `json:"service_ns"`     // mean time a slot is used; 0: not measured
}

// Queue returns how the queue stands now.
func (m *Model) Queue() QueueState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return QueueState{
		Depth: m.queue.Waiting(), MaxQueue: m.queue.Max(),
		Serving: m.queue.Serving(), MaxConcurrent: m.queue.Slots(),
		Refused: m.queue.Refused(), Service: m.queue.Service(),
	}
}

// setLimits puts new limits in force and lets those in whom they let in.
func (m *Model) setLimits(slots, waiting int) {
	m.mu.Lock()
	m.queue.SetLimits(slots, waiting)
	more := m.advance()
	m.mu.Unlock()
	if more {
		m.mgr.total.pump()
	}
}

// advance gives slots to those whose turn has come. The caller holds mu; true says
// that it must call the total's pump after it has let go of it.
func (m *Model) advance() (more bool) {
	for m.queue.Wants() {
		if m.counted && !m.mgr.total.take() {
			m.mgr.total.wait(m, m.queue.Class())
			return true
		}
		m.admitNext()
	}
	return false
}

// admitNext gives the next place its slot. The caller holds mu, and a slot in
// total where such count.
func (m *Model) admitNext() {
	p := m.queue.Next()
	if m.counted {
		m.mgr.total.queued.Add(-1)
	}
	close(p.Turn)
}

// tickets is how many requests wait or are served.
func (m *Model) tickets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue.Waiting() + m.queue.Serving()
}

// retryAfter is when a request that finds the queue full now should come back:
// when the queue will have emptied, a load under way included. 0: unknown.
// The caller holds mu.
func (m *Model) retryAfter(now time.Time) time.Duration {
	d, known := m.queue.TimeToEmpty()
	if !known {
		return 0
	}
	return max(d+m.coming(now), time.Millisecond)
}

// coming is how long a load under way will still take; 0: there is none, or
// nothing is known.
func (m *Model) coming(now time.Time) time.Duration {
	if at := m.readyAt.Load(); at != 0 {
		return max(0, time.Unix(0, at).Sub(now))
	}
	return 0
}

// lease takes a lease on the ready instance with the fewest, other than avoid
// where there is another. It returns nil when there is none.
func (m *Model) lease(avoid *Instance) *Instance {
	ready := m.ready.Load()
	if ready == nil {
		return nil
	}
	for {
		var best *Instance
		least := math.MaxInt
		for _, i := range *ready {
			n := i.word.leases()
			if i == avoid {
				n = math.MaxInt - 1 // better than none
			}
			if n < least && i.word.state() == StateReady {
				best, least = i, n
			}
		}
		if best == nil {
			return nil
		}
		if best.word.lease() {
			return best
		}
	}
}
