package admission_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

var worlds = flag.Int("worlds", 100, "how many random worlds the simulation of fairness plays")

// fairWorld plays clients that come, cancel and are served in front of one queue
// whose limits change, and checks what [admission.Queue] promises.
type fairWorld struct {
	t       *testing.T
	rng     *rand.Rand
	q       admission.Queue
	slots   int // the most that were served at once
	clients []*fairClient
	serving []*fairRequest
	charged int64 // the most for one request: G
	refund  int64 // the most taken back from one: R
}

type fairClient struct {
	name    string
	class   int
	burst   int            // requests that come at once, at most
	waiting []*fairRequest // in the order in which they came
	service int64          // received in all
	busy    int64          // since when it waits all along, in steps; 0: it does not
	began   int64          // service received before that
}

type fairRequest struct {
	of      *fairClient
	place   admission.Place
	charged int64
	most    int64 // of charged
	left    int64 // units to come
}

func (w *fairWorld) arrive(c *fairClient) {
	r := &fairRequest{of: c, left: w.rng.Int64N(w.charged / 2)}
	cost := 1 + w.rng.Int64N(w.charged/2)
	v, lost := w.q.Enter(&r.place, admission.Request{Client: c.name, Class: c.class, Cost: cost})
	if lost != nil {
		w.forget(lost)
	}
	switch v {
	case admission.Admitted:
		w.serve(r, cost)
	case admission.Queued:
		r.charged = cost // to be charged at its turn
		c.waiting = append(c.waiting, r)
	}
}

// forget takes a request out that lost its place.
func (w *fairWorld) forget(lost *admission.Place) {
	for _, c := range w.clients {
		c.waiting = slices.DeleteFunc(c.waiting, func(r *fairRequest) bool { return &r.place == lost })
	}
}

func (w *fairWorld) serve(r *fairRequest, cost int64) {
	r.charged, r.most = 0, 0
	w.serving = append(w.serving, r)
	w.slots = max(w.slots, len(w.serving))
	w.note(r, cost)
}

// note counts service that the queue was told of.
func (w *fairWorld) note(r *fairRequest, units int64) {
	r.charged += units
	r.of.service += units
	r.most = max(r.most, r.charged)
	w.refund = max(w.refund, r.most-r.charged)
}

// advance lets those in whose turn has come.
func (w *fairWorld) advance() {
	for p := w.q.Next(); p != nil; p = w.q.Next() {
		r := w.whose(p)
		if r != r.of.waiting[0] {
			w.t.Fatal("a request has overtaken another of its client")
		}
		for _, c := range w.clients {
			if c.class > r.of.class && len(c.waiting) > 0 {
				w.t.Fatal("a lower class went first")
			}
		}
		r.of.waiting = r.of.waiting[1:]
		w.serve(r, r.charged)
	}
}

func (w *fairWorld) whose(p *admission.Place) *fairRequest {
	for _, c := range w.clients {
		for _, r := range c.waiting {
			if &r.place == p {
				return r
			}
		}
	}
	w.t.Fatal("the turn came of a place that does not wait")
	return nil
}

func (w *fairWorld) step() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch op := w.rng.IntN(20); {
	case op < 6:
		for range 1 + w.rng.IntN(c.burst) {
			w.arrive(c)
		}
	case op < 12: // service goes on
		for _, r := range w.serving {
			units := min(r.left, w.rng.Int64N(w.charged/4))
			r.left -= units
			w.q.Charge(&r.place, units)
			w.note(r, units)
		}
	case op < 17 && len(w.serving) > 0: // one is done
		i := w.rng.IntN(len(w.serving))
		r := w.serving[i]
		if w.rng.IntN(3) == 0 { // and it was less than thought
			units := -min(r.charged, w.rng.Int64N(w.charged/2))
			w.q.Charge(&r.place, units)
			w.note(r, units)
		}
		w.serving = slices.Delete(w.serving, i, i+1)
		w.q.Leave(&r.place, time.Second)
	case op == 17 && len(c.waiting) > 0: // one gives up
		i := w.rng.IntN(len(c.waiting))
		if !w.q.Remove(&c.waiting[i].place) {
			w.t.Fatal("a place that waits could not be taken out")
		}
		c.waiting = slices.Delete(c.waiting, i, i+1)
	case op == 18:
		w.q.SetLimits(w.rng.IntN(4), 20+w.rng.IntN(200))
	}
	w.advance()
}

// check holds the service received by each two clients that wait all along
// against the bound.
func (w *fairWorld) check(now int64) {
	for _, c := range w.clients {
		switch {
		case len(c.waiting) == 0:
			c.busy = 0
		case c.busy == 0:
			c.busy, c.began = now, c.service
		}
	}
	bound := 2 * int64(w.slots) * (w.charged + w.refund)
	for _, a := range w.clients {
		for _, b := range w.clients {
			// Both wait since the later of both began; what the other received from
			// then on is not known, so only those that began together are compared,
			// and those that are always busy.
			if a.class != b.class || a.busy == 0 || a.busy != b.busy {
				continue
			}
			if gap := (a.service - a.began) - (b.service - b.began); gap > bound {
				w.t.Fatalf("%s received %d more than %s, the bound is %d", a.name, gap, b.name, bound)
			}
		}
	}
	if w.q.Wants() {
		w.t.Fatal("a slot is free and somebody waits")
	}
	waiting := 0
	for _, c := range w.clients {
		waiting += len(c.waiting)
	}
	if waiting != w.q.Waiting() || len(w.serving) != w.q.Serving() {
		w.t.Fatalf("%d wait and %d are served, the queue says %d and %d", waiting, len(w.serving), w.q.Waiting(), w.q.Serving())
	}
}

