package vramman

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file says what must be so in a world, whatever happens in it: the
// invariants of DESIGN section 5.

// check is what must be so after every event.
func (w *world) check() {
	o := w.owner
	if err := o.ledger.Check(); err != nil {
		panic(err)
	}
	var fresh []string
	for _, d := range slices.Backward(o.decisions) {
		s := fmt.Sprint(d.Time.Format(time.RFC3339Nano), " ", d.Action, " ", d.Model, " ", d.Instance, " ", d.GPUs, ": ", d.Reason)
		if len(w.decisions) > 0 && w.decisions[len(w.decisions)-1] == s {
			break
		}
		fresh = append(fresh, s)
	}
	slices.Reverse(fresh)
	w.decisions = append(w.decisions, fresh...)
	w.checkRequests()
	w.checkGates()
	for _, p := range w.processes { // invariant 2
		if s := p.i.word.state(); !p.ended && !s.charged() {
			panic(fmt.Sprintf("the server of %s lives, and it is %v", p.i.id, s))
		}
		for c, seen := range p.seen {
			if o.ledger.ChargeOf(c, p.i.id) < seen {
				panic(fmt.Sprintf("%s was seen to use %d of %s and is charged %d", p.i.id, seen, c, o.ledger.ChargeOf(c, p.i.id)))
			}
		}
		for c, used := range p.used {
			if used > 0 && o.ledger.ChargeOf(c, p.i.id) < p.i.need[slices.Index(p.i.cards, c)] {
				panic(fmt.Sprintf("%s holds memory on %s and is charged %d", p.i.id, c, o.ledger.ChargeOf(c, p.i.id)))
			}
		}
	}
	operations := make(map[string]string) // card → who starts or stops there
	for _, i := range o.instances {
		state := i.word.state()
		if before, known := w.states[i]; known && !reaches(before, state) {
			panic(fmt.Sprintf("%s went from %v to %v", i.id, before, state))
		}
		if w.states[i] != state && state == StateReady {
			w.uses[i] = w.now
		}
		w.states[i] = state
		if i.leaving && i.record.spec != nil {
			panic(fmt.Sprintf("%s is leaving, and its model is configured", i.id))
		}
		if !state.charged() {
			continue
		}
		if want := max(1, i.spec.Launch.TensorParallel); len(i.cards) != want { // invariant 8
			panic(fmt.Sprintf("%s has %d cards, not %d", i.id, len(i.cards), want))
		}
		for n, c := range i.cards {
			if o.ledger.ChargeOf(c, i.id) != i.charge(n) {
				panic(fmt.Sprintf("%s is charged %d on %s, not %d", i.id, o.ledger.ChargeOf(c, i.id), c, i.charge(n)))
			}
			if state != StateStarting && state != StateMeasuring && (state != StateStopping || o.closing) {
				continue
			}
			// Invariant 3: whoever starts or stops on a card holds its gate.
			holder := o.gates[c]
			if holder == "" {
				panic(fmt.Sprintf("%s is %v on %s and nobody holds the gate", i.id, state, c))
			}
			if state == StateStopping && i.ended {
				continue // it may have died while another held the gate
			}
			who := holder
			if l := o.loadHolding(holder); l != nil {
				if l.instance != i && !slices.Contains(l.victims, i) {
					panic(fmt.Sprintf("%s is %v on %s, whose gate is held by %s", i.id, state, c, holder))
				}
			} else if !slices.ContainsFunc(o.instances, func(x *Instance) bool {
				return holder == "stop "+x.id && x.word.state() == StateStopping // two victims of a load that has ended
			}) {
				panic(fmt.Sprintf("%s is %v on %s, whose gate is held by %s", i.id, state, c, holder))
			}
			if other := operations[c]; other != "" && other != who {
				panic(fmt.Sprintf("%s and %s at once on %s", other, who, c))
			}
			operations[c] = who
		}
	}
	for _, r := range o.records { // a model has one current instance, and no ready one besides
		if ready := r.model.ready.Load(); ready != nil {
			for _, i := range *ready {
				if s := i.word.state(); s != StateReady {
					panic(fmt.Sprintf("%s is offered to requests and is %v", i.id, s))
				}
			}
		}
	}
}

