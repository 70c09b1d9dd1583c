package footprint

// This file puts an estimate together.

import (
	"cmp"
	"fmt"
	"strings"
)

// Launch is how a model is served, as far as its memory depends on it. Names
// are those of vLLM's flags.
type Launch struct {
	TensorParallel int // cards; 0 and 1 are one
	MaxModelLen    int // tokens of the longest context; must be known
	// MaxNumSeqs and MaxNumBatchedTokens bound a batch; 0 is vLLM's default,
	// which follows from CardTotal.
	MaxNumSeqs          int
	MaxNumBatchedTokens int
	// Reserved is for how many sequences of MaxModelLen the cache is to have
	// room at once; 0: MaxNumSeqs where it is said, else [DefaultReserved].
	Reserved int
	Fixed    bool // the reservation was asked for: it is kept or the model does not run

	DType          string // empty and "auto": the model's
	KVCacheDType   string // empty and "auto": the model's
	Quantization   string // a method that the checkpoint does not come with; empty: none
	BlockSize      int    // tokens; 0: the kernels' own
	MambaCacheMode string // "none", "align", "all"; empty: as with a prefix cache, "align"
	EnforceEager   bool   // no CUDA graphs
	SyncScheduling bool   // --no-async-scheduling
	WholeWindows   bool   // --disable-hybrid-kv-cache-manager
	LanguageOnly   bool   // --language-model-only: towers are not loaded
	Drafter        bool   // speculative decoding, which cannot be estimated
	LoRA           bool   // adapters, which cannot be estimated
	Sleep          bool   // --enable-sleep-mode: another allocator
	// Other is all else that may change what is measured, in a stable order:
	// further arguments, variables of the environment. Nothing secret.
	Other []string

	CardTotal int64  // bytes of the smallest card; 0: not known, and taken for a small one
	Card      string // its name, as in "NVIDIA H200": what is measured counts for such cards
	Server    string // the server's version or image digest: what is measured counts for it alone
}

// DefaultReserved is for how many sequences of the longest context the cache is
// to have room where nobody says. vLLM's own 256 or more of full length fit on
// no card; the cache is shared, so with room for 8 full ones it holds many more
// usual ones at once.
const DefaultReserved = 8

// complete refuses what cannot be estimated, and fills in the defaults.
func (l Launch) complete() (Launch, error) {
	l.TensorParallel = max(l.TensorParallel, 1)
	for _, bound := range []struct {
		name        string
		value, most int
	}{
		{"tensor_parallel", l.TensorParallel, 1024},
		{"max_model_len", l.MaxModelLen, maxTokens},
		{"max_num_seqs", l.MaxNumSeqs, maxTokens},
		{"max_num_batched_tokens", l.MaxNumBatchedTokens, maxTokens},
		{"the number of reserved sequences", l.Reserved, maxTokens},
		{"block_size", l.BlockSize, 1 << 16},
	} {
		if bound.value < 0 || bound.value > bound.most {
			return l, cannot("%s is %d, not within 0 and %d", bound.name, bound.value, bound.most)
		}
	}
	switch {
	case l.MaxModelLen == 0:
		return l, cannot("the length of the context is not known: set max_model_len")
	case l.Drafter:
		return l, cannot("what speculative decoding takes is not known: declare vram")
	case l.LoRA:
		return l, cannot("what adapters take is not known: declare vram")
	}
	switch l.MambaCacheMode {
	case "", "none", "align", "all":
	default:
		return l, cannot("mamba_cache_mode is %q", l.MambaCacheMode)
	}
	return l.defaults(), nil
}

