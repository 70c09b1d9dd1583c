// The places of the running batch: at most --max-num-seqs requests run at a time,
// the others wait in the order of their arrival without a bound. While the engine
// is paused (vllm/v1/engine/core.py, pause_scheduler) new requests wait, too, and
// those that run end or freeze.

package vllmsim

import (
	"container/list"
	"context"
	"sync"
)

// slots are the places.
type slots struct {
	mu      sync.Mutex
	free    int
	running int
	peak    int       // the most that ever ran
	waiting list.List // of *waiter

	paused bool
	thaw   chan struct{} // closed by the resume; nil unless those that run are frozen
	idle   chan struct{} // closed once none runs; nil unless somebody waits for that
}

// waiter is a request that waits for its place.
type waiter struct {
	turn chan struct{} // closed when it has come
	late bool          // it came during a pause, and waits for the pause's end
}

// take waits for a place. Without an error the caller must give it back.
func (s *slots) take(ctx context.Context) error {
	s.mu.Lock()
	if s.free > 0 && !s.paused {
		s.begin()
		s.mu.Unlock()
		return nil
	}
	w := &waiter{turn: make(chan struct{}), late: s.paused}
	place := s.waiting.PushBack(w)
	s.mu.Unlock()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.turn: // the turn came too, and goes to the next
		s.end()
	default:
		s.waiting.Remove(place)
		s.noteIdle()
	}
	return context.Cause(ctx)
}

func (s *slots) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
}

// begin, end and passOn are called with s.mu held.
func (s *slots) begin() {
	s.free--
	s.running++
	s.peak = max(s.peak, s.running)
}

func (s *slots) end() {
	s.free++
	s.running--
	s.passOn()
	s.noteIdle()
}

// passOn gives free places to those who wait, in their order.
func (s *slots) passOn() {
	for s.free > 0 {
		first := s.waiting.Front()
		if first == nil || s.paused && (first.Value.(*waiter).late || s.thaw != nil) {
			return
		}
		s.begin()
		close(s.waiting.Remove(first).(*waiter).turn)
	}
}

// pause lets no request in that comes from now on. Those that are there go on,
// or stay where they are if they are to freeze.
func (s *slots) pause(freeze bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
	switch {
	case freeze && s.thaw == nil:
		s.thaw = make(chan struct{})
	case !freeze:
		s.melt()
		s.passOn()
	}
}

// resume ends a pause, if there is one.
func (s *slots) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	for place := s.waiting.Front(); place != nil; place = place.Next() {
		place.Value.(*waiter).late = false
	}
	s.melt()
	s.passOn()
}

// melt is called with s.mu held.
func (s *slots) melt() {
	if s.thaw != nil {
		close(s.thaw)
		s.thaw = nil
	}
}

// frozen is closed when the requests that run may go on; nil if they may now.
func (s *slots) frozen() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.thaw
}

// emptied is closed once no request is left of those that came before the pause.
// One caller at a time may wait so.
func (s *slots) emptied() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := make(chan struct{})
	s.idle = idle
	s.noteIdle()
	return idle
}

// noteIdle is called with s.mu held.
func (s *slots) noteIdle() {
	first := s.waiting.Front()
	if s.idle == nil || s.running > 0 || first != nil && !first.Value.(*waiter).late {
		return
	}
	close(s.idle)
	s.idle = nil
}

// counts tells how many requests run and wait.
func (s *slots) counts() (running, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, s.waiting.Len()
}

// most tells how many requests ran at once at most.
func (s *slots) most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}
