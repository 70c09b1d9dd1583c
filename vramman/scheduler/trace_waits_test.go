package scheduler_test

import (
	"container/heap"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file plays a trace in its own time: loads and stops take theirs, cards
// have gates, requests are served side by side and wait for their model, and
// whoever waits for a turn gets it. It is what clients would see.

const (
	waitsStop      = 5 * time.Second
	waitsResidency = 90 * time.Second // as the gateway's standard
	waitsPatience  = 2 * time.Minute  // as the gateway's standard
)

type waitsModel struct {
	*traceModel
	instance *waitsInstance // that takes its requests, or will
	since    time.Time      // of its demand; zero: none
	waiting  []traceUse
}

type waitsInstance struct {
	scheduler.Instance
	model *waitsModel
	then  *waitsInstance // whose start waits for it to be gone
	left  int            // victims that are not gone
	gates []int          // held by its start or its stop
}

type waitsEvent struct {
	at  time.Time
	seq int
	do  func()
}

type waitsEvents []waitsEvent

func (e waitsEvents) Len() int { return len(e) }
func (e waitsEvents) Less(a, b int) bool {
	if !e[a].at.Equal(e[b].at) {
		return e[a].at.Before(e[b].at)
	}
	return e[a].seq < e[b].seq
}
func (e waitsEvents) Swap(a, b int) { e[a], e[b] = e[b], e[a] }
func (e *waitsEvents) Push(x any)   { *e = append(*e, x.(waitsEvent)) }
func (e *waitsEvents) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// waitsWorld is the machine in the midst of a trace.
type waitsWorld struct {
	t         *testing.T
	now       time.Time
	policy    scheduler.Policy
	usage     scheduler.Usage
	cards     []scheduler.Card
	all       []int
	models    []*waitsModel
	instances []*waitsInstance
	events    waitsEvents
	seq       int
	loads     int
	waits     []time.Duration
}

// playWaits plays a trace under a policy, seer where that is nil, and returns how
// often models were loaded and how long each request waited until it was served.
func playWaits(t *testing.T, tr *trace, policy scheduler.Policy) (loads int, waits []time.Duration) {
	t.Helper()
	w := &waitsWorld{t: t, policy: policy}
	if policy == nil {
		w.policy = newSeer(tr, func() time.Time { return w.now })
	}
	w.cards, w.all = tr.traceCards()
	for n := range tr.models {
		w.models = append(w.models, &waitsModel{traceModel: &tr.models[n]})
	}
	for _, u := range tr.uses {
		w.at(u.at, func() { w.arrive(u) })
	}
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(waitsEvent)
		w.now = e.at
		e.do()
		w.decide()
	}
	if len(w.waits) != len(tr.uses) {
		t.Fatalf("%s: of %d requests %d were served", tr.kind, len(tr.uses), len(w.waits))
	}
	return w.loads, w.waits
}

func (w *waitsWorld) at(at time.Time, do func()) {
	w.seq++
	heap.Push(&w.events, waitsEvent{at, w.seq, do})
}

func (w *waitsWorld) arrive(u traceUse) {
	m := w.models[u.model]
	w.usage.Used(m.name, w.now)
	switch i := m.instance; {
	case i != nil && i.Phase == scheduler.Ready:
		w.serve(i, u)
	case i == nil && m.since.IsZero():
		m.since = w.now
		fallthrough
	default:
		m.waiting = append(m.waiting, u)
	}
}

func (w *waitsWorld) serve(i *waitsInstance, u traceUse) {
	w.waits = append(w.waits, w.now.Sub(u.at))
	i.Leases++
	i.Tickets++
	w.at(w.now.Add(u.service), func() {
		i.Leases--
		i.Tickets--
		i.LastUsed = w.now
	})
}

// decide carries plans out until one has nothing to do at once.
func (w *waitsWorld) decide() {
	for range 50 {
		s := w.snapshot()
		draining := slices.ContainsFunc(s.Instances, func(i scheduler.Instance) bool { return i.Phase == scheduler.Draining })
		if len(s.Demands) == 0 && !draining {
			return
		}
		plan, acted := scheduler.Decide(s), false
		for _, d := range plan.Decisions {
			acted = w.carryOut(d) || acted
		}
		if acted {
			continue
		}
		if !plan.Next.IsZero() {
			w.at(plan.Next, func() {})
		}
		return
	}
	w.t.Fatal("it never comes to rest")
}

