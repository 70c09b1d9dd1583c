package vramman

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

var (
	simWorlds = flag.Int("worlds", 2000, "how many worlds the simulation runs")
	simSeed   = flag.Uint64("seed", 0, "run this world only")
	simEvents = flag.Int("events", 1000, "how many things happen in a world before it is wound up")
)

// TestSimulation lets many random worlds happen to the owner and checks the
// invariants of DESIGN section 5 after every event. A failure prints the seed;
// -seed runs that world alone.
func TestSimulation(t *testing.T) {
	worlds := *simWorlds
	if testing.Short() || raceEnabled && worlds > 200 {
		worlds = min(worlds, 200)
	}
	first := uint64(1)
	if *simSeed != 0 {
		first, worlds = *simSeed, 1
	}
	served, refused := 0, 0
	for seed := first; seed < first+uint64(worlds); seed++ {
		w := runWorld(t, seed)
		served += w.served
		for _, n := range w.refused {
			refused += n
		}
		if seed%8 == 0 { // the same world again decides the same
			if again := runWorld(t, seed); !slices.Equal(w.decisions, again.decisions) {
				n := 0
				for n < min(len(w.decisions), len(again.decisions)) && w.decisions[n] == again.decisions[n] {
					n++
				}
				t.Fatalf("seed %d: decision %d differs between two runs", seed, n)
			}
		}
	}
	if served == 0 || refused == 0 {
		t.Fatalf("%d requests served and %d refused: the worlds show nothing", served, refused)
	}
	t.Logf("%d worlds: %d requests served, %d refused", worlds, served, refused)
}

// runWorld makes a world from its seed, lets it happen, winds it up, and
// checks it all the way.
func runWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	w := newWorld(seed, seed%4 != 0)
	defer func() {
		if r := recover(); r != nil {
			last := w.decisions[max(0, len(w.decisions)-30):]
			t.Fatalf("seed %d, step %d: %v\nlast decisions:\n%s\n%s", seed, w.steps, r, strings.Join(last, "\n"), debug.Stack())
		}
	}()
	for n := range 1 + w.rng.IntN(4) {
		w.cards = append(w.cards, &worldCard{uuid: fmt.Sprintf("GPU-%d", n), total: int64(8+8*w.rng.IntN(4)) * worldGiB})
	}
	spec := w.randomSpec(2 + w.rng.IntN(8))
	w.specs = append(w.specs, spec)
	w.owner.planned = w.checkPlan
	w.reloadTo(spec, true)
	w.arrivals()
	w.troubles()
	for w.steps < *simEvents && w.step() {
		w.check()
	}
	w.windUp()
	return w
}

// reloadTo applies a spec as Caddy does: the new one starts, then the old goes.
func (w *world) reloadTo(s *Spec, commit bool) {
	if w.reloading || w.owner.closing {
		return
	}
	w.reloading = true
	g := NewGeneration(s)
	w.tell(applyEvent{g: g})
	rest := func() {
		w.reloading = false
		if !commit { // another app of the new configuration fails
			w.tell(withdrawEvent{g: g})
			return
		}
		w.tell(commitEvent{g: g})
		old := w.current
		w.current = []*Generation{g}
		w.after(0, time.Second, func() {
			for _, o := range old {
				w.tell(withdrawEvent{g: o})
			}
		})
	}
	if len(w.current) == 0 {
		rest()
		return
	}
	w.after(0, 5*time.Second, rest)
}

// arrivals has requests come, for a few models more than for the others.
func (w *world) arrivals() {
	spec := w.current[0].spec
	if n := len(w.owner.generations); n > 0 && w.rng.IntN(4) == 0 {
		spec = w.owner.generations[n-1].g.spec // perhaps not committed yet
	}
	n := min(w.rng.IntN(len(spec.Models)), w.rng.IntN(len(spec.Models)))
	w.arrive(spec.Models[n].Name)
	w.after(0, w.between(time.Millisecond, 20*time.Second), w.arrivals)
}

func (w *world) arrive(name string) {
	m := w.owner.models[name]
	if m == nil {
		return
	}
	c := &client{n: w.steps, model: m, service: w.between(10*time.Millisecond, 30*time.Second)}
	if w.rng.IntN(50) == 0 {
		c.service = w.between(time.Minute, 20*time.Minute)
	}
	admitted, err := m.enter(w.now, &c.ticket)
	if err != nil {
		w.refused[err.(*Error).Code]++
		return
	}
	w.clients = append(w.clients, c)
	c.queued = !admitted
	if admitted {
		w.acquire(c)
	}
	if w.rng.IntN(6) == 0 {
		w.after(0, time.Minute, func() { w.leave(c, "cancelled") })
	}
	w.after(c.ticket.deadline.Sub(w.now), 0, func() {
		if c.lease.instance == nil {
			w.leave(c, "timed out")
		}
	})
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
	w.after(c.service, c.service, func() { w.leave(c, "served") })
}

// leave ends a request, at whatever point it is.
func (w *world) leave(c *client, _ string) {
	if c.finished {
		return
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
			w.after(0, 2*time.Second, func() { w.tell(leftEvent{c.model, c.waiter}) })
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
	w.after(0, 20*time.Millisecond, func() {
		w.returning[c.model]--
		c.ticket.Return(w.now)
		w.touched = true
	})
}

// pollClients lets requests go on whose turn has come or whose answer is there.
func (w *world) pollClients() (more bool) {
	for _, c := range slices.Clone(w.clients) {
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
			if r.err == nil {
				w.serve(c, r.lease)
				continue
			}
			w.refused[r.err.(*Error).Code]++
			c.finished = true
			c.ticket.Return(w.now)
		default:
		}
	}
	w.clients = slices.DeleteFunc(w.clients, func(c *client) bool { return c.finished })
	return more
}

