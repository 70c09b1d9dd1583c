package vramman

import (
	"fmt"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file puts what happens in a world into words.

// tale is what has happened so far.
type tale struct {
	setting []string // how the world began
	lines   []string
	at      time.Time // of the last line
}

// note adds a line to the story, if somebody listens.
func (w *world) note(format string, args ...any) {
	if w.tale == nil {
		return
	}
	w.tale.at = w.now
	w.tale.lines = append(w.tale.lines, w.clock(w.now)+": "+fmt.Sprintf(format, args...))
}

// clock is a moment as seconds of the world.
func (w *world) clock(t time.Time) string {
	return fmt.Sprintf("%.1f s", t.Sub(worldBegin).Seconds())
}

// retell adds one of the owner's decisions.
func (w *world) retell(d DecisionStatus) {
	if w.tale == nil {
		return
	}
	on := strings.Join(d.GPUs, " and ")
	switch d.Action {
	case "start":
		needs := ""
		if i := w.owner.instance(d.Instance); i != nil {
			if l := w.owner.loadOf(i); l != nil {
				needs = fmt.Sprintf(" (%v)", ledger.Size(l.need[0]))
			}
		}
		w.note("%s starts on %s%s", d.Instance, on, needs)
	case "evict":
		if n := len(w.tale.lines); n > 0 && w.tale.at.Equal(w.now) && strings.Contains(w.tale.lines[n-1], " starts on ") {
			w.tale.lines[n-1] += ", evicting " + d.Instance
			return
		}
		w.note("%s is evicted", d.Instance)
	case "wait":
		if n := len(w.tale.lines); n > 0 && strings.Contains(w.tale.lines[n-1], ": a request for "+d.Model+",") {
			w.tale.lines[n-1] += fmt.Sprintf("; from %s on %s waits (%s)", w.clock(w.now), d.Model, d.Reason)
			return
		}
		w.note("%s waits (%s)", d.Model, d.Reason)
	case "ready":
		w.note("%s is ready", d.Instance)
	case "gone":
		// The usual end is not worth a line.
	default:
		who := d.Instance
		if who == "" {
			who = d.Model
		}
		w.note("%s: %s (%s)", who, messages[d.Action], d.Reason)
	}
}

// describe tells how the world begins.
func (w *world) describe(s *Spec) {
	if w.tale == nil {
		return
	}
	for _, c := range w.cards {
		w.tale.setting = append(w.tale.setting, fmt.Sprintf("%s: %s, %d GiB.", c.uuid, c.kind.name, c.kind.gib))
	}
	for n := range s.Pools {
		p := &s.Pools[n]
		which := "all cards"
		if len(p.GPUs) > 0 {
			which = strings.Join(p.GPUs, ", ")
		}
		w.tale.setting = append(w.tale.setting, fmt.Sprintf("Pool %s: %s, budget %.2f%s.", p.Name, which, p.Budget, map[bool]string{true: ", whole cards"}[p.WholeCard]))
	}
	for n := range s.Models {
		m := &s.Models[n]
		needs := "the whole budget"
		switch {
		case m.Need.Bytes > 0:
			needs = ledger.Size(m.Need.Bytes).String()
		case m.Need.Share > 0:
			needs = fmt.Sprintf("%.2f", m.Need.Share)
		}
		w.tale.setting = append(w.tale.setting, fmt.Sprintf("%s: %s of %d cards of pool %s%s.", m.Name, needs, m.Launch.TensorParallel, m.Pool,
			map[bool]string{true: ", always on"}[m.AlwaysOn]))
	}
	w.tale.setting = append(w.tale.setting, fmt.Sprintf("Eviction %s, max_wait_for_turn %v, drain_timeout %v.",
		s.Eviction.Name(), s.MaxWaitForTurn.Round(time.Second), s.DrainTimeout.Round(time.Second)))
}

// String is the whole story: the setting, the numbered lines, and what broke.
func (w *world) String() string {
	var b strings.Builder
	for _, s := range w.tale.setting {
		fmt.Fprintln(&b, s)
	}
	for n, s := range w.tale.lines {
		fmt.Fprintf(&b, "%3d. %s\n", n+1, s)
	}
	if w.broken != nil {
		fmt.Fprintf(&b, "At %s, %s\n", w.clock(w.now), w.broken)
	}
	return b.String()
}
