package vramman

import (
	"slices"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is invariant 5: every request ends, no wakeup is lost, no counter
// leaks.

// checkRequests sees to it that whoever can go on, does; that nothing is
// counted twice or not at all.
func (w *world) checkRequests() {
	o := w.owner
	leases, tickets := make(map[*Instance]int), make(map[*Model]int)
	waiting := make(map[*waiter]bool)
	for _, c := range w.clients {
		if c.finished {
			continue
		}
		if !c.queued {
			tickets[c.model]++
		}
		if i := c.lease.instance; i != nil {
			leases[i]++
		} else if c.waiter != nil {
			waiting[c.waiter] = true
			ready := c.model.ready.Load()
			w.must(ready == nil || len(*ready) == 0, 5, "a request waits for %s, which is ready", c.model.name)
		}
	}
	for _, i := range o.instances {
		n := i.word.leases()
		w.must(n == leases[i], 5, "%s counts %d leases, there are %d", i.id, n, leases[i])
	}
	for _, r := range o.records {
		w.checkQueue(r, tickets[r.model])
		if r.demand == nil {
			continue
		}
		w.checkDemand(r)
		for _, x := range r.demand.waiters {
			w.must(waiting[x] || w.left[x], 5, "nobody waits for %s any more, and the owner thinks so", r.model.name)
			delete(waiting, x)
		}
	}
	w.must(len(waiting) == 0, 5, "%d requests wait, and the owner does not know", len(waiting))
}

// checkQueue is about one model's queue, of which so many requests have a slot.
func (w *world) checkQueue(r *record, tickets int) {
	q := r.model.Queue()
	w.must(q.Serving == tickets+w.returning[r.model], 5, "%s counts %d tickets, there are %d", r.model.name, q.Serving, tickets)
	w.must(q.Depth == 0 || q.Serving >= q.MaxConcurrent, 5, "%d wait for %s, where %d of %d slots are taken", q.Depth, r.model.name, q.Serving, q.MaxConcurrent)
	n := 0
	if ready := r.model.ready.Load(); ready != nil {
		n = len(*ready)
	}
	w.must(r.spec == nil || q.MaxConcurrent == r.spec.MaxConcurrent*max(1, n), 5, "%s has %d slots for %d instances", r.model.name, q.MaxConcurrent, n)
}

// checkDemand is about a model that somebody needs.
func (w *world) checkDemand(r *record) {
	o := w.owner
	w.must(r.spec != nil && !o.closing, 5, "%s is removed, and its demand goes on", r.model.name)
	wanted := len(r.demand.waiters) > 0 || r.spec.AlwaysOn || r.preload && r.spec.Preload || r.fetching() || o.loadOf(r.current) != nil
	w.must(wanted, 5, "nobody wants %s, and its demand goes on", r.model.name)
}

// checkQuiet sees to it that nothing is left to do, or was due at a time that
// nobody asked to be woken at: no wakeup is lost.
func (w *world) checkQuiet(at time.Time) {
	w.checkAttended(at)
	w.checkPreloads()
	s := w.owner.snapshot(at)
	// Which card is kept for a demand whose turn has come depends on who was used
	// last, too.
	kept := slices.ContainsFunc(s.Demands, func(q scheduler.Demand) bool { return at.Sub(q.Since) >= s.MaxWaitForTurn })
	for _, d := range scheduler.Decide(&s).Decisions {
		// What requests change without a word to the owner (an instance becomes
		// busy, or loses its last ticket) is noticed at the next reading.
		begins := d.Kind == scheduler.Start || d.Kind == scheduler.Wake
		late := w.touched && (d.Kind == scheduler.Drain || begins && kept || strings.HasPrefix(d.Reason, "no request for"))
		if kept && begins && !late { // another demand of the same plan has changed what is kept
			w.breaks(5, "the plan before left something to do at once: %v %s: %s", d.Kind, d.Model, d.Reason)
			return
		}
		idle := d.Kind == scheduler.Wait || d.Kind == scheduler.Refuse || late
		w.must(idle, 5, "nothing happens any more, but the scheduler wants to %v %s%s at %v: %s", d.Kind, d.Model, d.Instance, at, d.Reason)
	}
}
