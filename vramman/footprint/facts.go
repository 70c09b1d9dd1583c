package footprint

// This file owns what a server itself tells of its memory.

// Facts are figures that a server logs while it starts, on each of its cards.
// A zero is a figure that was not told. Bytes, tokens.
type Facts struct {
	Weights     int64
	KV          int64   // the whole KV cache
	Graphs      int64   // CUDA graphs
	Tokens      int64   // that the KV cache holds
	MaxModelLen int64   // of the longest context
	Concurrency float64 // how many sequences of the longest context the KV cache holds
}

// Join takes over what a later line tells. Of figures that several workers
// tell, the larger counts, but for what the cache holds, where it is the smaller.
func (f Facts) Join(later Facts) Facts {
	least := func(a, b int64) int64 {
		if a == 0 || b > 0 && b < a {
			return b
		}
		return a
	}
	f.Weights = max(f.Weights, later.Weights)
	f.Graphs = max(f.Graphs, later.Graphs)
	f.KV = least(f.KV, later.KV)
	f.Tokens = least(f.Tokens, later.Tokens)
	f.MaxModelLen = max(f.MaxModelLen, later.MaxModelLen)
	if f.Concurrency == 0 || later.Concurrency > 0 && later.Concurrency < f.Concurrency {
		f.Concurrency = later.Concurrency
	}
	return f
}
