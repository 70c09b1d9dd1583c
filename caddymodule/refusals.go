// This file owns how refusals are logged: one line per second and model at most,
// however many there are, with their count.

package caddymodule

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// refusalLogEvery is how often a model's refusals are told at most.
const refusalLogEvery = time.Second

// queueFull counts, over all sites of the process, the requests that found their
// model's queue full.
var queueFull refusals

// refusals are those of all models. The zero refusals are usable.
type refusals struct{ models sync.Map } // *modelRefusals by the model's name

// modelRefusals are the refusals of one model.
type modelRefusals struct {
	mu     sync.Mutex
	quiet  bool // a line was written less than refusalLogEvery ago
	untold int  // refusals since that line
	depth  int  // at the last of them
	limit  int
	log    *zap.Logger
}

// note counts a refusal by the queue of a model, and tells it now or with the
// next line.
func (r *refusals) note(log *zap.Logger, model string, depth, limit int) {
	if !log.Core().Enabled(zap.WarnLevel) {
		return
	}
	v, ok := r.models.Load(model)
	if !ok {
		v, _ = r.models.LoadOrStore(model, new(modelRefusals))
	}
	m := v.(*modelRefusals)
	m.mu.Lock()
	m.untold++
	m.log, m.depth, m.limit = log, depth, limit
	quiet := m.quiet
	m.mu.Unlock()
	if !quiet {
		m.tell(model)
	}
}

// tell writes a line if there is anything to tell, and sees to it that the
// refusals to come are told too.
func (m *modelRefusals) tell(model string) {
	m.mu.Lock()
	count, depth, limit, log := m.untold, m.depth, m.limit, m.log
	m.untold, m.log = 0, nil
	m.quiet = count > 0
	m.mu.Unlock()
	if count == 0 {
		return
	}
	time.AfterFunc(refusalLogEvery, func() { m.tell(model) })
	log.Warn("Queue full, refusing requests", zap.String("model", model),
		zap.Int("count", count), zap.Int("depth", depth), zap.Int("max_queue", limit))
}
