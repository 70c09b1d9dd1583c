package vramman

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is invariant 6: no model waits for ever, and none is swapped sooner
// than at its turn.

// wait is how long a demand has been the first in its pool.
type wait struct {
	demand *demand
	since  time.Time
}

// checkTurns sees to it that the first in line gets its turn in time. Whatever
// goes wrong meanwhile gives it more time.
func (w *world) checkTurns() {
	o := w.owner
	if o.spec == nil || o.closing {
		return
	}
	for _, r := range o.records {
		if r.demand == nil || !w.firstInLine(r) {
			delete(w.waits, r)
			continue
		}
		x := w.waits[r]
		if x.demand != r.demand || x.since.Before(w.disturbed) || x.since.Before(w.refusals[r.model.name]) {
			w.waits[r] = wait{r.demand, w.now}
			continue
		}
		waited, most := w.now.Sub(x.since), w.turnBound(o.spec)
		w.must(waited <= most, 6, "%s has been the first in line for %v, and its turn comes within %v: it waits for %s", r.model.name, waited, most, r.waiting)
	}
}

// turnBound is how long the first in line waits where nothing goes wrong any
// more: until a start that is under way has ended and has had its own turn,
// until that instance has been drained and has stopped.
func (w *world) turnBound(s *Spec) time.Duration {
	const stopsAndReadings = time.Minute
	start := worldStart + worldNap
	for n := range s.Models {
		if w.faults { // it may hang
			start = max(start, s.Models[n].StartTimeout+measureTimeout+sleepTimeout+stopSlack+napSettles)
		}
	}
	return start + 2*s.MaxWaitForTurn + s.DrainTimeout + stopsAndReadings
}

// firstInLine says whether a model could be placed now, and nobody who came
// earlier waits for cards of the same pool.
func (w *world) firstInLine(r *record) bool {
	o := w.owner
	if !o.placeable(w.now, r) || r.spec.OnConflict != scheduler.Evict || o.gentle(r) {
		return false // or nobody makes room for it
	}
	pool, earlier := o.poolOf(r), true
	for _, x := range o.records {
		switch {
		case x == r:
			earlier = false
		case x.demand == nil || !o.placeable(w.now, x) || o.poolOf(x) != pool:
		case x.demand.since.Before(r.demand.since), earlier && x.demand.since.Equal(r.demand.since):
			return false
		}
	}
	return true
}

// checkTurnOf sees to it that an instance is drained for a demand only when
// that one's turn has come: requests for one model are served together.
func (w *world) checkTurnOf(s *scheduler.State, d scheduler.Decision) {
	for n := range s.Instances {
		if i := &s.Instances[n]; i.ID == d.Instance {
			q := demandOf(s, d.Model)
			due := q.Since
			if !i.DemandSince.After(q.Since) && i.ReadySince.After(due) {
				due = i.ReadySince
			}
			due = due.Add(s.MaxWaitForTurn)
			w.must(!s.Now.Before(due), 6, "%s is drained for %s %v before its turn", d.Instance, d.Model, due.Sub(s.Now))
		}
	}
}

func demandOf(s *scheduler.State, model string) *scheduler.Demand {
	for n := range s.Demands {
		if s.Demands[n].Model == model {
			return &s.Demands[n]
		}
	}
	return nil
}
