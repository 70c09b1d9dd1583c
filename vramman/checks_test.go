package vramman

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// These files say what must be so in a world, whatever happens in it: the
// invariants of DESIGN section 5. This one is about instances and what they are
// charged; the others are about requests, gates, victims, turns and readings.

// witness is what the checks remember.
type witness struct {
	states     map[*Instance]State // as last seen
	uses       map[*Instance]time.Time
	hadVictims map[*load]time.Time // when a load was last seen to have some
	drains     map[*Instance]drain
	waits      map[*record]wait
	refusals   map[string]time.Time // when the scheduler last refused a model
	decisions  []string
	squeezed   map[string]int     // in how many readings in a row others left less of a card than is charged
	hasRun     map[*Model]bool    // it was ready once
	granted    map[string]granted // what each model was last given by a plan
	degrees    map[string]int     // on how many cards models ran where that was to be found, by the key of it
	sights     map[string]int     // how often something was seen that the worlds must show
}

func (s *witness) begin() {
	s.states, s.uses = make(map[*Instance]State), make(map[*Instance]time.Time)
	s.hadVictims, s.drains = make(map[*load]time.Time), make(map[*Instance]drain)
	s.hasRun, s.granted, s.degrees = make(map[*Model]bool), make(map[string]granted), make(map[string]int)
	s.squeezed = make(map[string]int)
	s.waits, s.refusals, s.sights = make(map[*record]wait), make(map[string]time.Time), make(map[string]int)
}

// saw counts what the worlds are to show.
func (s *witness) saw(what string) { s.sights[what]++ }

// listen writes the owner's new decisions down.
func (w *world) listen() {
	var fresh []DecisionStatus
	var words []string
	for _, d := range slices.Backward(w.owner.decisions) {
		s := fmt.Sprint(d.Time.UnixNano(), " ", d.Action, " ", d.Model, " ", d.Instance, " ", d.GPUs, ": ", d.Reason)
		if len(w.decisions) > 0 && w.decisions[len(w.decisions)-1] == s {
			break
		}
		fresh, words = append(fresh, d), append(words, s)
	}
	for n := range slices.Backward(fresh) {
		w.decisions = append(w.decisions, words[n])
		w.saw(fresh[n].Action)
		if fresh[n].Action == "ready" { // it may be on its way out already
			w.hasRun[w.owner.models[fresh[n].Model]] = true
		}
		w.retell(fresh[n])
	}
}

// check is what must be so after every event.
func (w *world) check() {
	o := w.owner
	err := o.ledger.Check()
	w.must(err == nil, 2, "the ledger does not add up: %v", err)
	w.checkStates()
	w.checkCharges()
	w.checkRequests()
	w.checkGates()
	w.checkTurns()
	w.checkNaps()
	if w.also != nil {
		w.also(w)
	}
}

// follows lists the states that each state may turn into.
var follows = map[State][]State{
	StateFetching:   {StateStarting, StateGone},
	StateStarting:   {StateMeasuring, StateStopping, StateGone},
	StateMeasuring:  {StateReady, StateStopping},
	StateReady:      {StateDraining, StateStopping, StateSleeping},
	StateSleeping:   {StateAsleep, StateStopping},
	StateAsleep:     {StateWaking, StateStopping},
	StateWaking:     {StateMeasuring, StateStopping},
	StateDraining:   {StateStopping},
	StateStopping:   {StateUnreleased, StateGone},
	StateUnreleased: {StateGone},
}

// reaches says whether an instance may come from one state to another; several
// steps may lie between two looks.
func reaches(from, to State) bool { return reachesIn(from, to, 5) }

func reachesIn(from, to State, steps int) bool {
	return from == to || steps > 0 && slices.ContainsFunc(follows[from], func(next State) bool { return reachesIn(next, to, steps-1) })
}

// checkStates sees to it that instances go through their states in order.
func (w *world) checkStates() {
	o := w.owner
	for _, i := range o.instances {
		state := i.word.state()
		before, known := w.states[i]
		if known && before != state {
			w.must(reaches(before, state), 2, "%s went from %v to %v", i.id, before, state)
		}
		if before != state {
			w.states[i] = state
			w.enters(i, state)
		}
		w.must(!i.leaving || i.record.spec == nil, 2, "%s is leaving, and its model is configured", i.id)
		if state == StateDraining || i.leaving {
			if _, ok := w.drains[i]; !ok {
				w.drains[i] = drain{w.now, o.drainTimeout()}
			}
		} else if state == StateReady {
			delete(w.drains, i)
		}
	}
	for _, r := range o.records {
		if ready := r.model.ready.Load(); ready != nil {
			for _, i := range *ready {
				s := i.word.state()
				w.must(s == StateReady, 4, "%s is offered to requests and is %v", i.id, s)
			}
		}
	}
}

// enters is told of an instance's new state.
func (w *world) enters(i *Instance, s State) {
	switch s {
	case StateReady:
		w.uses[i] = w.now
	case StateMeasuring:
		w.mayDieSoon(i, s, 15, 40*time.Millisecond)
	case StateDraining:
		w.mayDieSoon(i, s, 6, 10*time.Second)
	case StateSleeping:
		w.mayDieSoon(i, s, 10, 4*time.Second)
	case StateAsleep:
		w.mayDieSoon(i, s, 8, 4*time.Minute)
	case StateWaking:
		w.mayDieSoon(i, s, 10, 4*time.Second)
	}
}

