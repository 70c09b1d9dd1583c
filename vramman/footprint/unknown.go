package footprint

// This file is about models whose memory cannot be estimated: they are measured
// all the same, and what was measured is found again.

// Unknown is the footprint of a model without an estimate. It has no bytes, but
// the signatures under which its parts are measured, from what identifies the
// model: its repository, file, revision. The same identity and launch give the
// same signatures, and never those of a model that is estimated.
func Unknown(identity []string, l Launch) Parts {
	l = l.defaults()
	return Parts{
		MaxModelLen: l.MaxModelLen, Reserved: l.Reserved, Fixed: l.Fixed,
		Signatures: l.unknown(sign("unknown", append([]string{}, identity...))),
	}
}

// estimated says whether there is an estimate. A model without weights is none.
func (p Parts) estimated() bool { return p.Weights > 0 }

// Remember is what is believed of a model without an estimate: its measurements
// alone. There is nothing to believe unless weights, cache and the rest were all
// measured. The cache is that of one sequence of the longest context, as often
// as is reserved.
func Remember(p Parts, m Measured) (Belief, bool) {
	weights, hasWeights := m.Find(PartWeights, p.Signatures.Weights)
	kv, hasKV := m.Find(PartKV, p.Signatures.KV)
	rest, hasRest := m.Find(PartRest, p.Signatures.Of(PartRest))
	if !hasWeights || !hasKV || !hasRest || weights.Bytes == 0 || kv.Bytes == 0 {
		return Belief{}, false
	}
	b := Belief{Parts: p, Measured: []Part{PartWeights, PartRest, PartKV}, one: kv.Bytes}
	b.Weights = weights.Bytes
	b.Context = min(contextBytes, rest.Bytes) // which part of it that is does not matter
	b.Activation, b.Graphs = rest.Bytes-b.Context, 0
	return b.Reserve(p.Reserved), true
}
