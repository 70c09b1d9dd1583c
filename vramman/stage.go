package vramman

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file owns what requests that wait are told of their model: how far a load
// has come, and how long one would take.

// tellRequests makes known how each model's load stands.
func (o *owner) tellRequests() {
	var naps map[*record]time.Duration
	for _, i := range o.instances {
		if s := i.word.state(); s == StateSleeping || s == StateAsleep {
			if naps == nil {
				naps = make(map[*record]time.Duration)
			}
			naps[i.record] = o.wakeTime(i)
		}
	}
	for _, r := range o.records {
		expected := r.loadTime
		if wake, asleep := naps[r]; asleep {
			expected = wake
		}
		r.model.loadTime.Store(int64(expected))
		stage, old := r.stage(), r.model.stage.Load()
		switch {
		case stage == "":
			if old != nil {
				r.model.stage.Store(nil)
			}
		case old == nil || *old != stage:
			changed := stage
			r.model.stage.Store(&changed)
		}
	}
}

// waitingForRoom is the stage of a model that has all it needs but a place.
const waitingForRoom server.Stage = "waiting for room"

// stage is how far the model's load has come; empty: there is none.
func (r *record) stage() server.Stage {
	if r.demand == nil {
		return ""
	}
	i := r.current
	if i == nil {
		return waitingForRoom
	}
	switch i.word.state() {
	case StateFetching:
		if i.fetched {
			return waitingForRoom
		}
	case StateWaking:
		return "waking"
	}
	return i.stage
}