// checkRequests is invariant 5: whoever can go on, does; nothing is counted twice
// or not at all.
func (w *world) checkRequests() {
	o := w.owner
	leases, tickets := make(map[*Instance]int), make(map[*Model]int)
	for _, c := range w.clients {
		if c.finished {
			continue
		}
		if !c.queued {
			tickets[c.model]++
		}
		if i := c.lease.instance; i != nil {
			leases[i]++
		} else if ready := c.model.ready.Load(); c.waiter != nil && ready != nil && len(*ready) > 0 {
			panic(fmt.Sprintf("a request waits for %s, which is ready", c.model.name))
		}
	}
	for _, i := range o.instances {
		if i.word.leases() != leases[i] {
			panic(fmt.Sprintf("%s counts %d leases, there are %d", i.id, i.word.leases(), leases[i]))
		}
	}
	for _, r := range o.records {
		q := r.model.Queue()
		if q.Serving != tickets[r.model]+w.returning[r.model] {
			panic(fmt.Sprintf("%s counts %d tickets, there are %d", r.model.name, q.Serving, tickets[r.model]))
		}
		if q.Depth > 0 && q.Serving < q.MaxConcurrent {
			panic(fmt.Sprintf("%d wait for %s, where %d of %d slots are free", q.Depth, r.model.name, q.MaxConcurrent-q.Serving, q.MaxConcurrent))
		}
		n := 0
		if ready := r.model.ready.Load(); ready != nil {
			n = len(*ready)
		}
		if r.spec != nil && q.MaxConcurrent != r.spec.MaxConcurrent*max(1, n) {
			panic(fmt.Sprintf("%s has %d slots for %d instances", r.model.name, q.MaxConcurrent, n))
		}
		if d := r.demand; d != nil {
			switch {
			case r.spec == nil || o.closing:
				panic(fmt.Sprintf("%s is removed, and its demand goes on", r.model.name))
			case len(d.waiters) == 0 && !r.spec.AlwaysOn && !r.fetching() && o.loadOf(r.current) == nil:
				panic(fmt.Sprintf("nobody wants %s, and its demand goes on", r.model.name))
			}
		}
	}
}

// checkGates sees to it that gates and loads are held by those who may, no
// longer than they may.
func (w *world) checkGates() {
	o := w.owner
	for c, who := range o.gates {
		stopping := slices.ContainsFunc(o.instances, func(i *Instance) bool {
			return who == "stop "+i.id && i.word.state() == StateStopping && slices.Contains(i.cards, c)
		})
		if !stopping && o.loadHolding(who) == nil {
			panic(fmt.Sprintf("the gate of %s is held by %q, which is over", c, who))
		}
	}
	for _, l := range o.loads {
		if len(l.victims) > 0 {
			w.hadVictims[l] = w.now
		}
		for _, v := range l.victims {
			if v.word.state() != StateStopping {
				panic(fmt.Sprintf("%s waits for %s, which is %v", l.instance.id, v.id, v.word.state()))
			}
		}
	}
	for _, i := range o.instances {
		switch i.word.state() {
		case StateStarting:
			if w.now.After(i.started.Add(i.start)) {
				panic(fmt.Sprintf("%s starts for longer than its start_timeout", i.id))
			}
		case StateStopping:
			if w.now.After(o.releaseBy(i)) {
				panic(fmt.Sprintf("%s is stopping for too long", i.id))
			}
			if !i.stopAsked && !i.ended && i.stopAgain.IsZero() {
				panic(fmt.Sprintf("%s is stopping, and nobody stops it", i.id))
			}
		}
	}
}

