// Sleep mode: a server that gives its memory back and lives on
// (vllm/v1/engine/core.py, sleep and wake_up; vllm/v1/executor/abstract.py;
// vllm/v1/worker/gpu_worker.py). What the weights take of the host's memory
// meanwhile shows in a metric only, and those of level 2 come back by themselves.

package vllmsim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// sleepBuffers is what a sleeping server keeps on each card beside its context,
// in bytes, unless the environment says otherwise: graphs, workspaces, buffers.
const sleepBuffers = 640 << 20

// What can be woken by itself.
const (
	tagWeights    = "weights"
	tagCache      = "kv_cache"
	tagScheduling = "scheduling" // only the requests, of a server that was paused
)

// errSlept ends the requests that were under way when the engine was put to sleep.
var errSlept = fmt.Errorf("the engine sleeps: %w", errAborted)

// sleepState is whether the server sleeps.
type sleepState struct {
	turn chan struct{} // holds one thing while the state is being changed

	mu     sync.Mutex
	paused bool     // requests wait
	gone   []string // the tags that are not on the cards; none: it is awake
	level  int      // of the sleep, valid while something is gone
	grown  bool     // it has served since it was last started or woken

	current context.Context // what requests live in until the next sleep aborts them
	abort   context.CancelCauseFunc
}

// sleeping is what GET /is_sleeping answers.
func (s *sleepState) sleeping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused || len(s.gone) > 0
}

// missing are the tags that are not on the cards.
func (s *sleepState) missing() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.gone)
}

// metric is the state as GET /metrics gives it: each 1 or 0.
func (s *sleepState) metric() (awake, offloaded, discarded float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.gone) == 0:
		return 1, 0, 0
	case s.level == 1:
		return 0, 1, 0
	}
	return 0, 0, 1
}

// batch is what a request lives in that comes now.
func (s *sleepState) batch(life context.Context) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		s.current, s.abort = context.WithCancelCause(life)
	}
	return s.current
}

// abortBatch ends the requests that have come so far.
func (s *sleepState) abortBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abort != nil {
		s.abort(errSlept)
		s.current, s.abort = nil, nil
	}
}

// engineError is a change of state that failed within the engine.
type engineError struct {
	message string
	fatal   bool // the engine does not survive it
}

func (e *engineError) Error() string { return e.message }

// fallAsleep pauses the requests and, from level 1 on, frees the cards' memory.
func (s *Server) fallAsleep(level int, mode string) error {
	begin := time.Now()
	if err := s.pauseRequests(mode); err != nil || level == 0 {
		return err
	}
	if len(s.sleep.missing()) > 0 {
		s.log.vllm("EngineCore", "WARNING", "abstract.py", "Executor is already sleeping.")
		return nil
	}
	if err := s.cards.enter(simcard.Sleeping); err != nil {
		return err
	}
	if err := s.misbehave("VLLM_SIM_FAIL_SLEEP", s.cfg.Faults.Sleep); err != nil {
		// As in vLLM requests stay paused then.
		return errors.Join(err, s.cards.enter(simcard.Serving))
	}
	if err := pause(s.life, s.cfg.SleepTime); err != nil {
		return context.Cause(s.life)
	}
	if err := s.freeMemory(level); err != nil {
		return err
	}
	s.log.engine("abstract.py", "It took %.6f seconds to fall asleep.", time.Since(begin).Seconds())
	return s.cards.enter(simcard.Asleep)
}

// pauseRequests lets new requests wait, and ends, awaits or freezes the others.
func (s *Server) pauseRequests(mode string) error {
	s.slots.pause(mode == "keep")
	s.sleep.mu.Lock()
	s.sleep.paused = true
	s.sleep.mu.Unlock()
	switch mode {
	case "abort":
		s.sleep.abortBatch()
		// A client that does not take its answer keeps no engine awake.
		s.await(s.slots.emptied(), abortGrace)
	case "wait":
		select {
		case <-s.slots.emptied():
		case <-s.life.Done():
			return context.Cause(s.life)
		}
	}
	return nil
}

// freeMemory leaves on each card what a sleeping server cannot give back.
func (s *Server) freeMemory(level int) error {
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	for i := range s.devices {
		awake := s.awake(i)
		if s.sleep.grown {
			awake += s.cfg.Peak
		}
		before, err := s.inUse(i, awake)
		if err != nil {
			return err
		}
		left := min(s.cfg.SleepResidual, awake)
		if s.cfg.Faults.Sleep == FailKeep {
			left = awake - (awake-left)/10
		}
		if err := s.occupy(i, left); err != nil {
			return err
		}
		after, err := s.inUse(i, left)
		if err != nil {
			return err
		}
		// As in vLLM these are of the whole card, with all that others take of it.
		s.worker(i, "gpu_worker.py", "Sleep mode freed %s GiB memory, %s GiB memory is still in use.",
			gibText(before-after), gibText(after))
	}
	s.sleep.gone, s.sleep.level, s.sleep.grown = []string{tagWeights, tagCache}, level, false
	return nil
}

