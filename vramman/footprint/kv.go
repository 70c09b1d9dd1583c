package footprint

// This file computes the KV cache as vLLM lays it out: how many bytes a block
// of each layer has, and how layers of several kinds share one pool of blocks.
// Sources: vLLM vllm/v1/kv_cache_interface.py for the pages,
// vllm/v1/core/kv_cache_utils.py for the groups, and _align_hybrid_block_size
// in vllm/platforms/interface.py for models with recurrent layers.

import (
	"errors"
	"fmt"
	"slices"
)

// KV is the KV cache of a model on one card, as a formula over the length of
// the sequences and their number.
type KV struct {
	Terms []Term // in a stable order; empty: the model keeps nothing
	Null  int64  // bytes of the one block that vLLM sets aside and never uses
}

// Term is a set of layers whose blocks are counted alike.
type Term struct {
	Bytes int64 // of one block of all these layers
	Block int64 // tokens in a block
	// Fixed is the number of blocks of each sequence whatever its length;
	// 0: as the following fields say.
	Fixed int64
	// Window is how many settled tokens are kept; 0: all.
	Window int64
	// InFlight is how many tokens of all sequences together are scheduled and
	// not settled yet: with a window they are kept besides it.
	InFlight int64
	// Spare is one block more where a window need not begin with a block.
	Spare int64
}

// blocks is how many blocks a sequence of so many tokens takes when so many of
// its tokens are in flight.
func (t Term) blocks(tokens, inFlight int64) int64 {
	switch {
	case t.Fixed > 0:
		return t.Fixed
	case t.Window > 0:
		return ceilDiv(min(sum(t.Window-t.Spare, inFlight), tokens), t.Block) + t.Spare
	}
	return ceilDiv(tokens, t.Block)
}

// Sequence is the bytes that vLLM counts for one sequence of so many tokens
// (its max_memory_usage_bytes): what it demands of the pool for one request of
// the longest context.
func (kv KV) Sequence(tokens int) int64 {
	var all int64
	for _, t := range kv.Terms {
		all = sum(all, product(t.Bytes, t.blocks(int64(tokens), t.InFlight)))
	}
	return all
}

// PerToken is how many bytes each further token of a long sequence takes,
// rounded up.
func (kv KV) PerToken() int64 {
	var all int64
	for _, t := range kv.Terms {
		if t.Fixed == 0 && t.Window == 0 {
			all = sum(all, ceilDiv(t.Bytes, t.Block))
		}
	}
	return all
}

// Pool is the bytes with which so many sequences of so many tokens fit at
// once, the unused block included. Tokens in flight are counted once: vLLM
// bounds those of all sequences together. It is never more than the sequences
// one by one.
func (kv KV) Pool(tokens, sequences int) int64 {
	n := int64(max(sequences, 1))
	var all int64
	for _, t := range kv.Terms {
		blocks := product(n, t.blocks(int64(tokens), t.InFlight))
		if t.Fixed == 0 && t.Window > 0 {
			// Each sequence rounds up its window and its share of those in flight.
			settled := ceilDiv(t.Window-t.Spare, t.Block) + 1 + t.Spare
			blocks = min(blocks, sum(product(n, settled), t.InFlight/t.Block))
		}
		all = sum(all, product(t.Bytes, blocks))
	}
	if all == 0 {
		return 0
	}
	return sum(all, kv.Null)
}

// page is a layer as vLLM's allocator sees it.
type page struct {
	kind   Kind
	block  int64 // tokens
	bytes  int64 // of a block
	window int64
	fixed  int64
}

// uniform says whether layers take the same number of blocks by the same rule,
// so that they form one group however large their pages are.
func (p page) uniform(q page) bool {
	return attends(p.kind) == attends(q.kind) && p.block == q.block && p.window == q.window && p.fixed == q.fixed &&
		(attends(p.kind) || p.kind == q.kind)
}

