package vramman

import (
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// This file has stories that worlds told, as scripts: each was a bug.

// A server dies on a card whose gate is held by a start that has been decided and
// not confirmed: it must not start beside memory that is being freed.
func TestNobodyStartsBesideADeath(t *testing.T) {
	s := newScript(t, 32)
	g := s.load(scriptSpec(scriptModel("a", 8), scriptModel("b", 8)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	i := s.starts[0]
	i.pids[7] = true
	s.cards[0].Used, s.cards[0].Processes = 8*worldGiB, []gpu.Process{{PID: 7, Used: 8 * worldGiB}}
	s.ask(g, "b")
	s.fetchAll() // granted; the reading that confirms it is under way
	s.tell(exitedEvent{i: i})
	s.read()
	if len(s.starts) == 2 {
		t.Errorf("b starts while %s (%v) still frees its memory on the card", i.id, i.word.state())
	}
	s.cards[0].Used, s.cards[0].Processes = 0, nil
	s.after(releaseInterval)
	s.read()
	s.read()
	if len(s.starts) != 2 {
		t.Errorf("b does not start once the memory is free: %+v", s.o.decisions)
	}
}

// A plan changes what the demands before its last decision would choose: what
// that leaves free is used at once, not at the next event.
func TestPlanLeavesNothingToDo(t *testing.T) {
	s := newScript(t, 10, 10, 10)
	e := scriptModel("e", 6)
	e.Launch.TensorParallel = 2
	g := s.load(scriptSpec(scriptModel("f", 10), scriptModel("v", 10), scriptModel("p", 4), e, scriptModel("y", 4), scriptModel("w", 4)))
	s.openAll()
	s.run(g, "f").Release(s.now)
	v := s.run(g, "v") // on the second card, and busy
	s.tell(exitedEvent{i: s.starts[0]})
	s.read() // the first is free again
	s.ask(g, "p")
	s.fetchAll()
	s.read() // starts there, and holds the gate
	s.ask(g, "e")
	s.fetchAll() // waits for that gate, with the third card in mind
	s.after(3 * time.Minute)
	s.ask(g, "y")
	s.ask(g, "w")
	s.fetchAll() // both wait: two cards are kept for e, and v is busy
	v.Release(s.now)
	s.tell(wakeEvent{}) // y takes v's place, and leaves room for e on that card
	if s.o.loadOf(s.o.record("y").current) == nil {
		t.Fatalf("y does not start: %+v", s.o.decisions)
	}
	if s.o.loadOf(s.o.record("w").current) == nil {
		t.Errorf("the third card is kept for nobody, and w waits: %s", s.o.record("w").waiting)
	}
}

// While another inventory opens, no card is known, and yet their gates are held.
func TestGatesAreHeldWhileAnotherInventoryOpens(t *testing.T) {
	s := newScript(t, 32)
	a := scriptModel("a", 8)
	a.IdleTimeout = time.Minute
	spec := scriptSpec(a, scriptModel("b", 8))
	g := s.load(spec)
	s.openAll()
	s.run(g, "a").Release(s.now)
	s.ask(g, "b")
	s.fetchAll()
	s.read() // starts, and holds the gate
	next := *spec
	next.GPUs = gpuKey("g2")
	s.load(&next)
	s.after(2 * time.Minute)
	if len(s.starts) != 2 || len(s.stops) > 0 {
		t.Errorf("%s stops beside a start; gates %v", s.stops[0].id, s.o.gates)
	}
}
