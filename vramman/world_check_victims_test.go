package vramman

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is invariant 7, and invariants 1 and 3 for what the scheduler
// wants: who makes room, in which order, and no more of them than needed. It
// reckons every plan up again, in its own way.

// checkPlan looks at every plan before it is carried out.
func (w *world) checkPlan(s *scheduler.State, p scheduler.Plan) {
	defer w.slipIn(p)
	o := w.owner
	for _, q := range s.Demands {
		w.must(o.record(q.Model).from == o.spec, 9, "%s is planned for before its configuration is committed", q.Model)
	}
	r := newReckoning(s)
	for _, d := range p.Decisions {
		switch d.Kind {
		case scheduler.Start, scheduler.Wake:
			w.checkGrant(r, d)
			r.begin(d)
		case scheduler.Stop:
			w.must(r.gatesFree(d.Gates), 3, "%s stops on %v, whose gates are not free", d.Instance, d.Gates)
			w.checkEnd(r, p, d)
			r.stop(r.instance(d.Instance), d.Gates)
		case scheduler.Sleep:
			w.must(r.gatesFree(d.Gates), 3, "%s is put to sleep on %v, whose gates are not free", d.Instance, d.Gates)
			w.checkIdleSleep(r, d)
			r.lull(r.instance(d.Instance), d.Gates)
		case scheduler.Drain:
			w.checkTurnOf(s, d)
			w.must(r.takesTurn(d.Model), 7, "%s is drained for %s, which is not to have others make room", d.Instance, d.Model)
		case scheduler.Refuse:
			w.refusals[d.Model] = w.now
			if demandOf(s, d.Model).Conflict == scheduler.Reject {
				w.saw("refused rather than wait")
			}
		case scheduler.Wait:
			if q := demandOf(s, d.Model); !s.Now.Before(q.Since.Add(s.MaxWaitForTurn)) && r.takesTurn(d.Model) {
				r.kept = true
			}
			w.must(demandOf(s, d.Model).Conflict != scheduler.Reject || demandOf(s, d.Model).Gentle || r.comingFor(d), 7, "%s waits and is to be refused: %s", d.Model, d.Reason)
		}
	}
}

// checkGrant is about one start or waking, at its place in the plan.
func (w *world) checkGrant(r *reckoning, d scheduler.Decision) {
	q, a := demandOf(r.s, d.Model), r.aim(d)
	w.must(len(d.Cards) == a.degree, 8, "%s starts on %d cards, not %d", d.Model, len(d.Cards), a.degree)
	w.must(r.gatesFree(d.Gates), 3, "%s starts on %v, whose gates are not free", d.Model, d.Gates)
	for _, c := range d.Cards {
		w.must(slices.Contains(d.Gates, c), 3, "%s starts on %v and takes the gates of %v", d.Model, d.Cards, d.Gates)
	}
	sleeper := slices.IndexFunc(r.s.Instances, func(i scheduler.Instance) bool {
		return i.Model == d.Model && i.Phase == scheduler.Asleep && !i.Leaving
	})
	if q.Gentle {
		w.saw("preloaded")
	}
	if d.Kind == scheduler.Start {
		w.checkNeed(r, d, q)
		w.must(sleeper < 0 || r.gone[sleeper], 7, "%s starts, and an instance of it is asleep", d.Model)
	} else {
		i := &r.s.Instances[a.wakes]
		w.must(i.Phase == scheduler.Asleep && i.Model == d.Model && !i.Leaving && !r.gone[a.wakes] && slices.Equal(i.Cards, d.Cards), 7, "%s is woken for %s on %v", i.ID, d.Model, d.Cards)
	}
	var victims []going
	for _, v := range d.Victims {
		n := r.instance(v.Instance)
		w.checkVictim(r, d, n)
		victims = append(victims, going{n, v.Sleep})
	}
	w.must(len(victims) == 0 || r.takesTurn(d.Model), 7, "%v make room for %s, which is not to have others make room", d.Victims, d.Model)
	for k, c := range d.Cards {
		w.must(!slices.Contains(d.Cards[:k], c), 8, "%s starts on %v", d.Model, d.Cards)
		need := a.need[slices.Index(a.cards, c)]
		w.must(r.room(c, victims) >= need, 1, "%s starts on %s, which lacks %d bytes", d.Model, r.s.Cards[c].UUID, need-r.room(c, victims))
	}
	if len(victims) > 0 {
		w.saw("evicting for " + map[bool]string{true: "several cards", false: "one card"}[a.degree > 1])
		w.checkNecessary(r, d, a, victims)
		w.checkWhoSleeps(r, d, a, victims)
	}
}

// checkVictim is about one who makes room: idle and evictable, in truth and not
// only in the picture.
func (w *world) checkVictim(r *reckoning, d scheduler.Decision, n int) {
	v := &r.s.Instances[n]
	i := w.owner.instance(v.ID)
	spec := i.record.spec
	idle := (v.Phase == scheduler.Ready || v.Phase == scheduler.Asleep) && i.word.leases() == 0 && i.model.tickets() == 0
	w.must(idle, 7, "%s makes room for %s and is not idle", v.ID, d.Model)
	w.must(spec == nil || !spec.AlwaysOn, 7, "%s makes room for %s and is always on", v.ID, d.Model)
	w.must(!r.gone[n] && r.gatesFree(v.Cards), 7, "%s makes room for %s twice, or without its gates", v.ID, d.Model)
	used, ok := w.uses[i] // else it has become ready just now
	if i.readySince.After(used) {
		used = i.readySince
	}
	w.must(!ok || v.LastUsed.Equal(used), 7, "%s was last used %v, not %v", v.ID, used, v.LastUsed)
	if spec != nil {
		w.must(v.MinResidency == spec.MinResidency && v.ReadySince.Equal(i.readySince), 7, "%s is spared for %v, not for %v", v.ID, v.MinResidency, spec.MinResidency)
	}
}

// checkNecessary sees to it that no victim is taken where one less would do, or
// one that stands before it.
func (w *world) checkNecessary(r *reckoning, d scheduler.Decision, a aimed, victims []going) {
	if r.kept {
		return // which cards are kept for others does not stand in the plan
	}
	w.must(!r.fits(a, nil, false), 7, "%s has room, and has %v make more", d.Model, d.Victims)
	order := r.candidates(a)
	for k, v := range victims {
		others := slices.Delete(slices.Clone(victims), k, k+1)
		w.must(!r.fits(a, others, true), 7, "%s makes room for %s and need not", r.s.Instances[v.n].ID, d.Model)
		for _, n := range order[:slices.Index(order, v.n)] {
			if !slices.ContainsFunc(victims, func(v going) bool { return v.n == n }) {
				more := going{n, r.s.Instances[n].Resting != nil} // as little as it can free
				w.must(!r.fits(a, append(slices.Clone(others), more), true), 7, "%s makes room for %s, and %s stands before it in the order of %s",
					r.s.Instances[v.n].ID, d.Model, r.s.Instances[n].ID, r.s.Policy.Name())
			}
		}
		if r.young(v.n) {
			w.saw("evicting the young")
			old := stopped(slices.DeleteFunc(slices.Clone(order), r.young))
			w.must(!r.fits(a, old, true), 7, "%s is young and makes room for %s, where the old would do", r.s.Instances[v.n].ID, d.Model)
		}
	}
}

// victimsOf names those who make room for a decision.
func victimsOf(d scheduler.Decision) (ids []string) {
	for _, v := range d.Victims {
		ids = append(ids, v.Instance)
	}
	return ids
}
