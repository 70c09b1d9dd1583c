package scheduler_test

import (
	"cmp"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// referee follows a plan decision by decision and knows, by plain counting,
// what each may be. It shares no code with the scheduler.
type referee struct {
	t     *testing.T
	s     *scheduler.State
	gates []bool
	gone  map[string]bool // stopped or evicted by the plan
	// charged by the plan's starts, per card: those that may be evicted later,
	// and those that may not.
	evictable, permanent []int64
	keeper               *scheduler.Demand // the first due demand that waits
	keeperLost           []bool            // cards that later starts took a gate of
}

func (r *referee) instance(id string) *scheduler.Instance {
	r.t.Helper()
	n := slices.IndexFunc(r.s.Instances, func(i scheduler.Instance) bool { return i.ID == id })
	if n < 0 {
		r.t.Fatalf("there is no instance %q", id)
	}
	return &r.s.Instances[n]
}

func isBusy(i *scheduler.Instance) bool { return i.Leases > 0 || i.Tickets > 0 }

func (r *referee) isYoung(i *scheduler.Instance) bool {
	return r.s.Now.Sub(i.ReadySince) < i.MinResidency
}

// before is the order in which instances go.
func (r *referee) before(a, b *scheduler.Instance) bool {
	if r.isYoung(a) != r.isYoung(b) {
		return r.isYoung(b)
	}
	if r.s.Policy.Less(a, b) != r.s.Policy.Less(b, a) {
		return r.s.Policy.Less(a, b)
	}
	return cmp.Less(a.ID, b.ID)
}

// takeGates fails if one is held, or taken twice.
func (r *referee) takeGates(d scheduler.Decision) {
	r.t.Helper()
	for _, g := range d.Gates {
		if r.gates[g] {
			r.t.Fatalf("%s: the gate of card %d is held", words(d), g)
		}
		r.gates[g] = true
	}
}

func (r *referee) gatesFree(cards []int) bool {
	return !slices.ContainsFunc(cards, func(c int) bool { return r.gates[c] })
}

// roomOn is the room on a card with what the plan has done so far, once
// those who match are gone from it.
func (r *referee) roomOn(c int, gone func(*scheduler.Instance) bool) int64 {
	card := r.s.Cards[c]
	charged := card.Charged + r.evictable[c] + r.permanent[c]
	for n := range r.s.Instances {
		i := &r.s.Instances[n]
		if k := slices.Index(i.Cards, c); k >= 0 && (r.gone[i.ID] || gone(i)) {
			charged -= i.Charges[k]
		}
	}
	return min(card.Budget-charged, card.Total-card.Foreign-charged)
}

// fitting lists the demand's cards that have room once those who match are gone.
func (r *referee) fitting(q *scheduler.Demand, gone func(*scheduler.Instance) bool) (cards []int) {
	for _, c := range q.Cards {
		if r.roomOn(c, gone) >= q.Need.On(r.s.Cards[c].Card) {
			cards = append(cards, c)
		}
	}
	return cards
}

func nobody(*scheduler.Instance) bool { return false }

// stopping says whether an instance is about to free its room.
func stopping(i *scheduler.Instance) bool {
	return i.Phase == scheduler.Stopping || i.Phase == scheduler.Draining && i.Leases == 0
}

// mayGo says whether an instance can be expected to end or to be evicted.
func mayGo(i *scheduler.Instance) bool {
	switch i.Phase {
	case scheduler.Unreleased:
		return false
	case scheduler.Stopping, scheduler.Draining:
		return true
	}
	return i.Leaving || !i.AlwaysOn
}

// stop checks what is ended without anybody's demand.
func (r *referee) stop(d scheduler.Decision) {
	r.t.Helper()
	i := r.instance(d.Instance)
	if r.gone[i.ID] || !r.shouldStop(i) {
		r.t.Fatalf("%s: it is not to be stopped", words(d))
	}
	if !slices.Equal(slices.Sorted(slices.Values(d.Gates)), slices.Sorted(slices.Values(i.Cards))) {
		r.t.Fatalf("%s takes gates %v, its cards are %v", words(d), d.Gates, i.Cards)
	}
	if d.Model != i.Model {
		r.t.Fatalf("%s names model %q", words(d), d.Model)
	}
	r.takeGates(d)
	r.gone[i.ID] = true
}

func (r *referee) shouldStop(i *scheduler.Instance) bool {
	switch i.Phase {
	case scheduler.Draining:
		return i.Expired || i.Leases == 0
	case scheduler.Ready:
		return !isBusy(i) && (i.Leaving || !i.AlwaysOn && i.IdleTimeout > 0 && r.s.Now.Sub(i.LastUsed) >= i.IdleTimeout)
	}
	return false
}

// victim says whether an instance may be evicted now.
func (r *referee) victim(i *scheduler.Instance) bool {
	return i.Phase == scheduler.Ready && !i.AlwaysOn && !isBusy(i) && !r.gone[i.ID] && r.gatesFree(i.Cards)
}

// start checks a start: its cards, its gates, its victims and their order.
func (r *referee) start(q *scheduler.Demand, d scheduler.Decision) {
	r.t.Helper()
	gates := slices.Clone(d.Cards)
	chosen := map[string]bool{}
	for _, id := range d.Victims {
		i := r.instance(id)
		if chosen[id] || !r.victim(i) {
			r.t.Fatalf("%s: %s may not be evicted", words(d), id)
		}
		chosen[id] = true
		gates = append(gates, i.Cards...)
	}
	slices.Sort(gates)
	if !slices.Equal(slices.Compact(gates), slices.Sorted(slices.Values(d.Gates))) {
		r.t.Fatalf("%s takes gates %v, want %v", words(d), d.Gates, gates)
	}
	if len(d.Cards) != q.Degree || len(slices.Compact(slices.Sorted(slices.Values(d.Cards)))) != q.Degree {
		r.t.Fatalf("%s: not %d cards", words(d), q.Degree)
	}
	evicted := func(except, also string) func(*scheduler.Instance) bool {
		return func(i *scheduler.Instance) bool { return i.ID == also || chosen[i.ID] && i.ID != except }
	}
	for _, c := range d.Cards {
		if !slices.Contains(q.Cards, c) {
			r.t.Fatalf("%s: card %d is not in the pool", words(d), c)
		}
		if r.roomOn(c, evicted("", "")) < q.Need.On(r.s.Cards[c].Card) {
			r.t.Fatalf("%s: card %d has no room", words(d), c)
		}
	}
	// Which cards are kept for an earlier turn is not known here: then only
	// those chosen count, and another victim may be on one of the others.
	kept := r.keeper != nil
	cards := *q
	if kept {
		cards.Cards = d.Cards
	}
	q = &cards
	for n, id := range d.Victims {
		v := r.instance(id)
		if n > 0 && !r.before(r.instance(d.Victims[n-1]), v) {
			r.t.Fatalf("%s: the victims are not in their order", words(d))
		}
		if r.free(q, evicted(id, "")) >= q.Degree {
			r.t.Fatalf("%s: %s goes for nothing", words(d), id)
		}
		for k := range r.s.Instances {
			if u := &r.s.Instances[k]; !kept && !chosen[u.ID] && r.victim(u) && r.before(u, v) && r.free(q, evicted(id, u.ID)) >= q.Degree {
				r.t.Fatalf("%s: %s goes where %s should", words(d), id, u.ID)
			}
		}
		old := func(i *scheduler.Instance) bool { return r.victim(i) && !r.isYoung(i) }
		if !kept && r.isYoung(v) && r.free(q, old) >= q.Degree {
			r.t.Fatalf("%s: %s is young, and others would do", words(d), id)
		}
	}
	r.takeGates(d)
	for id := range chosen {
		r.gone[id] = true
	}
	for _, c := range d.Cards {
		if q.AlwaysOn {
			r.permanent[c] += q.Need.On(r.s.Cards[c].Card)
		} else {
			r.evictable[c] += q.Need.On(r.s.Cards[c].Card)
		}
	}
	if r.keeper != nil {
		for _, g := range d.Gates {
			r.keeperLost[g] = true
		}
	}
}

// free is how many of the demand's cards have room and a free gate once those
// who match are gone.
func (r *referee) free(q *scheduler.Demand, gone func(*scheduler.Instance) bool) (n int) {
	for _, c := range r.fitting(q, gone) {
		if !r.gates[c] {
			n++
		}
	}
	return n
}

func (r *referee) due(q *scheduler.Demand) bool {
	return r.s.Now.Sub(q.Since) >= r.s.MaxWaitForTurn
}

// drain checks that an instance's turn is over.
func (r *referee) drain(q *scheduler.Demand, d scheduler.Decision) {
	r.t.Helper()
	i := r.instance(d.Instance)
	if r.gone[i.ID] || i.Phase != scheduler.Ready || i.AlwaysOn && !i.Leaving {
		r.t.Fatalf("%s: it is not one to be drained", words(d))
	}
	if !slices.ContainsFunc(i.Cards, func(c int) bool { return slices.Contains(q.Cards, c) }) {
		r.t.Fatalf("%s: it is on none of its cards", words(d))
	}
	if !r.due(q) {
		r.t.Fatalf("%s, which waits for %v only", words(d), r.s.Now.Sub(q.Since))
	}
	if asked := !i.DemandSince.After(q.Since); asked && r.s.Now.Sub(i.ReadySince) < r.s.MaxWaitForTurn && i.ReadySince.After(q.Since) {
		r.t.Fatalf("%s: it was asked for before and has been ready for %v only", words(d), r.s.Now.Sub(i.ReadySince))
	}
}

// verdict checks that a demand was started, or not, for good cause.
func (r *referee) verdict(q *scheduler.Demand, d scheduler.Decision) {
	r.t.Helper()
	// Refused: if and only if there is no room even once all that may go have gone.
	ever := 0
	for _, c := range q.Cards {
		if r.roomOn(c, mayGo)+r.evictable[c] >= q.Need.On(r.s.Cards[c].Card) {
			ever++
		}
	}
	if (d.Kind == scheduler.Refuse) != (ever < q.Degree) {
		r.t.Fatalf("%s, but %d of its cards could have room, and it needs %d", words(d), ever, q.Degree)
	}
	// Started: if nothing is kept for others and there is room now, or would be
	// without the idle.
	if r.keeper == nil {
		now := r.free(q, nobody) >= q.Degree
		wait := len(r.fitting(q, nobody)) >= q.Degree || len(r.fitting(q, stopping)) >= q.Degree // for a gate
		evicting := !wait && r.free(q, r.victim) >= q.Degree
		if (d.Kind == scheduler.Start) != (now || evicting) {
			r.t.Fatalf("%s, but room now: %v, room by eviction: %v", words(d), now, evicting)
		}
		if d.Kind == scheduler.Start && now && len(d.Victims) > 0 {
			r.t.Fatalf("%s although there is room", words(d))
		}
	}
	switch d.Kind {
	case scheduler.Start:
		r.start(q, d)
	case scheduler.Wait:
		if r.keeper == nil && r.due(q) {
			r.keeper = q
		}
	}
}

func checkPlan(t *testing.T, s *scheduler.State) {
	t.Helper()
	before := clone(s)
	plan := scheduler.Decide(s)
	if !reflect.DeepEqual(s, before) {
		t.Fatal("the state was changed")
	}
	if again := scheduler.Decide(clone(s)); !reflect.DeepEqual(again, plan) {
		t.Fatalf("the same state, other decisions:\n%v\n%v", allWords(plan), allWords(again))
	}
	defer func() {
		if t.Failed() {
			t.Logf("plan %q, next %v", allWords(plan), plan.Next.Sub(s.Now))
		}
	}()
	if !plan.Next.IsZero() && !plan.Next.After(s.Now) {
		t.Fatalf("it wants to be asked again %v ago", s.Now.Sub(plan.Next))
	}
	r := &referee{
		t: t, s: s, gates: make([]bool, len(s.Cards)), gone: map[string]bool{},
		evictable: make([]int64, len(s.Cards)), permanent: make([]int64, len(s.Cards)), keeperLost: make([]bool, len(s.Cards)),
	}
	for n, c := range s.Cards {
		r.gates[n] = c.Gate != ""
	}
	rest := plan.Decisions
	for len(rest) > 0 && rest[0].Kind == scheduler.Stop {
		r.stop(rest[0])
		rest = rest[1:]
	}
	for n := range s.Instances {
		if i := &s.Instances[n]; !r.gone[i.ID] && r.shouldStop(i) && r.gatesFree(i.Cards) {
			t.Fatalf("%s should stop", i.ID)
		}
	}
	for n := range s.Demands {
		q := &s.Demands[n]
		for len(rest) > 0 && rest[0].Kind == scheduler.Drain && rest[0].Model == q.Model {
			r.drain(q, rest[0])
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].Model != q.Model {
			t.Fatalf("no decision about %s in its turn", q.Model)
		}
		r.verdict(q, rest[0])
		rest = rest[1:]
	}
	if len(rest) > 0 {
		t.Fatalf("more decisions than demands: %s", words(rest[0]))
	}
	for _, d := range plan.Decisions {
		if d.Reason == "" {
			t.Fatalf("%s without a reason", words(d))
		}
	}
	if q := r.keeper; q != nil {
		left := 0
		for _, c := range q.Cards {
			if !r.keeperLost[c] && r.roomOn(c, mayGo)+r.evictable[c] >= q.Need.On(s.Cards[c].Card) {
				left++
			}
		}
		if left < q.Degree {
			t.Fatalf("%s has waited for its turn, and later ones took its cards", q.Model)
		}
	}
}

func TestDecideProperties(t *testing.T) {
	forStates(t, 8000, checkPlan)
}

// Who comes later changes nothing for those who came before.
func TestLaterDemandsChangeNothing(t *testing.T) {
	forStates(t, 1500, func(t *testing.T, s *scheduler.State) {
		all := allWords(scheduler.Decide(s))
		for n := range s.Demands {
			some := clone(s)
			some.Demands = some.Demands[:n]
			first := allWords(scheduler.Decide(some))
			if len(first) > len(all) || !slices.Equal(first, all[:len(first)]) {
				t.Fatalf("%q with %d demands, %q with all", first, n, all)
			}
		}
	})
}

func FuzzDecide(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed*13)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		s := randomState(rand.New(rand.NewPCG(a, b)))
		defer func() {
			if t.Failed() {
				t.Log(describe(s))
			}
		}()
		checkPlan(t, s)
	})
}
