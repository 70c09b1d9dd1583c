package vramman

import (
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file draws what a model may be beside its size and its limits: one that can
// be sized, that sleeps, that is there from the beginning, that may run on some
// cards only, that waits or is refused instead of having others make room.

// drawLister draws whether the engine can be asked what runs.
func (w *world) drawLister() bool {
	l := w.luck("the engine lists", "", 0)
	return l.intN(4) > 0
}

// drawMore draws it for a model of a pool of these cards.
func (w *world) drawMore(m *ModelSpec, p *Pool, cards []string) {
	l := w.luck("what a model is besides", m.Name, w.version)
	sized, sleeps, declares, auto, reserves := l.intN(2) == 0, l.intN(3) > 0, l.intN(4) == 0, l.intN(2) == 0, l.intN(3)
	preload, conflict, shares := l.intN(6) == 0, l.intN(12), l.intN(2) == 0
	some, pins := l.intN(8), slices.Clone(cards)
	if w.sleepy {
		sleeps, conflict = true, max(conflict, 1)
		m.IdleTimeout = min(m.IdleTimeout, 2*time.Minute)
	}
	if m.AlwaysOn {
		sized, preload = false, false
	}
	if sized && !declares {
		m.Need = placement.Need{}
		m.Launch.ReservedSeqs = reserves * l.intN(3)
	}
	if m.Need == (placement.Need{}) && auto && !m.AlwaysOn {
		m.AutoParallel, m.Launch.TensorParallel = true, 0
	}
	switch {
	case sized && sleeps:
		m.Server = sizedSleepyServer{}
	case sized:
		m.Server = sizedServer{}
	case sleeps:
		m.Server = sleepyServer{}
	}
	m.Launch.Sleep, m.Preload, m.Colocate = sleeps, preload, p.WholeCard && shares
	switch conflict {
	case 0:
		m.OnConflict = scheduler.Hold
	case 1:
		m.OnConflict = scheduler.Reject
	}
	// Of its pool's cards, at least as many as it wants.
	keep := max(1, m.Launch.TensorParallel)
	for len(pins) > keep && l.intN(3) > 0 {
		n := l.intN(len(pins))
		pins = slices.Delete(pins, n, n+1)
	}
	switch some {
	case 0:
		m.Pin = pins
	case 1:
		m.Exclude = slices.DeleteFunc(slices.Clone(cards), func(c string) bool { return slices.Contains(pins, c) })
	}
}
