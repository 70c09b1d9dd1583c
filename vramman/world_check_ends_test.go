package vramman

import (
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is invariant 7 for those who end or sleep: who sleeps instead of being
// stopped, who yields to other programs, and that nobody ends for nothing.

// checkWhoSleeps sees to it that of those who make room, those sleep who can, as
// far as that frees enough and the host's memory goes.
func (w *world) checkWhoSleeps(r *reckoning, d scheduler.Decision, a aimed, victims []going) {
	left, young := r.host, false
	for _, v := range victims {
		young = young || r.young(v.n)
		if v.sleep {
			i := &r.s.Instances[v.n]
			w.saw("sleeping to make room")
			w.must(i.Phase == scheduler.Ready && i.Resting != nil, 7, "%s is to sleep for %s, and cannot", i.ID, d.Model)
			left -= i.HostBytes
		} else if r.s.Instances[v.n].Phase == scheduler.Asleep {
			w.saw("evicted asleep")
		}
	}
	w.must(left >= 0 || left == r.host, 7, "those who sleep for %s take %d bytes more of the host's memory than there are", d.Model, -left)
	spared := false // whether one is stopped that could sleep
	for k, v := range victims {
		i := &r.s.Instances[v.n]
		if v.sleep || i.Phase != scheduler.Ready || i.Resting == nil {
			continue
		}
		spared = true
		if i.HostBytes <= left {
			all := slices.Clone(victims)
			all[k].sleep = true
			chosen := aimed{degree: len(d.Cards), mixed: true, wakes: a.wakes, cards: d.Cards}
			for _, c := range d.Cards {
				chosen.need = append(chosen.need, a.need[slices.Index(a.cards, c)])
			}
			w.must(!r.fits(chosen, all, true), 7, "%s is stopped for %s, where it could sleep", i.ID, d.Model)
		}
	}
	if !spared || r.kept {
		return
	}
	host := r.host
	var all []going
	for _, n := range r.candidates(a) {
		i := &r.s.Instances[n]
		if !young && r.young(n) || !slices.ContainsFunc(i.Cards, func(c int) bool { return slices.Contains(a.cards, c) && !r.held[c] }) {
			continue
		}
		sleeps := i.Phase == scheduler.Ready && i.Resting != nil && i.HostBytes <= host
		if sleeps {
			host -= i.HostBytes
		}
		all = append(all, going{n, sleeps})
	}
	if slices.ContainsFunc(all, func(g going) bool { return g.sleep }) && r.fits(a, all, true) {
		// Enough room comes if those sleep who can: nobody is stopped but those who
		// could not sleep, for want of the host's memory, in that order.
		for _, v := range victims {
			k := slices.IndexFunc(all, func(g going) bool { return g.n == v.n })
			w.must(v.sleep || !all[k].sleep, 7, "%s is stopped for %s, where it would do if all slept who can", r.s.Instances[v.n].ID, d.Model)
		}
	}
}

// checkIdleSleep is about one who is put to sleep since nobody has used it.
func (w *world) checkIdleSleep(r *reckoning, d scheduler.Decision) {
	n := r.instance(d.Instance)
	i := &r.s.Instances[n]
	w.must(r.idle(n) && i.Phase == scheduler.Ready && i.Resting != nil, 7, "%s is put to sleep and is not idle, or cannot", i.ID)
	w.must(i.IdleTimeout > 0 && !r.s.Now.Before(i.LastUsed.Add(i.IdleTimeout)), 7, "%s is put to sleep %v after its last use", i.ID, r.s.Now.Sub(i.LastUsed))
	w.must(i.HostBytes <= r.host, 7, "%s is put to sleep and takes %d of the host's memory, where %d are left", i.ID, i.HostBytes, r.host)
	w.saw("sleeping for want of use")
}

// checkSqueeze sees to it that the owner knows, after two readings in a row, where
// other programs leave less than is charged.
func (w *world) checkSqueeze(r *reading) {
	for _, c := range w.cards {
		foreign, read := r.foreign[c.uuid]
		if !read || w.owner.ledger.Charged(c.uuid)+foreign <= c.total() {
			w.squeezed[c.uuid] = 0
			continue
		}
		w.squeezed[c.uuid]++
		if n := w.squeezed[c.uuid]; n == 2 {
			w.saw("squeezed")
		} else if n < 2 {
			continue
		}
		s := w.owner.snapshot(w.now)
		k := slices.IndexFunc(s.Cards, func(x scheduler.Card) bool { return x.UUID == c.uuid })
		w.must(k >= 0 && s.Cards[k].Squeezed, 7, "%s was seen squeezed %d times, and nobody is to yield", c.uuid, w.squeezed[c.uuid])
	}
}

// yielding is how a decision's reason begins that makes room for other programs.
const yielding = "other programs use "

// checkEnd is about one who ends without anybody's start.
func (w *world) checkEnd(r *reckoning, p scheduler.Plan, d scheduler.Decision) {
	n := r.instance(d.Instance)
	i := &r.s.Instances[n]
	limit := i.IdleTimeout
	if i.Phase == scheduler.Asleep {
		limit *= 2
	}
	asked := demandOf(r.s, i.Model)
	switch {
	case i.Phase == scheduler.Draining:
		w.must(i.Leases == 0 || i.Expired, 4, "%s is drained and stopped with %d leases", i.ID, i.Leases)
	case i.Leaving:
		w.must(i.Phase == scheduler.Asleep || r.idle(n), 7, "%s leaves and is stopped in use", i.ID)
	case strings.HasPrefix(d.Reason, yielding):
		w.checkYield(r, p, n)
	case i.Phase == scheduler.Asleep && asked != nil && asked.Asleep == i.ID:
		w.saw("stopped instead of woken")
		r.kept = true // and room is kept for the one that will start in its stead
	case i.Phase == scheduler.Asleep && i.Tickets > 0:
		w.must(slices.ContainsFunc(r.s.Demands, func(q scheduler.Demand) bool {
			return q.Model != i.Model && !r.s.Now.Before(q.Since.Add(r.s.MaxWaitForTurn)) && r.takesTurn(q.Model)
		}), 6, "%s is stopped asleep, with requests waiting for it, and it is nobody's turn", i.ID)
	default:
		w.must(r.idle(n) && limit > 0 && !r.s.Now.Before(i.LastUsed.Add(limit)), 7, "%s is stopped %v after its last use: %s", i.ID, r.s.Now.Sub(i.LastUsed), d.Reason)
	}
}

// checkYield is about one who makes room for other programs: it is idle, and without
// it more would be charged than they leave, whoever else goes.
func (w *world) checkYield(r *reckoning, p scheduler.Plan, n int) {
	i := &r.s.Instances[n]
	w.saw("yielding")
	w.must(r.idle(n), 7, "%s yields and is not idle", i.ID)
	short := func(c int, others int64) bool {
		card := r.s.Cards[c]
		return card.Squeezed && card.Charged-others+card.Foreign > card.Total
	}
	need := false
	for _, c := range i.Cards {
		others := int64(0) // what all others free who go
		for m := range r.s.Instances {
			x := &r.s.Instances[m]
			stops := slices.ContainsFunc(p.Decisions, func(d scheduler.Decision) bool {
				return d.Kind == scheduler.Stop && d.Instance == x.ID
			})
			if k := slices.Index(x.Cards, c); m != n && k >= 0 && (stops || x.Phase == scheduler.Stopping || x.Phase == scheduler.Draining && x.Leases == 0) {
				others += x.Charges[k]
			}
		}
		need = need || short(c, others)
	}
	w.must(need, 7, "%s yields, and need not", i.ID)
}
