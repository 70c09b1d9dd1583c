package vramman

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
)

// This file plays sleep event by event.

// napScript is a script on a machine with memory for those who sleep, whose servers
// use what they are charged.
type napScript struct{ *script }

// newNapScript is a gateway with models that can be put to sleep.
func newNapScript(t *testing.T, spec *Spec, totals ...int64) (napScript, *Generation) {
	s := napScript{newScript(t, totals...)}
	for n := range spec.Models {
		spec.Models[n].Server, spec.Models[n].Launch.Sleep = sleepyServer{}, true
	}
	g := s.load(spec)
	s.openAll()
	s.read()
	return s, g
}

// read answers all readings that are under way.
func (s napScript) read() {
	for len(s.reads) == 0 {
		s.o.wantReading()
	}
	for len(s.reads) > 0 {
		e := s.reads[0]
		s.reads = s.reads[1:]
		e.host = host.Memory{Total: 1 << 40, Available: 1 << 40}
		for _, c := range s.cards {
			c.Processes = slices.Clone(c.Processes)
			e.cards = append(e.cards, c)
		}
		s.tell(e)
	}
}

// uses has an instance's server use so many GiB of its only card.
func (s napScript) uses(i *Instance, gib int64) {
	pid := 1000 + slices.Index(s.starts, i)
	i.pids[pid] = true
	for n := range s.cards {
		c := &s.cards[n]
		if c.UUID != i.cards[0] {
			continue
		}
		c.Processes = slices.DeleteFunc(c.Processes, func(p gpu.Process) bool {
			if p.PID == pid {
				c.Used -= p.Used
			}
			return p.PID == pid
		})
		if gib > 0 {
			c.Used += gib * worldGiB
			c.Processes = append(c.Processes, gpu.Process{PID: pid, Used: gib * worldGiB})
		}
	}
}

// up brings a model to ready, with a server that uses so much, and without requests.
func (s napScript) up(g *Generation, name string, gib int64) *Instance {
	s.t.Helper()
	w := s.ask(g, name)
	s.fetchAll()
	s.read()
	i := s.starts[len(s.starts)-1]
	s.script.up(i)
	s.uses(i, gib)
	s.read()
	r, ok := s.result(w)
	if !ok || r.err != nil {
		s.t.Fatalf("%s is not ready: %+v", name, s.o.decisions)
	}
	r.lease.Release(s.now)
	return i
}

// A load ends while its victim falls asleep: the gate is that one's until it sleeps.
func TestWhoFallsAsleepKeepsItsGate(t *testing.T) {
	s, g := newNapScript(t, scriptSpec(scriptModel("a", 12), scriptModel("b", 12), scriptModel("c", 2)), 16)
	a := s.up(g, "a", 12)
	s.after(time.Second)
	s.ask(g, "b")
	s.fetchAll()
	if a.word.state() != StateSleeping {
		t.Fatalf("a is %v", a.word.state())
	}
	for range 3 { // nobody can read the cards
		for _, e := range s.reads {
			s.tell(readEvent{number: e.number, handle: e.handle, err: errors.New("no")})
		}
		s.reads = nil
		s.after(readInterval)
	}
	if a.word.state() != StateSleeping || s.o.gates["GPU-0"] != "sleep a-1" {
		t.Errorf("a is %v, the gate is held by %q", a.word.state(), s.o.gates["GPU-0"])
	}
}