// restart has those that wait compared from now on.
func (w *fairWorld) restart() {
	for _, c := range w.clients {
		c.busy = 0
	}
}

func TestFairnessBound(t *testing.T) {
	for n := range *worlds {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			w := &fairWorld{t: t, rng: rand.New(rand.NewPCG(seed, 1)), charged: 100}
			w.q.SetLimits(1+w.rng.IntN(4), 100)
			for i := range 2 + w.rng.IntN(5) {
				w.clients = append(w.clients, &fairClient{name: clientNames[i], class: i / 4, burst: 1 + 10*w.rng.IntN(2)})
			}
			for now := range int64(3000) {
				if now%700 == 0 {
					w.restart()
				}
				w.step()
				w.check(now + 1)
			}
			w.windUp()
		})
	}
}

// windUp sees to it that nothing is left.
func (w *fairWorld) windUp() {
	w.q.SetLimits(3, 40)
	w.advance()
	for len(w.serving) > 0 {
		r := w.serving[0]
		w.serving = w.serving[1:]
		w.q.Leave(&r.place, 0)
		w.advance()
	}
	if w.q.Serving() != 0 || w.q.Waiting() != 0 {
		w.t.Fatalf("%d slots and %d places leak", w.q.Serving(), w.q.Waiting())
	}
}

// Two clients always have something waiting, one of them a thousand short
// requests, the other long ones: over time both receive the same, up to the bound.
func TestBusyClientsReceiveTheSame(t *testing.T) {
	const slots, short, long = 3, 50, 900
	d := newDoor(slots, 3000)
	var service [2]int64
	cost := [2]int64{short, long}
	whose := make(map[*admission.Place]int)
	enter := func(i int) {
		p := new(admission.Place)
		whose[p] = i
		if v, _ := d.Enter(p, admission.Request{Client: clientNames[i], Cost: cost[i]}); v == admission.Admitted {
			service[i] += cost[i]
			d.served = append(d.served, p)
		}
	}
	for range 1000 {
		enter(0)
	}
	enter(1)
	enter(1)
	start := service
	for range 2000 {
		if p := d.leave(0); p != nil {
			service[whose[p]] += cost[whose[p]]
			enter(whose[p])
		}
		gap := (service[0] - start[0]) - (service[1] - start[1])
		if max(gap, -gap) > 2*slots*long {
			t.Fatalf("one received %d more than the other", gap)
		}
	}
	if service[0] < 20000 || service[1] < 20000 {
		t.Errorf("they received %v", service)
	}
}

// However many a client has waiting, whoever comes with one request after a
// pause has at most one of its requests before it.
func TestAThousandRequestsDoNotStarveOne(t *testing.T) {
	for others := range 4 {
		d := newDoor(2, 10000)
		whose := make(map[*admission.Place]string)
		for i := range 1000 {
			for o := range others + 1 {
				p := new(admission.Place)
				whose[p] = clientNames[o]
				if v, _ := d.Enter(p, admission.Request{Client: whose[p], Cost: int64(1 + i%7)}); v == admission.Admitted {
					d.served = append(d.served, p)
				}
			}
		}
		for range 100 { // so that counts differ
			d.leave(0)
		}
		one := d.enter(t, admission.Request{Client: "one", Cost: 5000}, admission.Queued)
		if got := d.Position(one); got > others+2 {
			t.Errorf("%d others: it stands at %d", others+1, got)
		}
		before := make(map[string]int)
		for p := d.leave(0); p != one; p = d.leave(0) {
			before[whose[p]]++
		}
		for name, n := range before {
			if n > 1 {
				t.Errorf("%d others: %d requests of %s went before", others+1, n, name)
			}
		}
	}
}

// Turns gives each queue one slot in turn, the highest class first.
func TestTurns(t *testing.T) {
	var turns admission.Turns[string]
	a, b, c := admission.Turn[string]{Of: "a"}, admission.Turn[string]{Of: "b"}, admission.Turn[string]{Of: "c"}
	turns.Wait(&a, 0)
	turns.Wait(&b, 0)
	turns.Wait(&c, 1)
	turns.Wait(&a, 0) // waits already
	var got []string
	for range 6 {
		x := turns.Next()
		got = append(got, x.Of)
		if x.Of != "c" {
			turns.Wait(x, 0)
		}
	}
	if want := []string{"c", "a", "b", "a", "b", "a"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
	turns.Wait(&a, 2)
	if turns.Next() != &a || turns.Next() != &b || turns.Next() != nil || turns.Waiting() != 0 {
		t.Error("a turn of a higher class did not go first, or one was lost")
	}
}