func (w *waitsWorld) snapshot() *scheduler.State {
	s := &scheduler.State{Now: w.now, Cards: slices.Clone(w.cards), MaxWaitForTurn: waitsPatience, Policy: w.policy}
	for _, i := range w.instances {
		i.LoadTime, i.Likelihood = w.usage.LoadTime(i.Model), w.usage.Likelihood(i.Model)
		s.Instances = append(s.Instances, i.Instance)
	}
	for _, m := range w.models {
		if !m.since.IsZero() {
			s.Demands = append(s.Demands, scheduler.Demand{
				Model: m.name, Since: m.since, Need: slices.Repeat([]int64{m.size}, len(w.all)), Degree: 1, Cards: w.all,
			})
		}
	}
	slices.SortStableFunc(s.Demands, func(a, b scheduler.Demand) int { return a.Since.Compare(b.Since) })
	return s
}

func (w *waitsWorld) find(id string) *waitsInstance {
	return w.instances[slices.IndexFunc(w.instances, func(i *waitsInstance) bool { return i.ID == id })]
}

// carryOut does what a decision says. It returns false for one that does nothing.
func (w *waitsWorld) carryOut(d scheduler.Decision) bool {
	switch d.Kind {
	case scheduler.Start:
		m := w.models[slices.IndexFunc(w.models, func(m *waitsModel) bool { return m.name == d.Model })]
		w.loads++
		i := &waitsInstance{model: m, left: len(d.Victims), gates: d.Gates, Instance: scheduler.Instance{
			ID: m.name, Model: m.name, Phase: scheduler.Starting, Cards: d.Cards, Charges: []int64{m.size},
			DemandSince: m.since, MinResidency: waitsResidency,
		}}
		m.instance, m.since = i, time.Time{}
		w.hold(d.Gates, "start "+m.name)
		for _, victim := range d.Victims {
			v := w.find(victim.Instance)
			v.then = i
			w.stop(v)
		}
		// Its room is charged from the start; its victims' is as good as free.
		w.instances = append(w.instances, i)
		w.cards[d.Cards[0]].Charged += m.size
		if i.left == 0 {
			w.load(i)
		}
	case scheduler.Stop:
		i := w.find(d.Instance)
		i.gates = d.Gates
		w.hold(d.Gates, "stop "+i.ID)
		w.stop(i)
	case scheduler.Drain:
		i := w.find(d.Instance)
		if i.Phase != scheduler.Ready {
			return false
		}
		i.Phase, i.Tickets, i.model.instance = scheduler.Draining, 0, nil
		i.ID += " (draining)" // another of its model may come before it is gone
	case scheduler.Refuse:
		w.t.Fatalf("%s: %s", d.Model, d.Reason)
	default:
		return false
	}
	return true
}

// stop takes an instance off its card. Where a start waits for it, its room
// belongs to that from now on.
func (w *waitsWorld) stop(i *waitsInstance) {
	if i.Leases > 0 {
		w.t.Fatalf("%s is stopped and serves %d", i.ID, i.Leases)
	}
	i.Phase = scheduler.Stopping
	if i.model.instance == i {
		i.model.instance = nil
	}
	gone := func() {
		w.cards[i.Cards[0]].Charged -= i.Charges[0]
		w.instances = slices.DeleteFunc(w.instances, func(x *waitsInstance) bool { return x == i })
	}
	if i.then != nil {
		gone()
	}
	w.at(w.now.Add(waitsStop), func() {
		if i.then == nil {
			gone()
			w.hold(i.gates, "")
			return
		}
		if i.then.left--; i.then.left == 0 {
			w.load(i.then)
		}
	})
}

func (w *waitsWorld) hold(gates []int, who string) {
	for _, g := range gates {
		if (who == "") == (w.cards[g].Gate == "") {
			w.t.Fatalf("the gate of card %d goes from %q to %q", g, w.cards[g].Gate, who)
		}
		w.cards[g].Gate = who
	}
}

func (w *waitsWorld) load(i *waitsInstance) {
	if c := w.cards[i.Cards[0]]; c.Room(c.Charged) < 0 {
		w.t.Fatalf("%s starts where there is no room", i.ID)
	}
	w.at(w.now.Add(i.model.loading), func() {
		w.hold(i.gates, "")
		i.Phase, i.ReadySince, i.LastUsed = scheduler.Ready, w.now, w.now
		w.usage.Loaded(i.Model, i.model.loading)
		for _, u := range i.model.waiting {
			w.serve(i, u)
		}
		i.model.waiting = nil
	})
}
