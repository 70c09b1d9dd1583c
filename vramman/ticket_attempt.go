package vramman

import "time"

// This file owns what an attempt may ask of a ticket beside the usual lease.

// Deadline is until when the ticket waits for a lease, from its arrival on; the
// zero time for no ticket. An attempt that would begin later is not worth making.
func (t *Ticket) Deadline() time.Time { return t.deadline }

// AcquireThis leases the instance of the ticket's model that has this ID, and no
// other. False means that it is not ready, or no longer there. It does not wait.
func (t *Ticket) AcquireThis(id string) (Lease, bool) {
	ready := t.model.ready.Load()
	if ready == nil {
		return Lease{}, false
	}
	for _, i := range *ready {
		if i.id == id && i.word.lease() {
			return Lease{i}, true
		}
	}
	return Lease{}, false
}
