package vramman

import (
	"errors"
	"testing"
	"time"
)

// This file tests what happens between a request and the owner.

func TestWhoLeftInThatVeryMomentLeaksNoLease(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	l := s.run(g, "a")
	l.Release(s.now)
	i := l.instance
	w := &waiter{result: make(chan acquired, 1)}
	w.over.Store(true) // it left before the owner could answer
	s.tell(acquireEvent{i.model, w})
	if n := i.word.leases(); n != 0 {
		t.Errorf("%d leases leak", n)
	}
}

func TestMaxWaitFollowsAReload(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	m, err := g.Find(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	patient := scriptModel("a", 8)
	patient.MaxWait = time.Hour
	s.load(scriptSpec(patient))
	if got := time.Duration(m.maxWait.Load()); got != time.Hour {
		t.Errorf("max_wait is %v after the reload", got)
	}
}

func TestEachCardOfATensorParallelStartIsConfirmed(t *testing.T) {
	s := newScript(t, 16, 16)
	two := scriptModel("a", 10)
	two.Launch.TensorParallel = 2
	g := s.load(scriptSpec(two))
	s.openAll()
	s.ask(g, "a")
	s.fetchAll()
	s.cards[1].Used = 12 * worldGiB // somebody else, between the plan and the reading
	s.read()
	if len(s.starts) != 0 {
		t.Error("started although the second card has no room any more")
	}
	s.cards[1].Used = 0
	s.after(readInterval)
	s.read()
}

func TestAbortedRequestSaysNothingOfServiceTime(t *testing.T) {
	m, ticket := readyModel(10), new(Ticket)
	began := time.Now()
	for _, aborted := range []bool{false, true} {
		if err := m.Admit(t.Context(), began, ticket); err != nil {
			t.Fatal(err)
		}
		held := 10 * time.Second
		if aborted {
			held = time.Millisecond
			ticket.Unmeasured()
		}
		ticket.Return(began.Add(held))
	}
	if got := m.Queue().Service; got != 10*time.Second {
		t.Errorf("the mean service time is %v", got)
	}
}

func TestFailedLoadLeavesNoExpectedEnd(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	l := s.run(g, "a")
	l.Release(s.now)
	i := l.instance
	i.record.loadTime = time.Hour // so long it took the last time
	s.tell(exitedEvent{i: i})
	s.read()
	s.ask(g, "a")
	s.fetchAll()
	s.read()
	if i.model.readyAt.Load() == 0 {
		t.Fatal("a load with a known length has no expected end")
	}
	s.tell(startedEvent{i: s.starts[len(s.starts)-1], err: errors.New("cannot start")})
	s.after(time.Second)
	s.read()
	if at := i.model.readyAt.Load(); at != 0 {
		t.Errorf("the load has failed, and is still expected to end at %v", time.Unix(0, at))
	}
}