// checkQuiet sees to it that nothing is left to do, or was due at a time that
// nobody asked to be woken at: no wakeup is lost.
func (w *world) checkQuiet(at time.Time) {
	s := w.owner.snapshot(at)
	// Which card is kept for a demand whose turn has come depends on who was used
	// last, too.
	kept := slices.ContainsFunc(s.Demands, func(q scheduler.Demand) bool { return at.Sub(q.Since) >= s.MaxWaitForTurn })
	for _, d := range scheduler.Decide(&s).Decisions {
		// What requests change without a word to the owner (an instance becomes
		// busy, or loses its last ticket) is noticed at the next reading.
		late := w.touched && (d.Kind == scheduler.Drain || d.Kind == scheduler.Start && kept || strings.HasPrefix(d.Reason, "no request for"))
		if d.Kind != scheduler.Wait && d.Kind != scheduler.Refuse && !late {
			panic(fmt.Sprintf("nothing happens any more, but at %v the scheduler wants to %v %s%s: %s", at, d.Kind, d.Model, d.Instance, d.Reason))
		}
	}
}

func (o *owner) loadHolding(holder string) *load {
	for _, l := range o.loads {
		if l.holder() == holder {
			return l
		}
	}
	return nil
}

// follows lists the states that each state may turn into.
var follows = map[State][]State{
	StateFetching:   {StateStarting, StateGone},
	StateStarting:   {StateMeasuring, StateStopping, StateGone},
	StateMeasuring:  {StateReady, StateStopping},
	StateReady:      {StateDraining, StateStopping},
	StateDraining:   {StateStopping},
	StateStopping:   {StateUnreleased, StateGone},
	StateUnreleased: {StateGone},
}

// reaches says whether an instance may come from one state to another; several
// steps may lie between two looks.
func reaches(from, to State) bool {
	return from == to || slices.ContainsFunc(follows[from], func(next State) bool { return reaches(next, to) })
}

// checkStart is invariant 1, at the moment of the decision, and that the engine
// was there for it.
func (w *world) checkStart(i *Instance) {
	l := w.owner.loadOf(i)
	if w.readingBegan.Before(l.began) || w.readingBegan.Before(w.hadVictims[l]) {
		panic(fmt.Sprintf("%s starts on a reading that began too early", i.id))
	}
	pool := w.owner.spec.pool(i.record.spec.Pool)
	if !pool.has(i.cards) {
		panic(fmt.Sprintf("%s starts on %v, which are not in its pool", i.id, i.cards))
	}
	for n, c := range i.cards {
		k := slices.IndexFunc(w.cards, func(x *worldCard) bool { return x.uuid == c })
		total := w.cards[k].total
		budget := int64(math.Floor(pool.Budget * float64(total)))
		need := budget
		switch m := i.spec.Need; {
		case pool.WholeCard:
		case m.Bytes > 0:
			need = m.Bytes
		case m.Share > 0:
			need = int64(math.Floor(m.Share * float64(total)))
		}
		if slices.Contains(i.cards[:n], c) || w.owner.ledger.ChargeOf(c, i.id) != need || w.owner.ledger.Charged(c) > budget {
			panic(fmt.Sprintf("%s is charged %d on %s, where it needs %d of %d", i.id, w.owner.ledger.ChargeOf(c, i.id), c, need, budget))
		}
	}
	for n, c := range i.cards {
		if i.share > i.need[n] || i.total > w.cards[slices.IndexFunc(w.cards, func(x *worldCard) bool { return x.uuid == c })].total {
			panic(fmt.Sprintf("%s is launched with %d of %d, and is charged %v", i.id, i.share, i.total, i.need))
		}
	}
	if f := i.record.failure; f != nil && w.now.Before(f.until) {
		panic(fmt.Sprintf("%s starts, and backs off until %v", i.id, f.until))
	}
	if i.engine.spec.Key() != w.owner.spec.Engine.Key() {
		panic(fmt.Sprintf("%s starts on engine %s", i.id, i.engine.spec.Key()))
	}
	for _, c := range i.cards {
		card, _ := w.owner.ledger.Card(c)
		if charged := w.owner.ledger.Charged(c); charged > card.Budget || charged+card.Foreign > card.Total {
			panic(fmt.Sprintf("%s starts on %s: %d charged of %d budgeted, %d foreign, %d in all", i.id, c, charged, card.Budget, card.Foreign, card.Total))
		}
	}
	if i.engine.engine == nil {
		panic(fmt.Sprintf("%s starts on an engine that is not open", i.id))
	}
}

