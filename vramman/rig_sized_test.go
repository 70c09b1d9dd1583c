package vramman

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// rigSized is a server whose footprint can be estimated, and that takes something
// else. It tells what it takes as vLLM does.
type rigSized struct {
	rigServer

	estimate footprint.Parts // on one card; its weights are split over several
	cannot   string          // why it cannot be estimated; empty: it can
	weights  int64           // what it takes
	rest     int64
	perSeq   int64 // of KV cache, for one sequence of the longest context
	asked    *rigAsked
	slow     time.Duration // how long it takes to be estimated
	more     int64         // how much more it says of its cache than it takes
}

// rigAsked is what a sized server was asked and told.
type rigAsked struct {
	mu       sync.Mutex
	settings []server.Setting
	files    server.Files
	places   []server.Place
	degrees  []int
}

func (a *rigAsked) last() server.Place {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.places[len(a.places)-1]
}

// sizedParts is an estimate with so much for each sequence.
func sizedParts(weights, rest, perSeq int64, reserved int) footprint.Parts {
	const tokens = 1024
	p := footprint.Parts{
		Weights: weights, Activation: rest, MaxModelLen: tokens, KVLeast: perSeq,
		KV: footprint.KV{Terms: []footprint.Term{{Bytes: perSeq / (tokens / 16), Block: 16}}},
	}
	return p.Reserve(reserved)
}

func (s rigSized) Size(_ context.Context, m server.Model, f server.Files, settings []server.Setting) (all []server.Sizing) {
	time.Sleep(s.slow)
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	s.asked.settings, s.asked.files = settings, f
	for _, at := range settings {
		p := s.estimate
		p.Fixed = m.ReservedSeqs > 0
		if p.Fixed {
			p = p.Reserve(m.ReservedSeqs)
		}
		p.Weights /= int64(at.Degree)
		sign := func(part string) footprint.Signature {
			return footprint.Signature(fmt.Sprint(part, " ", m.Repo, at.Card, at.Degree))
		}
		p.Signatures = footprint.Signatures{
			Weights: sign("weights"), Activation: sign("activation"), Graphs: sign("graphs"), Context: sign("context"),
			KV: sign(fmt.Sprint("kv ", m.MaxModelLen)),
		}
		var err error
		if s.cannot != "" {
			p = footprint.Parts{Signatures: p.Signatures, MaxModelLen: p.MaxModelLen, Reserved: p.Reserved, Fixed: p.Fixed}
			err = fmt.Errorf("%w, because %s", footprint.ErrCannot, s.cannot)
		}
		all = append(all, server.Sizing{Parts: p, Err: err})
	}
	return all
}

// Args are how the rig's engine learns what the server takes.
func (s rigSized) Args(m server.Model, p server.Place, _ engine.Listen) []string {
	s.asked.mu.Lock()
	defer s.asked.mu.Unlock()
	s.asked.places = append(s.asked.places, p)
	s.asked.degrees = append(s.asked.degrees, m.TensorParallel)
	kv := p.KVBytes
	if kv == 0 {
		kv = max(0, p.Charge-s.weights/int64(m.TensorParallel)-s.rest)
	}
	return []string{"sized", fmt.Sprint(s.weights / int64(m.TensorParallel)), fmt.Sprint(s.rest), fmt.Sprint(kv), fmt.Sprint(s.perSeq)}
}

// Line reads what sizedLines printed.
func (s rigSized) Line(l string) server.Line {
	f := strings.Fields(l)
	if len(f) != 4 || f[0] != "memory" && f[0] != "short" {
		return s.rigServer.Line(l)
	}
	number := func(text string) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	if f[0] == "short" {
		return server.Line{Class: server.ClassKVCache, Why: "one request does not fit", More: number(f[1])}
	}
	return server.Line{Facts: footprint.Facts{
		Weights: number(f[1]), KV: number(f[2]) + s.more, Concurrency: float64(number(f[2])) / float64(number(f[3])),
	}}
}

// sized has an instance behave as its arguments say: it tells what it takes, takes
// it, or ends because a single sequence does not fit. It says whether it lives.
func (i *rigInstance) sized() bool {
	args := i.l.Args(engine.Listen{})
	if len(args) != 5 || args[0] != "sized" {
		return true
	}
	var n [4]int64
	for k := range n {
		n[k], _ = strconv.ParseInt(args[k+1], 10, 64)
	}
	weights, rest, kv, perSeq := n[0], n[1], n[2], n[3]
	i.takes = weights + rest + kv
	if kv < perSeq {
		i.l.Output(fmt.Sprintf("short %d x x", perSeq-kv))
		return false
	}
	i.l.Output(fmt.Sprintf("memory %d %d %d", weights, kv, perSeq))
	return true
}

// sizedModel is a model that declares nothing.
func sizedModel(name string, s rigSized) ModelSpec {
	m := rigModel(name, 0)
	m.Server, m.Launch.Repo = s, "org/"+name
	return m
}

// Interface guard
var _ server.Sizer = rigSized{}
