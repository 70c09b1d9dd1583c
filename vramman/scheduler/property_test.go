package scheduler_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file holds plans for states made by chance against the referee.

// tally counts what was seen, so that a property is not held by states that never
// put it to the test.
type tally map[string]int

func (c tally) count(d scheduler.Decision) {
	c[d.Kind.String()]++
	for _, v := range d.Victims {
		if c[d.Kind.String()+" with a victim"]++; v.Sleep {
			c["a victim sleeps"]++
		}
	}
	if d.Never {
		c["never"]++
	}
}

func checkPlan(t *testing.T, s *scheduler.State, seen tally) {
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
	r := newReferee(t, s)
	rest := r.end(plan.Decisions)
	yields := len(rest)
	rest = r.yield(rest)
	seen["yields"] += yields - len(rest)
	for _, q := range line(s) {
		r.rooms = nil // as the demand finds them, before it has anybody make way
		for c := range s.Cards {
			r.rooms = append(r.rooms, r.room(c, nothing))
		}
		for len(rest) > 0 && rest[0].Instance != q.Asleep && (rest[0].Kind == scheduler.Drain && rest[0].Model == q.Model || rest[0].Kind == scheduler.Stop) {
			if r.drain(q, rest[0]); rest[0].Kind == scheduler.Stop {
				seen["loses its turn asleep"]++
			}
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].Model != q.Model {
			t.Fatalf("no decision about %s in its turn", q.Model)
		}
		if r.verdict(q, rest[0]); rest[0].Kind == scheduler.Stop {
			seen["is replaced"]++
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		t.Fatalf("more decisions than demands: %s", words(rest[0]))
	}
	for _, d := range plan.Decisions {
		if d.Reason == "" {
			t.Fatalf("%s without a reason", words(d))
		}
		seen.count(d)
	}
}

func TestDecideProperties(t *testing.T) {
	seen := tally{}
	forStates(t, 8000, func(t *testing.T, s *scheduler.State) { checkPlan(t, s, seen) })
	enough := tally{
		"start with a victim": 200, "wake with a victim": 15, "a victim sleeps": 50, "wake": 80, "sleep": 80,
		"never": 200, "drain": 300, "yields": 20, "loses its turn asleep": 5, "is replaced": 30,
	}
	for what, least := range enough {
		if seen[what] < least && !t.Failed() {
			t.Errorf("%s: seen %d times, so little that it proves nothing (%d would do)", what, seen[what], least)
		}
	}
	t.Log(seen)
}

// Who comes later changes nothing for those who came before.
func TestLaterDemandsChangeNothing(t *testing.T) {
	forStates(t, 1500, func(t *testing.T, s *scheduler.State) {
		all, queue := allWords(scheduler.Decide(s)), line(s)
		for n := range queue {
			some := clone(s)
			some.Demands = nil
			for _, q := range queue[:n] {
				some.Demands = append(some.Demands, *q)
			}
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
		checkPlan(t, s, tally{})
	})
}
