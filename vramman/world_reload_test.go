package vramman

import (
	"fmt"
	"slices"
	"time"
)

// This file is about what a world's gateway goes through: reloads, those that
// fail among them, its own death, and its end.

// reloadTo applies a spec as Caddy does: the new one starts, then the old goes.
func (w *world) reloadTo(s *Spec, commit bool) {
	if w.reloading || w.owner.closing {
		return
	}
	w.reloading, w.disturbed = true, w.now
	g := NewGeneration(s)
	w.tell(applyEvent{g: g})
	rest := func() {
		w.reloading, w.disturbed = false, w.now
		if !commit { // another app of the new configuration fails
			w.note("the reload fails")
			w.tell(withdrawEvent{g: g})
			return
		}
		w.spec = s
		w.tell(commitEvent{g: g})
		old := w.current
		w.current = []*Generation{g}
		w.later(w.delay("old goes", "", w.version, 0, time.Second), func() {
			for _, o := range old {
				w.disturbed = w.now
				w.tell(withdrawEvent{g: o})
			}
		})
	}
	if len(w.current) == 0 {
		rest()
		return
	}
	w.later(w.delay("new comes", "", w.version, 0, 15*time.Second), rest)
}

// reloads has configurations change.
func (w *world) reloads(n int) {
	w.after(w.chanceBetween("when a reload", "", n, 30*time.Second, 8*time.Minute), func() {
		defer w.reloads(n + 1)
		if !w.live || w.reloading || !w.happens("reload", "", n, 1) {
			return
		}
		l := w.luck("which reload", "", n)
		w.reload(&l, n, fmt.Sprintf("m%d", l.intN(w.models)))
	})
}

func (w *world) reload(l *luck, n int, name string) {
	switch l.intN(10) {
	case 0:
		w.note("reload: everything changes")
		w.version = n
		w.reloadTo(w.draw(), true)
	case 1:
		w.note("reload: a configuration that will fail")
		version, absent := w.version, w.absent
		w.version, w.absent = n, nil
		s := w.draw()
		w.version, w.absent = version, absent
		w.reloadTo(s, false)
	case 2:
		w.note("reload: %s is taken out", name)
		w.absent[name] = true
		w.reloadTo(w.draw(), true)
	case 3:
		for absent := range w.absent { // all come back: the order of a map says nothing
			w.absent[absent] = false
		}
		w.note("reload: every model is configured again")
		w.reloadTo(w.draw(), true)
	case 4:
		w.note("reload: another engine")
		w.changes["engine"] = n
		w.reloadTo(w.draw(), true)
	case 5:
		w.note("reload: another inventory")
		w.changes["cards"] = n
		w.reloadTo(w.draw(), true)
	case 6:
		w.note("reload: %s has other limits", name)
		w.reloadTo(w.changed(name, func(m *ModelSpec) {
			m.MaxConcurrent, m.MaxQueue = 1+l.intN(8), l.intN(20)
			m.IdleTimeout, m.MinResidency, m.AlwaysOn = l.between(0, 5*time.Minute), l.between(0, 2*time.Minute), false
		}), true)
	default:
		w.note("reload: %s is launched in another way", name)
		w.changes[name] = n
		w.reloadTo(w.draw(), true)
	}
}

// gatewayTroubles has the gateway die now and then. Another takes its place, and
// knows nothing but what it finds.
func (w *world) gatewayTroubles(n int) {
	w.after(w.chanceBetween("when the gateway dies", "", n, 2*time.Minute, 30*time.Minute), func() {
		defer w.gatewayTroubles(n + 1)
		if !w.live || !w.fault("the gateway dies", "", n, 1) {
			return
		}
		w.note("the gateway dies, and starts again")
		w.saw("the gateway died")
		w.life++
		w.wakes++
		w.crowd.crash()
		w.open()
		w.current, w.reloading = nil, false
		w.reloadTo(w.spec, true)
	})
}

// windUp takes the configuration away and sees to it that nothing is left.
func (w *world) windUp() {
	w.faults, w.live, w.wound = false, false, w.now
	for n, c := range w.clients {
		if l := w.luck("leaves at the end", c.model.name, n); l.intN(2) == 0 {
			w.leave(c, "its client gives up")
		}
	}
	w.note("the gateway is shut down")
	w.tell(closeEvent{})
	for n := 0; len(w.owner.instances) > 0; n++ { // even those whose VRAM is late
		if n > 20000 || !w.step() {
			w.breaks(5, "it does not end: %+v", w.owner.status(w.now).Instances)
			return
		}
		w.check()
	}
	for _, c := range slices.Clone(w.clients) {
		w.leave(c, "its client gives up")
	}
	for w.ticketsReturn() {
		w.step()
	}
	for _, m := range w.owner.models {
		q := m.Queue()
		w.must(q.Serving == 0 && q.Depth == 0, 5, "model %s: %d tickets and %d places are left", m.name, q.Serving, q.Depth)
	}
	for _, c := range w.owner.ledger.Cards() {
		left := w.owner.ledger.Charged(c.UUID)
		w.must(left == 0, 2, "%s: %d bytes stay charged", c.UUID, left)
	}
	w.must(len(w.owner.gates) == 0, 3, "gates stay held: %v", w.owner.gates)
}

// ticketsReturn says whether tickets are still to be given back.
func (w *world) ticketsReturn() bool {
	for _, n := range w.returning {
		if n > 0 {
			return true
		}
	}
	return false
}
