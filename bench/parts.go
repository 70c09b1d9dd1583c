// This file owns the list of parts: what is done for each request within the
// gateway, piece by piece.

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// part is a piece of the work.
type part struct {
	name string
	// about says what it is in the report.
	about string
	// do does it n times.
	do func(n int) error
	// inexact: its allocations depend on chance (timers, pools, other goroutines), and
	// are told but not compared.
	inexact bool
	// seldom: it is not done for each request.
	seldom bool
}

// The names of the parts that others refer to.
const (
	partLease     = "lease in and out"
	partBook      = "bookkeeping"
	partBook64    = "bookkeeping, 64 goroutines"
	partMegabyte  = "find the model, chat of 1 MB"
	partDense     = "find the model, 1 MB of token IDs"
	partAdmission = "vllm_admission, whole"
	partDebug     = "vllm_admission, whole, debug logging"
	partThousand  = "vllm_admission, whole, 1,000 models"
	partGateway   = "admission and upstream, whole"
	partStandard  = "httputil.ReverseProxy alone"
	partPlan      = "plan: 64 GPUs, 200 instances of 1,000 models"
)

// scanParts are those that need no manager: what is looked for in requests and
// answers, and the planner.
func scanParts() []part {
	scan := func(name, about string, body []byte) part {
		return part{name: name, about: about, do: func(n int) error {
			for range n {
				if f, err := openai.Scan(body); err != nil || len(f.Model) == 0 {
					return fmt.Errorf("finding the model: %w", err)
				}
			}
			return nil
		}}
	}
	small := chatBody(1<<10, false)
	answer := chatAnswer
	var dst []byte
	return []part{
		{name: "find the route", about: "the allow-list", do: func(n int) error {
			for range n {
				if _, ok := openai.Find("/v1/chat/completions"); !ok {
					return errNotServed
				}
			}
			return nil
		}},
		scan("find the model, chat of 1 KB", "the whole body is checked", small),
		scan("find the model, chat of 100 KB", "", chatBody(100<<10, false)),
		scan(partMegabyte, "", chatBody(1<<20, false)),
		scan(partDense, "the slowest kind of body", tokenBody(1<<20)),
		{name: "replace an alias, chat of 1 KB", about: "by splicing bytes", do: func(n int) error {
			f, err := openai.Scan(small)
			if err != nil {
				return err
			}
			for range n {
				if dst, err = (openai.Edit{Model: "another"}).Apply(dst, small, &f); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "find the usage in an answer", about: "for fairness", do: func(n int) error {
			for range n {
				if _, ok := openai.FindUsage(answer); !ok {
					return errNotServed
				}
			}
			return nil
		}},
		planPart(),
	}
}

func planPart() part {
	state := roomState()
	return part{name: partPlan, about: "50 models want in", inexact: true, seldom: true, do: func(n int) error {
		for range n {
			scheduler.Decide(state)
		}
		return nil
	}}
}

// modelParts are the pieces that a model's manager does.
func modelParts(r *rig) []part {
	ctx := context.Background()
	return []part{
		{name: "look the model up", about: "one read of a map", do: func(n int) error {
			for range n {
				if _, err := r.generation.Find(ctx, benchModel); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: "ticket in and out", about: "", do: func(n int) error { return r.tickets(n) }},
		{name: "ticket in and out, 64 goroutines", about: "", do: func(n int) error { return shared(n, r.tickets) }},
		{name: partLease, about: "", do: func(n int) error { return r.leases(n) }},
		{name: partLease + ", 64 goroutines", about: "", do: func(n int) error { return shared(n, r.leases) }},
		{name: partBook, about: "ticket, lease, counters, one clock read", do: func(n int) error { return r.books(n) }},
		{name: partBook64, about: "", do: func(n int) error { return shared(n, r.books) }},
	}
}

// handlerPart is a whole handler, with one configuration or another.
func handlerPart(r *rig, name, about string) part {
	x := newExchange(chatBody(1<<10, false))
	return part{name: name, about: about, do: func(n int) error {
		for range n {
			if err := x.admit(r, serveNothing); err != nil {
				return err
			}
		}
		return nil
	}}
}

// proxyParts pass requests on, over connections that cost nothing themselves.
func proxyParts(r *rig) []part {
	x, standard := newExchange(chatBody(1<<10, false)), standardProxy()
	pass := r.pass()
	return []part{
		{name: partGateway, about: "over a scripted connection", inexact: true, do: func(n int) error {
			for range n {
				if err := x.admit(r, pass); err != nil {
					return err
				}
			}
			return nil
		}},
		{name: partStandard, about: "over the same", inexact: true, do: func(n int) error {
			for range n {
				x.reset()
				standard.ServeHTTP(&x.writer, x.request)
				if x.writer.status != 200 {
					return errNotServed
				}
			}
			return nil
		}},
	}
}

// book is one request's bookkeeping as the handlers do it, with a clock read.
func (r *rig) book(ctx context.Context, t *vramman.Ticket) error {
	now := time.Now()
	t.Request = vramman.Request{Client: "somebody", Cost: 250}
	if err := r.model.Admit(ctx, now, t); err != nil {
		return err
	}
	l, err := t.Acquire(ctx, nil)
	if err != nil {
		t.Return(now)
		return err
	}
	l.Release(now)
	t.Used(250, 140)
	t.Return(now)
	return nil
}

func (r *rig) books(n int) error {
	ctx, t := context.Background(), new(vramman.Ticket)
	for range n {
		if err := r.book(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) tickets(n int) error {
	ctx, t, now := context.Background(), new(vramman.Ticket), time.Now()
	t.Request = vramman.Request{Client: "somebody", Cost: 250}
	for range n {
		if err := r.model.Admit(ctx, now, t); err != nil {
			return err
		}
		t.Return(now)
	}
	return nil
}

func (r *rig) leases(n int) error {
	ctx, t, now := context.Background(), new(vramman.Ticket), time.Now()
	if err := r.model.Admit(ctx, now, t); err != nil {
		return err
	}
	defer t.Return(now)
	for range n {
		l, err := t.Acquire(ctx, nil)
		if err != nil {
			return err
		}
		l.Release(now)
	}
	return nil
}

// goroutines is how many there are where a part is done by many.
const goroutines = 64

// shared has many goroutines do n together.
func shared(n int, do func(n int) error) error {
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	for g := range goroutines {
		wg.Go(func() { errs <- do((n + g) / goroutines) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
