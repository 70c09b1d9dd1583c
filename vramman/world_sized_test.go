package vramman

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about servers whose footprint can be estimated: what is estimated
// of them, what they really take, and what they tell of it.

// canSize and canSleep are what a server may be able to do beside serving.
type (
	canSize  struct{}
	canSleep struct{}
)

func (canSize) Size(context.Context, server.Model, server.Files, []server.Setting) []server.Sizing {
	return nil // the world answers
}
func (canSleep) SleepRequest() *http.Request { return nil }
func (canSleep) WakeRequest() *http.Request  { return nil }

// The servers of a world that are more than a noServer.
type (
	sizedServer struct {
		noServer
		canSize
	}
	sleepyServer struct {
		noServer
		canSleep
	}
	sizedSleepyServer struct {
		noServer
		canSize
		canSleep
	}
)

func (sizedServer) Key() string       { return "sized" }
func (sleepyServer) Key() string      { return "sleepy" }
func (sizedSleepyServer) Key() string { return "sized and sleepy" }

// worldTokens is the longest context of every model of a world.
const worldTokens = 1024

// truth is what a server really takes of each of its cards.
type truth struct{ weights, rest, perSeq int64 }

// truthOf is what a model's server takes when it runs on so many cards.
func (w *world) truthOf(m *ModelSpec, degree int) truth {
	l := w.luck("what it takes", m.Name, 0)
	weights, rest := (0.05+1.1*l.float()*l.float())*float64(w.smallest()), worldGiB/4+l.float()*worldGiB
	k := w.luck("its context", m.Name, m.Launch.MaxModelLen)
	perSeq := int64(1+k.intN(32)) << 25
	return truth{int64(weights) / int64(degree), int64(rest), perSeq / int64(degree)}
}

// smallest is the size of the world's smallest card.
func (w *world) smallest() int64 {
	least := w.cards[0].total()
	for _, c := range w.cards {
		least = min(least, c.total())
	}
	return least
}

// guess is how far an estimate is from the truth.
type guess int

const (
	guessRight guess = iota
	restHigh
	contextHigh
	restLow // from here on too little, at first
	contextLow
	weightsLow
	noGuess
)

func (w *world) guessOf(name string) guess {
	l := w.luck("how it is estimated", name, 0)
	g := [...]guess{guessRight, guessRight, restHigh, contextHigh, restLow, contextLow, weightsLow, noGuess}[l.intN(8)]
	if w.calm && g >= restLow && g < noGuess {
		return guessRight
	}
	return g
}

// sizing is what is estimated of a model in one setting.
func (w *world) sizing(m *ModelSpec, at server.Setting, today bool) server.Sizing {
	t, g := w.truthOf(m, at.Degree), w.guessOf(m.Name)
	switch g {
	case restHigh:
		t.rest *= 3
	case contextHigh:
		t.perSeq *= 2
	case restLow:
		t.rest /= 2
	case contextLow:
		t.perSeq /= 2
	case weightsLow:
		t.weights = t.weights * 3 / 4
	}
	reserved := 3
	if m.Launch.ReservedSeqs > 0 {
		reserved = m.Launch.ReservedSeqs
	}
	sized := server.Sizing{Parts: sizedParts(t.weights, t.rest, t.perSeq, reserved)}
	if g == noGuess || !today {
		sized = server.Sizing{Parts: footprint.Parts{MaxModelLen: worldTokens, Reserved: reserved}, Err: fmt.Errorf("%w, because the world says so", footprint.ErrCannot)}
	}
	sized.Fixed = m.Launch.ReservedSeqs > 0
	sized.Signatures = signaturesOf(m, at)
	return sized
}

// signaturesOf is what a model's measurements stand under.
func signaturesOf(m *ModelSpec, at server.Setting) footprint.Signatures {
	sign := func(part string, more any) footprint.Signature {
		return footprint.Signature(fmt.Sprint(part, " ", m.Name, " ", at.Card.Name, " ", at.Degree, " ", more))
	}
	return footprint.Signatures{
		Weights: sign("weights", 0), Activation: sign("activation", 0), Graphs: sign("graphs", 0), Context: sign("context", m.Launch.Sleep),
		KV: sign("kv", m.Launch.MaxModelLen),
	}
}