// troubles has other programs take VRAM and configurations change.
func (w *world) troubles() {
	w.after(time.Second, 5*time.Minute, func() {
		if w.faults {
			c := w.cards[w.rng.IntN(len(w.cards))]
			c.foreign = int64(w.rng.IntN(12)) * worldGiB
		}
		w.troubles()
	})
	w.after(time.Minute, 10*time.Minute, func() {
		switch w.rng.IntN(3) {
		case 0:
			w.reloadTo(w.randomSpec(2+w.rng.IntN(8)), true)
		case 1:
			s := *w.current[0].spec // one model changes
			s.Models = slices.Clone(s.Models)
			m := &s.Models[w.rng.IntN(len(s.Models))]
			m.Launch.MaxModelLen++
			m.MaxConcurrent = 1 + w.rng.IntN(8)
			if w.rng.IntN(3) == 0 {
				s.Engine = engineKey(fmt.Sprintf("engine-%d", w.steps))
			}
			w.reloadTo(&s, true)
		default:
			w.reloadTo(w.randomSpec(3), false)
		}
	})
}

// windUp takes the configuration away and sees to it that nothing is left.
func (w *world) windUp() {
	w.faults = false
	for _, c := range w.clients {
		if w.rng.IntN(2) == 0 {
			w.leave(c, "gone")
		}
	}
	w.tell(closeEvent{})
	for n := 0; len(w.owner.instances) > 0; n++ { // even those whose VRAM is late
		if n > 20000 {
			panic(fmt.Sprintf("it does not end: %v", w.owner.status(w.now)))
		}
		if !w.step() {
			panic("nothing is to come, and it has not ended")
		}
		w.check()
	}
	for _, c := range slices.Clone(w.clients) {
		w.leave(c, "gone")
	}
	for len(w.returning) > 0 && slices.ContainsFunc(slices.Collect(maps.Values(w.returning)), func(n int) bool { return n > 0 }) {
		w.step()
	}
	for _, m := range w.owner.models {
		if q := m.Queue(); q.Serving != 0 || q.Depth != 0 {
			panic(fmt.Sprintf("model %s: %d tickets and %d places are left", m.name, q.Serving, q.Depth))
		}
	}
	for _, c := range w.owner.ledger.Cards() {
		if left := w.owner.ledger.Charged(c.UUID); left != 0 {
			panic(fmt.Sprintf("%s: %d bytes stay charged", c.UUID, left))
		}
	}
	if len(w.owner.gates) != 0 {
		panic(fmt.Sprintf("gates stay held: %v", w.owner.gates))
	}
}

// TestEveryModelGetsItsTurn has more models than fit, all of them always busy,
// and checks invariant 6: the first in line waits no longer than its turn.
func TestEveryModelGetsItsTurn(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		w := newWorld(seed, false)
		w.cards = []*worldCard{{uuid: "GPU-0", total: 16 * worldGiB}, {uuid: "GPU-1", total: 16 * worldGiB}}
		spec := w.randomSpec(6)
		spec.Pools = []Pool{{Name: "all", Budget: 1}}
		spec.MaxWaitForTurn, spec.DrainTimeout = 2*time.Minute, 10*time.Minute
		for n := range spec.Models {
			m := &spec.Models[n]
			m.Pool, m.AlwaysOn, m.IdleTimeout, m.MaxConcurrent, m.MaxQueue, m.MaxWait = "all", false, 0, 2, 10, math.MaxInt64
			m.Need, m.Launch.TensorParallel = placement.Need{Bytes: 10 * worldGiB}, 1+n/5
		}
		w.reloadTo(spec, true)
		var busy func(name string)
		busy = func(name string) { // a second request comes before the first ends, for ever
			w.arrive(name)
			w.after(5*time.Second, 10*time.Second, func() { busy(name) })
		}
		for n := range spec.Models {
			busy(spec.Models[n].Name)
		}
		starts := make(map[string]int)
		for w.now.Before(time.Unix(1_800_000_000, 0).Add(4 * time.Hour)) {
			w.step()
			w.check()
			for _, r := range w.owner.records {
				// Six models on two cards; each turn is a wait, a drain and a start.
				bound := 6 * (spec.MaxWaitForTurn + spec.DrainTimeout + 2*time.Minute)
				if r.demand != nil && w.now.Sub(r.demand.since) > bound {
					t.Fatalf("seed %d: %s has waited %v for its turn: %s", seed, r.model.name, w.now.Sub(r.demand.since), r.waiting)
				}
				if r.current != nil {
					starts[r.model.name] = w.owner.ordinals[r.model.name]
				}
			}
		}
		for n := range spec.Models {
			if starts[spec.Models[n].Name] == 0 {
				t.Errorf("seed %d: %s never ran", seed, spec.Models[n].Name)
			}
		}
		total := 0
		for _, n := range starts {
			total += n
		}
		// No thrash: a card is not swapped more often than once a turn.
		if most := int(4*time.Hour/spec.MaxWaitForTurn)*2 + len(spec.Models); total > most {
			t.Errorf("seed %d: %d starts in four hours, more than %d", seed, total, most)
		}
	}
}