// defaults fills in vLLM's defaults (get_batch_defaults and
// _set_default_max_num_seqs_and_batched_tokens_args in its
// vllm/engine/arg_utils.py) and the reservation.
func (l Launch) defaults() Launch {
	l.TensorParallel = max(l.TensorParallel, 1)
	if l.Reserved == 0 {
		l.Reserved = cmp.Or(l.MaxNumSeqs, DefaultReserved)
	}
	tokens, seqs := batchDefaults(l.CardTotal, l.Card)
	if l.MaxNumBatchedTokens == 0 {
		l.MaxNumBatchedTokens = tokens
		if l.MaxNumSeqs > 0 && l.MaxModelLen > 0 {
			l.MaxNumBatchedTokens = int(min(product(int64(l.MaxNumSeqs), int64(l.MaxModelLen)), int64(tokens)))
		}
	}
	if l.MaxNumSeqs == 0 {
		l.MaxNumSeqs = min(seqs, l.MaxNumBatchedTokens)
	}
	return l
}

// batchDefaults are the bounds of a batch that vLLM's API server takes on a
// card of so many bytes.
func batchDefaults(total int64, card string) (tokens, seqs int) {
	const gib = 1 << 30
	switch {
	case total >= 160*gib:
		return 16384, 1024
	case total >= 70*gib && !strings.Contains(strings.ToLower(card), "a100"):
		return 8192, 1024
	}
	return 2048, 256
}

// Parts is a footprint: what one instance takes on each of its cards, in bytes.
type Parts struct {
	Weights    int64
	Activation int64 // the peak while a batch runs, with what vLLM itself sets aside
	Graphs     int64 // CUDA graphs
	Context    int64 // CUDA context and the libraries' own buffers; vLLM does not count it

	KV          KV    // the cache's formula
	KVBytes     int64 // KV for Reserved sequences of MaxModelLen tokens
	KVLeast     int64 // KV for one: with less vLLM does not start
	MaxModelLen int   // tokens
	Reserved    int   // sequences
	Fixed       bool  // the reservation was asked for, and is not to be made smaller

	Signatures Signatures
}

// Rest is all that is neither weights nor KV cache.
func (p Parts) Rest() int64 { return sum(p.Activation, p.Graphs, p.Context) }

// Total is what the instance is charged on each of its cards.
func (p Parts) Total() int64 { return sum(p.Weights, p.Rest(), p.KVBytes) }

// mostBytes is more than any card has. An estimate beyond it comes from a
// mistake in what was read.
const mostBytes = 1 << 44

// Estimate computes the parts for a model with these weights, launched so. The
// error wraps [ErrCannot].
func Estimate(c Config, w Weights, l Launch) (Parts, error) {
	l, err := l.complete()
	if err != nil {
		return Parts{}, err
	}
	if err := w.agree(c); err != nil {
		return Parts{}, cannot("%w", err)
	}
	kv, err := c.cache(l)
	if err != nil {
		return Parts{}, cannot("%w", err)
	}
	p := Parts{KV: kv, MaxModelLen: l.MaxModelLen, Fixed: l.Fixed}
	if p.Weights, err = w.PerCard(c, l); err != nil {
		return Parts{}, err
	}
	if len(kv.Terms) > 0 {
		p.KVLeast = sum(kv.Sequence(l.MaxModelLen), kv.Null)
	}
	p = p.Reserve(l.Reserved)
	p.Activation = activation(c, l)
	p.Graphs = graphs(l)
	p.Context = cudaContext(l)
	p.Signatures = signatures(c, w, l, kv)
	for _, part := range []struct {
		name  string
		bytes int64
	}{{"weights", p.Weights}, {"activation", p.Activation}} {
		if part.bytes > mostBytes {
			return Parts{}, cannot("the %s come to %d bytes, more than any card has", part.name, part.bytes)
		}
	}
	return p, nil
}

// String is the parts in words, for logs and plans.
func (p Parts) String() string {
	return fmt.Sprintf("weights %s, kv cache %s for %d x %d tokens, activation %s, graphs %s, context %s",
		gib(p.Weights), gib(p.KVBytes), p.Reserved, p.MaxModelLen, gib(p.Activation), gib(p.Graphs), gib(p.Context))
}

func gib(bytes int64) string { return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30)) }
