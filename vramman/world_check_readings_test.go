package vramman

import (
	"slices"
)

// This file is about what the owner makes of readings: invariants 1 and 2 as
// far as they rest on what was seen. Figures may be wrong; what was seen is
// charged, and what nobody is charged for is foreign.

// reading is what must follow from one.
type reading struct {
	foreign map[string]int64      // per card
	shown   map[*process][]string // charged servers, and the cards that show them
}

// beforeReading reckons up what a reading says, while the owner has not heard it.
func (w *world) beforeReading(e readEvent) *reading {
	if e.handle != w.owner.inventory {
		return nil
	}
	for i, pids := range e.pids {
		w.started[i].tellOf(pids)
	}
	r := &reading{foreign: make(map[string]int64), shown: make(map[*process][]string)}
	for _, p := range w.processes {
		clear(p.last)
	}
	for _, c := range e.cards {
		foreign := c.Used
		for _, shown := range c.Processes {
			p := w.byPID[shown.PID]
			if p.life != w.life || !slices.Contains(p.told, shown.PID) || !p.i.word.state().charged() {
				continue
			}
			r.shown[p] = append(r.shown[p], c.UUID)
			p.last[c.UUID] = shown.Used
			if p.i.nap.rests && p.rested != nil {
				p.rested[c.UUID] = max(p.rested[c.UUID], shown.Used)
			} else {
				p.seen[c.UUID] = max(p.seen[c.UUID], shown.Used)
			}
			foreign -= shown.Used
		}
		if c.Unattributed { // nobody knows whose it is: ours count as what they are charged
			foreign -= w.owner.ledger.Charged(c.UUID)
		}
		r.foreign[c.UUID] = max(0, foreign)
	}
	for _, p := range w.processes {
		p.unseen = p.unseen || p.ended && !w.readingBegan.Before(p.endedAt) && len(r.shown[p]) == 0
	}
	return r
}

// checkReading sees to it that the owner has heard it.
func (w *world) checkReading(r *reading) {
	if r == nil {
		return
	}
	for c, foreign := range r.foreign {
		a, _ := w.owner.ledger.Card(c)
		w.must(a.Foreign == foreign, 1, "%s: others use %d, the account says %d", c, foreign, a.Foreign)
	}
	w.checkSqueeze(r)
	for p := range r.shown {
		s := p.i.word.state()
		w.must(s.charged(), 2, "%s was seen to hold memory a moment ago, and is %v", p.i.id, s)
	}
}