// grows says whether a page can take more tokens in.
func (p page) grows() bool { return attends(p.kind) || p.kind == Sliding || p.kind == Chunked }

// attends says whether a kind keeps every token. MLA counts as full attention.
func attends(k Kind) bool { return k == Full || k == MLA }

// Cache is the KV cache's formula for the model, launched so.
func (c Config) Cache(l Launch) (KV, error) {
	l, err := l.complete()
	if err != nil {
		return KV{}, err
	}
	kv, err := c.cache(l)
	if err != nil {
		return KV{}, cannot("%w", err)
	}
	return kv, nil
}

func (c Config) cache(l Launch) (KV, error) {
	if err := c.divides(l.TensorParallel); err != nil {
		return KV{}, err
	}
	pages, err := c.pages(l)
	if err != nil || len(pages) == 0 {
		return KV{}, err
	}
	if !slices.ContainsFunc(pages, func(p page) bool { return !p.uniform(pages[0]) }) {
		one := pages[0]
		one.bytes = 0
		for _, p := range pages {
			one.bytes = sum(one.bytes, p.bytes)
		}
		return KV{Terms: []Term{one.term(1, l)}, Null: one.bytes}, nil
	}
	return pooled(pages, l), nil
}

// divides says whether vLLM can split the attention over so many cards.
func (c Config) divides(cards int) error {
	if cards == 1 || c.Heads == 0 || c.KVHeads == 0 {
		return nil
	}
	if c.Heads%cards != 0 {
		return fmt.Errorf("%d attention heads do not divide by %d cards", c.Heads, cards)
	}
	for _, layer := range c.Layers {
		if k := layer.KVHeads; k > 0 && layer.Kind != MLA && k%cards != 0 && cards%k != 0 {
			return fmt.Errorf("%d heads of keys and values do not divide by %d cards", k, cards)
		}
	}
	return nil
}

