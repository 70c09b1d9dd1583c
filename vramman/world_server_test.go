package vramman

import (
	"errors"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about the servers of a world: how they start, fail and die, and
// what memory they take.

func stageLine(s server.Stage) server.Line { return server.Line{Stage: s} }

// startFailures are the ways in which a server tells that its start fails. One
// that says nothing just ends.
var startFailures = []server.Line{
	{Class: server.ClassMemory, Why: "too little VRAM was free"},
	{Class: server.ClassMemory, Why: "too little VRAM was free", More: worldGiB},
	{Class: server.ClassRace, Why: "a neighbour changed the card"},
	{Class: server.ClassKVCache, Why: "the KV cache does not hold one request", More: worldGiB / 2},
	{Class: server.ClassConfig, Why: "it refuses its configuration"},
	{Class: server.ClassExited, Why: "it ended"},
	{},
}

// start is the engine's start of a server. The longest that one takes is
// worldStart.
func (w *world) start(i *Instance) {
	w.checkStart(i)
	w.later(w.delay("start", i.id, w.life, 10*time.Millisecond, 500*time.Millisecond), func() {
		l := w.luck("start", i.id, w.life)
		late := w.abandoned[i] && l.intN(2) == 0 // the start was not given up in time
		if w.abandoned[i] && !late || w.daemonDown() || w.fault("the engine cannot start it", i.id, w.life, 25) {
			w.leavesStray(i)
			w.tell(startedEvent{i: i, err: errors.New("cannot start")})
			return
		}
		w.pids++
		p := &process{pid: w.pids, i: i, life: w.life, used: make(map[string]int64), seen: make(map[string]int64), last: make(map[string]int64)}
		p.running = &worldRunning{done: make(chan struct{})}
		p.misread = w.misreadingOf(i)
		w.processes = append(w.processes, p)
		w.started[i], w.byPID[p.pid] = p, p
		var pids []int
		if !w.fault("its processes are not found", i.id, w.life, 12) {
			pids = p.tellOf(p.all())
		}
		w.tell(startedEvent{i: i, run: started{running: p.running, pids: pids}})
		w.loads(p)
	})
}

// worldStart is how long a start takes in a world without faults, from the
// owner's word until the server answers.
const worldStart = 62 * time.Second

// loads is the life of a server that has started.
func (w *world) loads(p *process) {
	i, id := p.i, p.i.id
	w.mayDie(p)
	if w.fault("its start fails", id, p.life, 10) {
		l := w.luck("how its start fails", id, p.life)
		line := startFailures[l.intN(len(startFailures))]
		w.later(l.between(time.Second/2, 20*time.Second), func() { w.fails(p, line) })
		return
	}
	if w.fault("it is never ready", id, p.life, 40) {
		return
	}
	w.later(w.delay("first memory", id, p.life, 100*time.Millisecond, 900*time.Millisecond), func() {
		if p.ended {
			return
		}
		w.pids++
		p.worker, w.byPID[w.pids] = w.pids, p
		if isSized(i) && w.holdsWeights(p) || !isSized(i) && w.occupy(p, func(need int64) int64 { return need / 2 }) {
			w.tell(lineEvent{i, stageLine("loading weights")})
		}
	})
	ready := w.delay("load", id, p.life, time.Second, 60*time.Second)
	w.later(ready, func() {
		if p.ended {
			return
		}
		over := int64(0)
		if w.fault("it takes more than it may", id, p.life, 20) {
			over = 1 << 30
		}
		l := w.luck("memory", id, p.life)
		less := int64(l.intN(64)) << 20
		if isSized(i) && !w.holdsAll(p, over) || !isSized(i) && !w.occupy(p, func(need int64) int64 { return max(need/2, need-less) + over }) {
			return
		}
		// Whether it has died since is known to another worker.
		w.later(w.delay("ready is told", id, p.life, 0, 20*time.Millisecond), func() { w.tell(readyEvent{i}) })
	})
}

// occupy has a server take memory on all its cards. Where there is not enough,
// it fails.
func (w *world) occupy(p *process, size func(need int64) int64) bool {
	for n, c := range p.i.cards {
		want, free := size(p.i.need[n]), w.free(c, p)
		if want > free {
			w.must(!w.calm || w.sight != seen, 1, "%s wants %v on %s, and %v are free there", p.i.id, ledger.Size(want), c, ledger.Size(free))
			w.fails(p, startFailures[0])
			return false
		}
	}
	for n, c := range p.i.cards {
		p.used[c] = size(p.i.need[n])
	}
	return true
}

// fails has a server say why it cannot go on, and end.
func (w *world) fails(p *process, line server.Line) {
	if p.ended {
		return
	}
	w.note("%s's server cannot start: %s", p.i.id, line.Why)
	if line.Class != server.ClassNone {
		w.tell(lineEvent{p.i, line})
	}
	w.end(p, engine.Exit{Code: 1})
}

// mayDie has some servers die, at whatever point they are.
func (w *world) mayDie(p *process) {
	if !w.fault("dies", p.i.id, p.life, 8) {
		return
	}
	l := w.luck("when it dies", p.i.id, p.life)
	most := []time.Duration{time.Minute, 10 * time.Minute}[l.intN(2)]
	w.after(l.between(0, most), func() { w.dies(p) })
}

func (w *world) dies(p *process) {
	if p.ended {
		return
	}
	when := "while it is " + p.i.word.state().String()
	w.note("%s's server dies %s", p.i.id, when)
	w.saw("died " + when)
	w.ends(p, engine.Exit{Code: -1, Signal: "killed"}, w.diesSilently(p))
}

// mayDieSoon has some servers die in a state that lasts a short time or comes
// seldom.
func (w *world) mayDieSoon(i *Instance, s State, in int, most time.Duration) {
	if p := w.started[i]; p != nil && w.fault("dies "+s.String(), i.id, w.life, in) {
		w.after(w.chanceBetween("when it dies "+s.String(), i.id, w.life, 0, most), func() { w.dies(p) })
	}
}
