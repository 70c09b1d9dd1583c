package vramman

import (
	"errors"
	"testing"
	"time"
)

// This file tests what is not begun: without figures, and for nobody.

func TestNobodyIsEvictedWhileTheCardsCannotBeRead(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 16), scriptModel("b", 16)))
	s.openAll()
	s.run(g, "a").Release(s.now)

	fail := func() {
		e := s.reads[0]
		s.reads = s.reads[1:]
		e.err = errors.New("the driver has gone")
		s.tell(e)
	}
	s.after(readInterval)
	fail()
	b := s.ask(g, "b")
	s.fetchAll()
	for range 12 { // for longer than one failed reading may be forgiven
		s.after(retryReading)
		fail()
	}
	if len(s.stops) != 0 {
		t.Errorf("%d instances are stopped, though nothing can be seen to become free", len(s.stops))
	}
	select {
	case r := <-b.result:
		wantCode(t, r.err, CodeNoEngine)
	default:
		t.Error("who waits is not told")
	}
	s.after(retryReading)
	s.read()
	s.ask(g, "b")
	s.fetchAll()
	if len(s.stops) != 1 {
		t.Errorf("%d instances are stopped once the cards can be read again", len(s.stops))
	}
}

func TestFetchGoesOnForNobodyAndNothingIsStarted(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	m, err := g.Find(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	w := &waiter{result: make(chan acquired, 1)}
	s.tell(acquireEvent{m, w})
	w.over.Store(true)
	s.tell(leftEvent{m, w})
	if len(s.fetches) != 1 || len(s.ab) != 0 {
		t.Fatalf("%d fetches, %d given up", len(s.fetches), len(s.ab))
	}
	s.tell(fetchedEvent{i: s.fetches[0]})
	s.after(time.Minute)
	if len(s.starts) != 0 || len(s.o.instances) != 0 {
		t.Errorf("%d starts, %d instances for nobody", len(s.starts), len(s.o.instances))
	}
}
