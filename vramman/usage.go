package vramman

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file brings together what is learned of models, the requests that it is
// learned from and the snapshots that it is learned for. Requests only leave a
// mark at their model; the owner comes by before each decision, at least with
// every reading of the cards, and that is the time at which a use counts.

// takeAsked says whether a request has come since it was last called.
func (m *Model) takeAsked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = false
	return asked
}

// learn takes notice of all models that were asked for.
func (o *owner) learn(now time.Time) {
	for _, r := range o.records {
		if r.model.takeAsked() {
			o.usage.Used(r.model.name, now)
		}
	}
}

// tellUsage adds to an instance's picture what is known of its model.
func (o *owner) tellUsage(i *scheduler.Instance) {
	i.LoadTime, i.Likelihood = o.usage.LoadTime(i.Model), o.usage.Likelihood(i.Model)
}
