package footprint

// This file guesses what only a run can tell: activation, CUDA graphs and the
// context. The guesses are meant to be high. A measurement replaces them.

const (
	mib = 1 << 20

	// slack is what vLLM itself leaves when it suggests a size for the cache
	// (150 MiB in its vllm/v1/worker/gpu_worker.py).
	slack = 150 * mib
	// leastActivation is below what small models were seen to take.
	leastActivation = 400 * mib
	// batchActivation is a usual peak for a batch of batchTokens.
	batchActivation = 1024 * mib
	batchTokens     = 8192
	// towerActivation is for the profiling of encoders of pictures and sound.
	towerActivation = 512 * mib
	// sampled is the bytes per token of the vocabulary while one sequence's next
	// token is drawn: the logits in 32 bits, sorted, with their places, and
	// their probabilities. vLLM tries this with max_num_seqs at once.
	sampled = 20
	// graphBytes is for CUDA graphs of the default sizes; 0.3 to 0.7 GiB were seen.
	graphBytes = 717 * mib
	// contextBytes is for a process's CUDA context, and commBytes for the buffers
	// of the communication between cards.
	contextBytes = 512 * mib
	commBytes    = 256 * mib
)

// activation is the peak besides weights and cache.
func activation(c Config, l Launch) int64 {
	tokens, cards := int64(l.MaxNumBatchedTokens), int64(l.TensorParallel)
	usual := max(product(batchActivation, tokens)/batchTokens, leastActivation)

	// The stream before and after a layer, and what the widest layer makes of
	// it: gate and up beside one another, and their product. The width within
	// is split over the cards, the stream is not.
	stream := product(tokens, int64(c.Hidden), 2, 3)
	dense := product(tokens, int64(c.Intermediate), 2, 3) / cards
	each := product(tokens, int64(c.ExpertsPerToken), 2)
	experts := sum(product(each, max(product(2, int64(c.ExpertWidth))/cards, int64(c.Hidden))),
		product(each, int64(c.ExpertWidth))/cards)
	if c.Experts == 0 {
		experts = 0
	}
	forward := sum(stream, max(dense, experts))

	sampling := product(int64(l.MaxNumSeqs), int64(c.Vocab), sampled)
	peak := max(usual, forward, sampling)
	if c.Towers && !l.LanguageOnly {
		peak = sum(peak, towerActivation)
	}
	return sum(peak, slack)
}

func graphs(l Launch) int64 {
	if l.EnforceEager {
		return 0
	}
	return graphBytes
}

func cudaContext(l Launch) int64 {
	if l.TensorParallel > 1 {
		return contextBytes + commBytes
	}
	return contextBytes
}