// pages makes the pages of all layers that keep something.
func (c Config) pages(l Launch) ([]page, error) {
	element, err := c.elementBytes(l)
	if err != nil {
		return nil, err
	}
	state, perToken, err := c.extremes(l, element)
	if err != nil {
		return nil, err
	}
	block := c.block(l)
	if state > 0 && perToken > 0 {
		// Blocks of attention grow until a state fits into one, and the state is
		// padded to what they have become. MLA's kernels want 128 tokens.
		step := block
		if slices.ContainsFunc(c.Layers, func(l Layer) bool { return l.Kind == MLA }) {
			step = max(step, 128)
		}
		if step, err = c.chunks(l, step); err != nil {
			return nil, err
		}
		block = max(block, product(step, ceilDiv(state, product(step, perToken))))
	} else if state > 0 && l.MambaCacheMode == "all" {
		return nil, errors.New("how often a model without attention keeps its state is not known")
	}
	var all []page
	for _, layer := range c.Layers {
		if !layer.keeps() {
			continue
		}
		p := page{kind: layer.Kind, block: block, window: int64(layer.Window)}
		switch {
		case layer.recurrent():
			if p.bytes, err = layer.stateBytes(l.TensorParallel, element); err != nil {
				return nil, err
			}
			p.bytes = max(p.bytes, product(block, perToken)) // padded
			p.fixed = l.stateBlocks()
			if perToken == 0 {
				p.block = int64(l.MaxModelLen)
			}
		case layer.Kind == Cross:
			p.bytes, err = layer.tokenBytes(l, element)
			p.fixed, p.window = ceilDiv(int64(layer.Window), block), 0
			p.bytes = product(p.bytes, block)
		default:
			p.bytes, err = layer.tokenBytes(l, element)
			p.bytes = product(p.bytes, block)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	if l.WholeWindows && slices.ContainsFunc(all, func(p page) bool { return attends(p.kind) }) {
		for i, p := range all {
			if p.kind == Sliding || p.kind == Chunked {
				all[i].kind, all[i].window = Full, 0
			}
		}
	}
	return all, nil
}

// chunks widens the step of the block's size where vLLM keeps a state with each
// block: then a block ends where a chunk of the state space's kernel does.
func (c Config) chunks(l Launch, step int64) (int64, error) {
	if l.MambaCacheMode != "all" {
		return step, nil
	}
	for _, layer := range c.Layers {
		if !layer.recurrent() {
			continue
		}
		chunk := int64(layer.State.Chunk)
		if chunk == 0 {
			return 0, fmt.Errorf("mamba_cache_mode all with %s layers is not known", layer.Kind)
		}
		for step%chunk != 0 && step < maxTokens {
			step += c.block(l)
		}
	}
	return step, nil
}

// extremes are the largest state of a recurrent layer and the bytes per token
// of the first layer with attention: what vLLM fits to one another.
func (c Config) extremes(l Launch, element int64) (state, perToken int64, err error) {
	for _, layer := range c.Layers {
		switch {
		case layer.recurrent():
			n, err := layer.stateBytes(l.TensorParallel, element)
			if err != nil {
				return 0, 0, err
			}
			state = max(state, n)
		case layer.keeps() && perToken == 0:
			if perToken, err = layer.tokenBytes(l, element); err != nil {
				return 0, 0, err
			}
		}
	}
	return state, perToken, nil
}

// block is the tokens in a block before anything has to fit into it.
func (c Config) block(l Launch) int64 {
	switch {
	case l.BlockSize > 0:
		return int64(l.BlockSize)
	case slices.ContainsFunc(c.Layers, func(l Layer) bool { return l.Kind == MLA }):
		return 64 // what the kernels for it ask for
	}
	return 16
}

// stateBlocks is how many states a sequence holds: two while vLLM keeps one at
// the last block boundary for its prefix cache, which is its default.
func (l Launch) stateBlocks() int64 {
	switch l.MambaCacheMode {
	case "none":
		return 1
	case "all":
		return 0 // one for each block of tokens
	}
	return 2
}

// pooled lays layers of several kinds out in one pool. All pages get the size
// of the largest: attention takes more tokens into a block, the rest is
// padded. Layers alike are cut into groups of one size, since each block of
// the pool serves one group.
func pooled(pages []page, l Launch) KV {
	var largest int64
	for _, p := range pages {
		largest = max(largest, p.bytes)
	}
	var kinds []page // distinct, in the order of the layers
	var counts []int64
	for _, p := range pages {
		if p.grows() && p.bytes > 0 && largest%p.bytes == 0 {
			p.block = product(p.block, largest/p.bytes)
		}
		p.bytes = largest
		i := slices.Index(kinds, p)
		if i < 0 {
			i = len(kinds)
			kinds, counts = append(kinds, p), append(counts, 0)
		}
		counts[i]++
	}
	group := slices.Min(counts)
	if most := slices.Max(counts); float64(most) < 1.5*float64(group) {
		group = most // vLLM rather fills up than has many groups
	}
	kv := KV{Null: product(largest, group)}
	for i, p := range kinds {
		p.bytes = product(largest, group)
		kv.Terms = append(kv.Terms, p.term(ceilDiv(counts[i], group), l))
	}
	return kv
}

// term counts so many groups of pages like this one.
func (p page) term(groups int64, l Launch) Term {
	t := Term{Bytes: product(p.bytes, groups), Block: p.block, Fixed: p.fixed}
	switch p.kind {
	case Sliding:
		t.Window, t.Spare, t.InFlight = p.window, 1, l.inFlight()
	case Chunked:
		t.Window, t.InFlight = p.window, l.inFlight()
	}
	return t
}

// inFlight is how many tokens are scheduled and not settled at most: those of
// two batches when vLLM schedules one while the other runs
// (max_in_flight_tokens in its vllm/config/vllm.py).
func (l Launch) inFlight() int64 {
	if l.SyncScheduling {
		return int64(l.MaxNumBatchedTokens)
	}
	return 2 * int64(l.MaxNumBatchedTokens)
}
