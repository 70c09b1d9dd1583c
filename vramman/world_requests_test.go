package vramman

import (
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about the requests of a world: when they come, how long they
// take, when they give up.

// crowd is who asks for models.
type crowd struct {
	clients   []*client
	returning map[*Model]int   // tickets whose lease is over
	left      map[*waiter]bool // those that gave up, and the owner has not heard of it
	slipped   int
	touched   bool // requests have changed something without a word to the owner
	busy      bool // all models are asked for all the time, and requests last
	served    int
	refused   map[Code]int
}

func (c *crowd) begin() {
	c.returning, c.left, c.refused = make(map[*Model]int), make(map[*waiter]bool), make(map[Code]int)
}

// client is one request.
type client struct {
	n        int // which of the model's requests
	model    *Model
	ticket   Ticket
	waiter   *waiter
	lease    Lease
	queued   bool
	finished bool
	service  time.Duration
}

// traffic is the stream of requests for one model. When they come depends on
// nothing else: taking one away moves none.
type traffic struct {
	name  string
	count int
	burst int // so many more come with the last one
}

// heats are how often a model is asked for, from hot to not at all.
var heats = []struct{ least, most time.Duration }{
	{time.Second, 10 * time.Second},
	{4 * time.Second, 40 * time.Second},
	{4 * time.Second, 40 * time.Second},
	{30 * time.Second, 4 * time.Minute},
	{30 * time.Second, 4 * time.Minute},
	{0, 0},
}

// requests has requests for a model come for ever.
func (w *world) requests(t *traffic) {
	gap, none := w.gap(t)
	w.after(gap, func() {
		defer w.requests(t)
		if none {
			return
		}
		t.count++
		if w.happens("request", t.name, t.count, 1) {
			w.arrive(t.name, t.count)
		}
	})
}

// gap is when the next request comes; none says that it does not, and another
// phase begins then.
func (w *world) gap(t *traffic) (gap time.Duration, none bool) {
	l := w.luck("gap", t.name, t.count)
	if t.burst > 0 {
		t.burst--
		return l.between(0, 50*time.Millisecond), false
	}
	if l.intN(40) == 0 {
		t.burst = 2 + l.intN(12)
	}
	// How hot a model is changes with time, not with the number of requests.
	length := time.Minute + w.chanceBetween("phase length", t.name, 0, 0, 9*time.Minute)
	phase := w.now.Sub(worldBegin) / length
	p := w.luck("phase", t.name, int(phase))
	heat := heats[p.intN(len(heats))]
	if w.busy {
		heat = heats[0]
	}
	crowding := time.Duration(max(1, w.models/6)) // of many models, few are hot
	if heat.most == 0 {
		return worldBegin.Add((phase + 1) * length).Sub(w.now), true
	}
	if !w.live {
		crowding *= 10 // whoever comes now is sent away
	}
	return l.between(heat.least, heat.most) * crowding, false
}

// serviceTimes are how long a model's requests take.
var serviceTimes = []struct{ least, most time.Duration }{
	{10 * time.Millisecond, 2 * time.Second},
	{10 * time.Millisecond, 30 * time.Second},
	{time.Second, 30 * time.Second},
}

func (w *world) arrive(name string, n int) {
	m := w.owner.models[name]
	if m == nil {
		return
	}
	kind := w.luck("service", name, 0)
	times := serviceTimes[kind.intN(len(serviceTimes))]
	if w.busy {
		times = serviceTimes[2]
	}
	l := w.luck("serving", name, n)
	c := &client{n: n, model: m, service: l.between(times.least, times.most)}
	if w.happens("a long request", name, n, 60) {
		c.service = l.between(time.Minute, 20*time.Minute)
	}
	admitted, err := m.enter(w.now, &c.ticket)
	if err != nil {
		w.refused[err.(*Error).Code]++
		return
	}
	w.note("a request for %s, which will take %v", name, c.service.Round(10*time.Millisecond))
	w.clients = append(w.clients, c)
	c.queued = !admitted
	if w.happens("cancel", name, n, 6) {
		w.after(l.between(0, time.Minute), func() { w.leave(c, "its client gives up") })
	}
	w.after(c.ticket.deadline.Sub(w.now), func() {
		if c.lease.instance == nil {
			w.leave(c, "its max_wait has passed")
		}
	})
	if admitted {
		w.acquire(c)
	}
}

// acquire is Ticket.Acquire, taken apart so that nothing blocks.
func (w *world) acquire(c *client) {
	if i := c.model.lease(nil); i != nil {
		w.serve(c, Lease{i})
		return
	}
	c.waiter = &waiter{result: make(chan acquired, 1)}
	w.tell(acquireEvent{c.model, c.waiter})
}

func (w *world) serve(c *client, l Lease) {
	w.touched = true
	c.lease = l
	c.ticket.model = c.model
	w.served++
	w.mayGrow(l.instance)
	w.after(c.service, func() { w.leave(c, "") })
}

// leave ends a request, at whatever point it is. Why is empty where it was served.
func (w *world) leave(c *client, why string) {
	if c.finished {
		return
	}
	if why != "" {
		w.note("a request for %s ends: %s", c.model.name, why)
	}
	c.finished, w.touched = true, true
	switch {
	case c.queued:
		c.model.giveUp(&c.ticket)
	case c.lease.instance != nil:
		c.lease.Release(w.now)
		w.uses[c.lease.instance] = w.now
		w.returnLater(c)
	default:
		if c.waiter.over.CompareAndSwap(false, true) {
			w.left[c.waiter] = true
			w.later(w.delay("left is told", c.model.name, c.n, 0, 2*time.Second), func() {
				delete(w.left, c.waiter)
				w.tell(leftEvent{c.model, c.waiter})
			})
		} else if r := <-c.waiter.result; r.lease.instance != nil {
			r.lease.Release(w.now)
			w.uses[r.lease.instance] = w.now
		}
		c.ticket.Return(w.now)
	}
}

// returnLater gives a ticket back a little after its lease.
func (w *world) returnLater(c *client) {
	w.returning[c.model]++
	w.after(w.delay("ticket", c.model.name, c.n, 0, 20*time.Millisecond), func() {
		w.returning[c.model]--
		c.ticket.Return(w.now)
		w.touched = true
	})
}

// pollClients lets requests go on whose turn has come or whose answer is there.
func (w *world) pollClients() (more bool) {
	for n := 0; n < len(w.clients); n++ { //nolint:intrange // those that come meanwhile are included
		c := w.clients[n]
		if c.finished {
			continue
		}
		if c.queued {
			select {
			case <-c.ticket.place.Turn:
				c.queued = false
				c.ticket.model = c.model
				w.acquire(c)
				more = true
			default:
				continue
			}
		}
		if c.waiter == nil || c.lease.instance != nil {
			continue
		}
		select {
		case r := <-c.waiter.result:
			more = true
			w.answered(c, r)
		default:
		}
	}
	w.clients = slices.DeleteFunc(w.clients, func(c *client) bool { return c.finished })
	return more
}

// answered takes the owner's answer to a request.
func (w *world) answered(c *client, r acquired) {
	if r.err == nil {
		w.must(r.lease.instance != nil, 5, "a request for %s is answered with nothing", c.model.name)
		w.serve(c, r.lease)
		return
	}
	err, ok := r.err.(*Error)
	w.must(ok && err.Code != "" && err.Message != "" && r.lease.instance == nil, 5, "a request for %s is answered with %#v", c.model.name, r)
	w.note("a request for %s is refused: %v", c.model.name, err)
	w.refused[err.Code]++
	c.finished, w.touched = true, true
	c.ticket.Return(w.now)
}

// slipIn has a request take a lease on what is about to be stopped, between the
// plan and its claim.
func (w *world) slipIn(p scheduler.Plan) {
	for _, d := range p.Decisions {
		for _, id := range append(victimsOf(d), d.Instance) {
			i := w.owner.instance(id)
			if i == nil || i.word.state() != StateReady {
				continue
			}
			w.slipped++
			if !w.happens("slips in", id, w.slipped, 5) {
				continue
			}
			l := w.luck("slips in for", id, w.slipped)
			c := &client{n: -w.slipped, model: i.model, service: l.between(10*time.Millisecond, 10*time.Second)}
			if admitted, err := c.model.enter(w.now, &c.ticket); err != nil || !admitted {
				if err == nil {
					c.model.giveUp(&c.ticket)
				}
				continue
			}
			w.note("a request for %s comes at the same moment", i.model.name)
			w.clients = append(w.clients, c)
			w.serve(c, Lease{c.model.lease(nil)})
		}
	}
}

// crash forgets all requests: their connections ended with the gateway.
func (c *crowd) crash() {
	for _, x := range c.clients {
		x.finished = true
	}
	c.clients = nil
	clear(c.returning)
}
