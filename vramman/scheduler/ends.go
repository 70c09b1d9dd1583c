package scheduler

import (
	"fmt"
	"slices"
)

// This file is about instances that end, or are put to sleep, without anybody's
// demand.

// ends stops what is drained or leaving, and has what is idle for too long sleep
// or stop.
func (d *decider) ends() {
	for n := range d.Instances {
		i := &d.Instances[n]
		switch {
		case i.Phase == Draining && i.Expired:
			d.end(n, "its drain deadline has passed")
		case i.Phase == Draining && i.Leases == 0:
			d.end(n, "it has been drained")
		case i.Leaving && (i.Phase == Ready && !i.busy() || i.Phase == Asleep):
			d.end(n, "the configuration no longer has it")
		case (i.Phase == Ready || i.Phase == Asleep) && i.IdleTimeout > 0 && !i.AlwaysOn:
			d.idle(n)
		}
	}
}

// idle ends an instance, or puts it to sleep, once it was unused for long enough.
func (d *decider) idle(n int) {
	i := &d.Instances[n]
	limit := i.idleLimit()
	if i.busy() {
		if i.Phase == Ready {
			d.plan.wakeAt(d.Now.Add(limit)) // not idle for long enough before
		}
		return
	}
	if end := i.LastUsed.Add(limit); d.Now.Before(end) {
		d.plan.wakeAt(end)
		return
	}
	reason := fmt.Sprintf("no request for %v", limit)
	if !i.maySleep() || i.HostBytes > d.host {
		d.end(n, reason)
		return
	}
	if d.gatesFree(i.Cards) {
		d.plan.Decisions = append(d.plan.Decisions, Decision{
			Kind: Sleep, Model: i.Model, Instance: i.ID, Gates: slices.Clone(i.Cards), Reason: reason,
		})
		d.hold(i.Cards, "putting "+i.ID+" to sleep")
		d.lull(n)
	}
}

// end stops an instance if the gates of its cards are free.
func (d *decider) end(n int, reason string) {
	if i := &d.Instances[n]; d.gatesFree(i.Cards) {
		d.stop(n, reason)
	}
}

// stop stops an instance, whose gates nobody holds.
func (d *decider) stop(n int, reason string) {
	i := &d.Instances[n]
	d.plan.Decisions = append(d.plan.Decisions, Decision{
		Kind: Stop, Model: i.Model, Instance: i.ID, Gates: slices.Clone(i.Cards), Reason: reason,
	})
	d.take(n)
	d.hold(i.Cards, "stopping "+i.ID)
}