// checkCharges is invariants 2 and 8: whatever holds memory is charged, on each
// of its cards.
func (w *world) checkCharges() {
	o := w.owner
	for _, p := range w.processes {
		if p.life != w.life {
			continue // nobody is charged for what an earlier gateway left behind
		}
		w.checkRest(p)
		state := p.i.word.state()
		w.must(p.ended || state.charged(), 2, "the server of %s lives, and it is %v", p.i.id, state)
		for n, c := range p.i.cards {
			charge := o.ledger.ChargeOf(c, p.i.id)
			if state.charged() {
				least := w.leastCharge(p, c)
				w.must(charge >= least, 2, "%s was seen to use %d of %s and is charged %d", p.i.id, least, c, charge)
			}
			if p.used[c] > 0 && p.known() && !p.unseen && !p.i.nap.rests {
				w.must(charge >= p.i.need[n], 2, "%s holds memory on %s and is charged %d", p.i.id, c, charge)
			}
		}
	}
	for _, i := range o.instances {
		if !i.word.state().charged() {
			continue
		}
		want := max(1, i.spec.Launch.TensorParallel)
		if i.spec.AutoParallel {
			want = w.granted[i.model.name].degree(i)
		}
		w.must(len(i.cards) == want, 8, "%s has %d cards, not %d", i.id, len(i.cards), want)
		for n, c := range i.cards {
			w.must(!slices.Contains(i.cards[:n], c), 8, "%s has %s twice", i.id, c)
			charge := o.ledger.ChargeOf(c, i.id)
			w.must(charge == i.charge(n) && (charge > 0 || i.nap.rests), 8, "%s is charged %d on %s, not %d", i.id, charge, c, i.charge(n))
		}
	}
}

// checkStart is invariant 1, at the moment of the decision, and that the engine
// was there for it.
func (w *world) checkStart(i *Instance) {
	o := w.owner
	l := o.loadOf(i)
	w.must(!w.readingBegan.Before(l.began) && !w.readingBegan.Before(w.hadVictims[l]), 1, "%s starts on a reading that began too early", i.id)
	pool := o.spec.pool(i.record.spec.Pool)
	w.must(pool.has(i.cards), 7, "%s starts on %v, which are not in its pool", i.id, i.cards)
	for n, c := range i.cards {
		total := w.card(c).total()
		budget := int64(math.Floor(pool.Budget * float64(total)))
		need := w.granted[i.model.name].on(c)
		charge, charged := o.ledger.ChargeOf(c, i.id), o.ledger.Charged(c)
		w.must(charge == need, 8, "%s is charged %d on %s, where it needs %d", i.id, charge, c, need)
		w.must(o.allowed(i.record, c), 7, "%s starts on %s, which its model is not to use", i.id, c)
		w.must(i.share <= i.need[n] && i.total <= total, 8, "%s is launched with %d of %d, and is charged %v", i.id, i.share, i.total, i.need)
		w.must(charged <= budget, 1, "%s starts on %s: %d charged of %d budgeted", i.id, c, charged, budget)
		account, _ := o.ledger.Card(c)
		w.must(charged+account.Foreign <= total, 1, "%s starts on %s: %d charged and %d used by others, of %d", i.id, c, charged, account.Foreign, total)
	}
	f := i.record.failure
	w.must(f == nil || !w.now.Before(f.until), 6, "%s starts, and backs off", i.id)
	w.must(i.engine.spec.Key() == o.spec.Engine.Key(), 9, "%s starts on engine %s", i.id, i.engine.spec.Key())
	w.must(i.engine.engine != nil, 9, "%s starts on an engine that is not open", i.id)
	for _, p := range w.processes {
		w.must(p.life == w.life || p.ended, 9, "%s starts, and %s, left behind by an earlier gateway, still runs", i.id, p.i.id)
	}
	w.checkAlone(i)
}

// needOn is what a model needs on a card of a pool.
func needOn(p *Pool, m *ModelSpec, total int64) int64 {
	switch {
	case p.WholeCard && !m.Colocate:
	case m.Need.Bytes > 0:
		return m.Need.Bytes
	case m.Need.Share > 0:
		return int64(math.Floor(m.Need.Share * float64(total)))
	}
	return int64(math.Floor(p.Budget * float64(total)))
}

// drain is when an instance began to go, and how long it may take.
type drain struct {
	since time.Time
	most  time.Duration
}

// checkStop is invariant 4: nobody is served by what is stopped.
func (w *world) checkStop(i *Instance) {
	w.must(w.started[i] != nil, 9, "%s is stopped, which nobody started", i.id)
	n := 0
	for _, c := range w.clients { // what the instance itself counts is checked elsewhere
		if c.lease.instance == i && !c.finished {
			n++
		}
	}
	if n > 0 && !w.owner.closing && !i.ended { // what counts as ended serves nobody
		d, ok := w.drains[i]
		w.must(ok && !w.now.Before(d.since.Add(d.most)), 4, "%s is stopped with %d leases", i.id, n)
	}
	if s := i.word.state(); s != StateUnreleased && !w.owner.closing {
		w.checkAlone(i)
	}
}
