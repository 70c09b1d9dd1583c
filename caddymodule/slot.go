// This file owns what an attempt sees of the manager: a slot, which gives leases
// on instances. The manager's own types stand behind it; tests put others there.

package caddymodule

import (
	"context"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// slot is the right to be served by a model, one attempt after the other.
type slot interface {
	// acquire leases an instance, another than avoid where there is one. See
	// [vramman.Ticket.Acquire] for how it ends.
	acquire(ctx context.Context, avoid instance) (hold, error)
}

// hold is a lease.
type hold interface {
	instance() instance
	// Release ends the lease. It is called once.
	Release(now time.Time)
}

// instance is one running server.
type instance interface {
	ID() string
	Transport() http.RoundTripper
	Authorization() string
}

// slotOf is the slot of an exchange that has its ticket.
func slotOf(x *exchange) slot {
	if x.keeper != "" {
		return keeperSlot{&x.ticket, x.keeper}
	}
	return ticketSlot{&x.ticket}
}

// ticketSlot is the slot that a ticket stands for.
type ticketSlot struct{ ticket *vramman.Ticket }

func (s ticketSlot) acquire(ctx context.Context, avoid instance) (hold, error) {
	other, _ := avoid.(*vramman.Instance)
	l, err := s.ticket.Acquire(ctx, other)
	if err != nil {
		return nil, err
	}
	return leaseHold{l}, nil
}

// leaseHold is a lease of the manager's.
type leaseHold struct{ vramman.Lease }

func (h leaseHold) instance() instance { return h.Instance() }

// Interface guards
var (
	_ slot     = ticketSlot{}
	_ hold     = leaseHold{}
	_ instance = (*vramman.Instance)(nil)
)
