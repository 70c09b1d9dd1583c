package footprint

// This file puts measured and estimated parts together.

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// Belief is a footprint with what each part was taken from.
type Belief struct {
	Parts
	// Measured are the parts that were measured; the others are estimates.
	Measured []Part

	// one is what one sequence of the longest context was seen to take in the
	// cache, where that replaces the formula; 0: the formula holds.
	one int64
}

// Believe replaces the estimate of each part by its measurement under the same
// signature. Where activation, graphs and context were measured together, the
// sum is that measurement unless single ones come to more. The measured size
// of one sequence scales the cache.
func Believe(p Parts, m Measured) Belief {
	b := Belief{Parts: p}
	take := func(part Part, bytes *int64) bool {
		r, ok := m.Find(part, p.Signatures.Of(part))
		if ok {
			*bytes = r.Bytes
			b.Measured = append(b.Measured, part)
		}
		return ok
	}
	take(PartWeights, &b.Weights)
	activation := take(PartActivation, &b.Activation)
	graphs := take(PartGraphs, &b.Graphs)
	context := take(PartContext, &b.Context)
	if rest, ok := m.Find(PartRest, p.Signatures.Of(PartRest)); ok {
		b.spread(rest.Bytes, activation, graphs, context)
		b.Measured = append(b.Measured, PartRest)
	}
	if r, ok := m.Find(PartKV, p.Signatures.KV); ok && len(p.KV.Terms) > 0 {
		// More than the formula says is believed, less is not: the formula is
		// what vLLM checks. A hundredth more is how its log rounds.
		if formula := p.KV.Sequence(p.MaxModelLen); r.Bytes-formula > formula/100 {
			b.one = r.Bytes
			b = b.Reserve(b.Reserved)
		}
		b.Measured = append(b.Measured, PartKV)
	}
	return b
}

// spread shares the measured sum of activation, graphs and context out. What
// was measured by itself stays; of the remainder the context and the graphs
// have what is estimated, and the activation what is left.
func (b *Belief) spread(rest int64, activation, graphs, context bool) {
	left := rest
	for _, part := range []struct {
		bytes *int64
		known bool
	}{{&b.Activation, activation}, {&b.Graphs, graphs}, {&b.Context, context}} {
		if part.known {
			left -= *part.bytes
		}
	}
	left = max(left, 0)
	for _, part := range []struct {
		bytes *int64
		known bool
	}{{&b.Context, context}, {&b.Graphs, graphs}} {
		if !part.known {
			*part.bytes = min(*part.bytes, left)
			left -= *part.bytes
		}
	}
	if activation {
		b.Activation = sum(b.Activation, left) // more than all single ones together
	} else {
		b.Activation = left
	}
}

// Has says whether a part was measured.
func (b Belief) Has(p Part) bool { return slices.Contains(b.Measured, p) }

// Reserve is the footprint with room in the cache for n sequences of the
// longest context, at least one.
func (p Parts) Reserve(n int) Parts {
	p.Reserved = max(n, 1)
	p.KVBytes = max(p.KV.Pool(p.MaxModelLen, p.Reserved), p.KVLeast)
	return p
}

// Reserve is like that of the parts, with the size that sequences were seen to
// have.
func (b Belief) Reserve(n int) Belief {
	if b.one == 0 {
		b.Parts = b.Parts.Reserve(n)
		return b
	}
	formula := b.KV.Sequence(b.MaxModelLen)
	if formula == 0 { // it was measured and nothing else is known
		b.Reserved = max(n, 1)
		b.KVBytes, b.KVLeast = product(b.one, int64(b.Reserved)), b.one
		return b
	}
	b.KVLeast = 0
	b.Parts = b.Parts.Reserve(n)
	scaled := float64(b.KVBytes) * (float64(b.one) / float64(formula))
	b.KVBytes = int64(min(scaled, float64(mostBytes))) + 1
	b.KVLeast = sum(b.one, b.KV.Null)
	b.KVBytes = max(b.KVBytes, b.KVLeast)
	return b
}

// Fit is the footprint made to fit into so many bytes on each card, if it can
// be: unless its reservation was asked for, that is lowered as far as needed
// and no further, to one sequence at least. Where it cannot, false comes with
// the least that it takes.
func (b Belief) Fit(most int64) (Belief, bool) {
	if b.Total() <= most {
		return b, true
	}
	if b.Fixed || b.Reserved <= 1 {
		return b, false
	}
	fit := sort.Search(b.Reserved-1, func(i int) bool { return b.Reserve(i+1).Total() > most })
	return b.Reserve(max(fit, 1)), fit > 0
}

// String is the footprint in words, with where each part is taken from: for
// logs, refusals and plans.
func (b Belief) String() string {
	source := func(part Part) string {
		if slices.Contains(b.Measured, part) {
			return "measured"
		}
		return "estimated"
	}
	words := []string{fmt.Sprintf("weights %s (%s)", gib(b.Weights), source(PartWeights))}
	cache := "formula"
	if b.one > 0 {
		cache = "measured"
	}
	if b.KVBytes > 0 {
		length := fmt.Sprintf("%d tokens", b.MaxModelLen)
		if b.MaxModelLen == 0 {
			length = "the server's own length"
		}
		words = append(words, fmt.Sprintf("kv cache %s for %d x %s (%s)", gib(b.KVBytes), b.Reserved, length, cache))
	}
	if slices.Contains(b.Measured, PartRest) {
		words = append(words, fmt.Sprintf("activation, graphs and context %s (measured)", gib(b.Rest())))
		return strings.Join(words, ", ")
	}
	for _, part := range []struct {
		name  Part
		bytes int64
	}{{PartActivation, b.Activation}, {PartGraphs, b.Graphs}, {PartContext, b.Context}} {
		words = append(words, fmt.Sprintf("%s %s (%s)", part.name, gib(part.bytes), source(part.name)))
	}
	return strings.Join(words, ", ")
}