// size works out what a model takes, after a while.
func (w *world) size(r *record, _ *engineHandle, in []server.Setting) {
	_, can := r.spec.Server.(server.Sizer)
	w.must(can, 9, "%s is to be sized, and cannot be", r.model.name)
	w.must(w.storeTold || w.owner.spec.Store == nil, 2, "%s is sized before it is known what was measured", r.model.name)
	name := r.model.name
	w.asked[name]++
	n := w.asked[name]
	today := !w.fault("it cannot be estimated today", name, n, 15)
	e := sizedEvent{record: r, hash: r.hash, settings: in}
	for _, at := range in {
		e.sizes = append(e.sizes, w.sizing(r.spec, at, today))
	}
	d := w.delay("sizing", name, n, 0, time.Second)
	if w.happens("slow sizing", name, n, 20) {
		d *= 25
	}
	w.saw("sized")
	w.later(d, func() { w.tell(e) })
}

// isSized says whether an instance's server can be sized.
func isSized(i *Instance) bool {
	_, ok := i.spec.Server.(server.Sizer)
	return ok
}

// takes is what an instance's server that can be sized uses of each card once it is
// ready, and what it tells of that; or the line with which it gives up.
func (w *world) takes(i *Instance) (used int64, facts footprint.Facts, gives server.Line) {
	t, kv := w.truthOf(i.spec, len(i.cards)), i.footing.kv
	if kv == 0 { // it takes what it may
		kv = i.share - t.weights - t.rest
	}
	if more := t.perSeq - kv; more > 0 {
		w.saw("a KV cache too small")
		return 0, facts, server.Line{Class: server.ClassKVCache, Why: "the KV cache does not hold one request", More: inHundredths(more)}
	}
	facts = footprint.Facts{Weights: inHundredths(t.weights), KV: inHundredths(kv), Concurrency: float64(kv) / float64(t.perSeq)}
	return t.weights + t.rest + kv, facts, server.Line{}
}

// inHundredths is a size as a server's log tells it.
func inHundredths(bytes int64) int64 { return bytes / logRounding * logRounding }

// holdsWeights has a server that can be sized load its weights. False means that it
// gives up.
func (w *world) holdsWeights(p *process) bool {
	t := w.truthOf(p.i.spec, len(p.i.cards))
	if w.calm && t.weights+t.rest > p.i.share { // it was declared too small
		w.fails(p, server.Line{Class: server.ClassMemory, Why: "too little VRAM is left to it"})
		return false
	}
	return w.occupy(p, func(int64) int64 { return t.weights })
}

// holdsAll has a server that can be sized take what it needs to serve, and tell of
// it. False means that it gives up.
func (w *world) holdsAll(p *process, over int64) bool {
	used, facts, gives := w.takes(p.i)
	if gives.Class != server.ClassNone {
		w.fails(p, gives)
		return false
	}
	if !w.occupy(p, func(int64) int64 { return used + over }) {
		return false
	}
	switch {
	case w.happens("it tells nothing of its memory", p.i.id, p.life, 8):
		facts = footprint.Facts{}
	case w.lies && w.fault("it tells something wrong of its memory", p.i.id, p.life, 8):
		facts.Weights = facts.Weights / 2 * 3
	}
	if facts != (footprint.Facts{}) {
		w.tell(lineEvent{p.i, server.Line{Facts: facts}})
	}
	return true
}

// mayGrow has a server take more when it serves its first request.
func (w *world) mayGrow(i *Instance) {
	p := w.started[i]
	if p == nil || p.ended || p.grown || p.asleep || p.used == nil || !w.fault("a batch takes more", i.id, w.life, 6) {
		return
	}
	p.grown = true
	l := w.luck("how much more a batch takes", i.id, w.life)
	more := int64(l.intN(1024)) << 20
	for _, c := range i.cards {
		if p.used[c]+more > w.free(c, p) {
			w.dies(p) // out of memory
			return
		}
	}
	w.saw("grew while it served")
	w.note("%s takes %d MiB more", i.id, more>>20)
	for _, c := range i.cards {
		p.used[c] += more
	}
}

// cardOf is a card as footprints depend on it.
func (c *worldCard) cardOf() server.Card {
	return kindOf(&gpu.Card{Name: c.kind.name, Total: c.total()})
}

// Interface guards
var (
	_ server.Sizer   = sizedSleepyServer{}
	_ server.Sleeper = sizedSleepyServer{}
)
