package footprint

// This file puts measured and estimated parts together.

// Belief is a footprint with what each part was taken from.
type Belief struct {
	Parts
	// Measured are the parts whose bytes were measured; the others are estimates.
	Measured []Part
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
		// What was measured by itself stays; the remainder goes to what was not.
		if !activation {
			b.Activation = 0
		}
		if !graphs {
			b.Graphs = 0
		}
		if !context {
			b.Context = 0
		}
		if more := rest.Bytes - b.Rest(); more > 0 {
			b.Activation = sum(b.Activation, more)
		}
		b.Measured = append(b.Measured, PartRest)
	}
	if r, ok := m.Find(PartKV, p.Signatures.KV); ok && p.KVLeast > p.KV.Null {
		one := p.KVLeast - p.KV.Null // as estimated
		if r.Bytes > one {
			// More than the formula says is believed, less is not: the formula is
			// what vLLM checks.
			b.KVBytes = int64(min(float64(p.KVBytes)*float64(r.Bytes)/float64(one)+1, float64(mostBytes)))
			b.KVLeast = sum(r.Bytes, p.KV.Null)
		}
		b.Measured = append(b.Measured, PartKV)
	}
	return b
}
