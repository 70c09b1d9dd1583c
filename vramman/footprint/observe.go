package footprint

// This file turns what was seen of a running instance into measurements.

import "time"

// Observation is what was seen of an instance.
type Observation struct {
	// Used is what it held on the card where it held most, in bytes, by the
	// driver's count; 0: not known.
	Used int64
	// Facts are what its server logged.
	Facts Facts
	// Idle says that it has served nothing yet: the working memory of a batch is
	// not in Used.
	Idle bool
}

// Records are the measurements of an observation, to be added to what is
// measured already; again whenever Used grows. The name of the model is for
// people.
//
// The server's own figures split what the driver counts: the weights are its
// word, and activation, graphs and context are the driver's figure less weights
// and cache. What is not known, or contradicts something else, gives no record.
func (p Parts) Records(model string, o Observation, seen time.Time) []Record {
	if p.Signatures == (Signatures{}) {
		return nil
	}
	var records []Record
	add := func(part Part, bytes int64) {
		r := Record{Part: part, Signature: p.Signatures.Of(part), Bytes: bytes, Model: model, Seen: max(seen.Unix(), 0), Count: 1}
		if r.check() == nil {
			records = append(records, r)
		}
	}
	f := o.Facts
	cacheless := p.estimated() && len(p.KV.Terms) == 0
	if cacheless {
		f.KV = 0
	}
	rest := int64(-1) // not known
	if o.Used > 0 && f.Weights > 0 && (f.KV > 0 || cacheless) {
		if rest = o.Used - sum(f.Weights, f.KV); rest < 0 {
			// The server saw a neighbour's memory as its own, or is asleep.
			f.Weights = 0
		}
	}
	if f.Weights > 0 {
		add(PartWeights, f.Weights)
	}
	if f.KV > 0 && f.Concurrency >= leastConcurrency && (p.MaxModelLen == 0 || f.MaxModelLen == 0 || f.MaxModelLen == int64(p.MaxModelLen)) {
		// vLLM's own figure: how often its max_memory_usage_bytes is in the cache.
		add(PartKV, int64(float64(f.KV)/f.Concurrency))
	}
	if f.Graphs > 0 && (rest < 0 || f.Graphs <= rest) {
		add(PartGraphs, f.Graphs)
	}
	if rest >= 0 && !(o.Idle && rest < p.Rest()) {
		add(PartRest, rest)
	}
	return records
}

// leastConcurrency is below what a server starts with: its cache holds one
// sequence at least, up to how the log rounds.
const leastConcurrency = 0.99