// wakeUp brings the tags back onto the cards, all that are gone if there are none,
// and lets requests run once nothing is gone any more.
func (s *Server) wakeUp(tags []string) error {
	gone := s.sleep.missing()
	wanted := slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t == tagScheduling })
	if len(tags) == 0 {
		wanted = gone
	}
	for _, t := range wanted {
		if !slices.Contains(gone, t) {
			s.log.vllm("EngineCore", "WARNING", "abstract.py", "Tag %s is not in sleeping tags %q", t, gone)
			wanted = nil
			break
		}
	}
	if len(wanted) > 0 {
		if err := s.restore(wanted); err != nil {
			return err
		}
	}
	if len(s.sleep.missing()) > 0 {
		return nil
	}
	s.sleep.mu.Lock()
	s.sleep.paused = false
	s.sleep.mu.Unlock()
	s.slots.resume()
	return nil
}

// restore brings tags that are gone back onto the cards.
func (s *Server) restore(tags []string) error {
	begin := time.Now()
	if err := s.cards.enter(simcard.Waking); err != nil {
		return err
	}
	if err := s.misbehave("VLLM_SIM_FAIL_WAKE", s.cfg.Faults.Wake); err != nil {
		return errors.Join(err, s.cards.enter(simcard.Asleep))
	}
	if err := pause(s.life, s.cfg.WakeTime); err != nil {
		return context.Cause(s.life)
	}
	still, err := s.takeMemory(tags)
	if oom := (*memoryError)(nil); errors.As(err, &oom) {
		return &engineError{"torch.OutOfMemoryError: " + oom.Error(), true}
	}
	if err != nil {
		return err
	}
	s.log.engine("abstract.py", "It took %.6f seconds to wake up tags ['%s'].", time.Since(begin).Seconds(), strings.Join(tags, "', '"))
	if still {
		return s.cards.enter(simcard.Asleep)
	}
	return s.cards.enter(simcard.Serving)
}

// takeMemory takes what tags need on each card, and tells whether others are gone
// still.
func (s *Server) takeMemory(tags []string) (still bool, err error) {
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	gone := slices.DeleteFunc(slices.Clone(s.sleep.gone), func(t string) bool { return slices.Contains(tags, t) })
	for i, d := range s.devices {
		used := s.awake(i)
		switch {
		case slices.Contains(gone, tagCache):
			used = min(used, s.cfg.SleepResidual+d.weights)
		case slices.Contains(gone, tagWeights):
			used = min(used, s.cfg.SleepResidual+d.kv)
		}
		if err := s.occupy(i, used); err != nil {
			return false, err
		}
	}
	s.sleep.gone = gone
	return len(gone) > 0, nil
}

// misbehave does what the environment asks for instead of sleeping or waking.
func (s *Server) misbehave(why string, fault SleepFault) error {
	switch fault {
	case FailError:
		return &engineError{message: "RuntimeError: " + why}
	case FailHang:
		<-s.life.Done()
		return context.Cause(s.life)
	case FailDie:
		s.die(why)
		return errDied
	}
	return nil
}

// awake is what a server that is awake uses of card i, in bytes, before it has
// served anything.
func (s *Server) awake(i int) int64 {
	d := s.devices[i]
	return s.cfg.Context + d.weights + d.kv + d.working
}

// grow takes what serving needs beyond that, with the first request.
func (s *Server) grow() error {
	s.sleep.mu.Lock()
	defer s.sleep.mu.Unlock()
	if s.cfg.Peak == 0 || s.sleep.grown || len(s.sleep.gone) > 0 {
		return nil
	}
	for i := range s.devices {
		err := s.occupy(i, s.awake(i)+s.cfg.Peak)
		if oom := (*memoryError)(nil); errors.As(err, &oom) {
			s.die("torch.OutOfMemoryError: " + oom.Error())
			return errDied
		}
		if err != nil {
			return err
		}
	}
	s.sleep.grown = true
	return nil
}

// occupy sets what the server uses of card i, if there are cards.
func (s *Server) occupy(i int, bytes int64) error {
	if len(s.cards.held) == 0 {
		return nil
	}
	return s.cards.take(i, bytes)
}

// inUse is what everybody uses of card i; own is the server's part, all that counts
// where there is no card.
func (s *Server) inUse(i int, own int64) (int64, error) {
	if len(s.cards.held) == 0 {
		return own, nil
	}
	card, err := s.cards.read(i)
	return card.Used(), err
}