// checkStop is invariant 4: nobody is served by what is stopped.
func (w *world) checkStop(i *Instance) {
	if n := i.word.leases(); n > 0 && !w.owner.closing && (i.drainBy.IsZero() || w.now.Before(i.drainBy)) {
		panic(fmt.Sprintf("%s is stopped with %d leases", i.id, n))
	}
}

// checkPlan is invariants 1 and 7 for what the scheduler wants.
func (w *world) checkPlan(s *scheduler.State, p scheduler.Plan) {
	defer w.slipIn(p)
	for _, q := range s.Demands {
		if w.owner.record(q.Model).from != w.owner.spec {
			panic(fmt.Sprintf("%s is planned for before its configuration is committed", q.Model))
		}
	}
	for _, d := range p.Decisions {
		if d.Kind != scheduler.Start {
			continue
		}
		for _, g := range d.Gates {
			if s.Cards[g].Gate != "" {
				panic(fmt.Sprintf("%s starts on %s, whose gate is held", d.Model, s.Cards[g].UUID))
			}
		}
		young := false
		for _, id := range d.Victims {
			n := slices.IndexFunc(s.Instances, func(i scheduler.Instance) bool { return i.ID == id })
			v := &s.Instances[n]
			i := w.owner.instance(id) // the truth, not the picture
			spec := i.record.spec
			if v.Phase != scheduler.Ready || spec != nil && spec.AlwaysOn || i.word.leases() > 0 || i.model.tickets() > 0 {
				panic(fmt.Sprintf("%s must not be evicted for %s: %+v", id, d.Model, *v))
			}
			if used, ok := w.uses[i]; ok && !v.LastUsed.Equal(used) { // else it has become ready just now
				panic(fmt.Sprintf("%s was last used %v, not %v", id, w.uses[i], v.LastUsed))
			}
			young = young || spec != nil && s.Now.Before(i.readySince.Add(spec.MinResidency))
		}
		if young {
			w.checkYoung(s, d)
		}
	}
}

// slipIn has a request take a lease on what is about to be stopped, between the
// plan and its claim.
func (w *world) slipIn(p scheduler.Plan) {
	for _, d := range p.Decisions {
		for _, id := range append(slices.Clone(d.Victims), d.Instance) {
			i := w.owner.instance(id)
			if i == nil || i.word.state() != StateReady || w.rng.IntN(5) > 0 {
				continue
			}
			c := &client{n: w.steps, model: i.model, service: w.between(10*time.Millisecond, 10*time.Second)}
			if admitted, err := c.model.enter(w.now, &c.ticket); err != nil || !admitted {
				if err == nil {
					c.model.giveUp(&c.ticket)
				}
				continue
			}
			w.clients = append(w.clients, c)
			w.serve(c, Lease{c.model.lease(nil)})
		}
	}
}

// checkYoung sees to it that instances below their minimum residency go only
// where all the others together would not do.
func (w *world) checkYoung(s *scheduler.State, d scheduler.Decision) {
	if len(s.Demands) > 1 { // earlier decisions of the plan are not in the state
		return
	}
	var cards []placement.Card
	for _, c := range s.Cards {
		cards = append(cards, placement.Card{Card: c.Card, Charged: c.Charged})
	}
	var old []placement.Victim
	for n, i := range s.Instances {
		free := !slices.ContainsFunc(i.Cards, func(c int) bool { return s.Cards[c].Gate != "" })
		if i.Phase == scheduler.Ready && !i.AlwaysOn && i.Leases == 0 && i.Tickets == 0 && free && !s.Now.Before(i.ReadySince.Add(i.MinResidency)) {
			old = append(old, placement.Victim{Instance: n, Cards: i.Cards, Charges: i.Charges})
		}
	}
	q := s.Demands[0]
	r := placement.Request{Need: q.Need, Degree: q.Degree}
	for _, c := range q.Cards {
		if s.Cards[c].Gate == "" {
			r.Cards = append(r.Cards, c)
		}
	}
	if _, ok := placement.Place(cards, old, r); ok {
		panic(fmt.Sprintf("%s evicts young instances %v and need not", d.Model, d.Victims))
	}
}
