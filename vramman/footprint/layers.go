package footprint

// This file owns what a layer keeps per request: the kinds of layers, and how
// large the state of a recurrent one is.

import "fmt"

// Kind is what a layer keeps of a sequence.
type Kind string

// The kinds of layers.
const (
	Full       Kind = "full"        // keys and values of every token
	Sliding    Kind = "sliding"     // of the last tokens
	Chunked    Kind = "chunked"     // of the tokens since the chunk began
	MLA        Kind = "mla"         // one compressed vector per token, on each card
	Cross      Kind = "cross"       // keys and values of the encoder's tokens
	Mamba2     Kind = "mamba2"      // a state of constant size
	GatedDelta Kind = "gated_delta" // a state of constant size: gated delta net
	KimiDelta  Kind = "kimi_delta"  // a state of constant size: Kimi delta attention
	ShortConv  Kind = "short_conv"  // the last inputs of a convolution
	Nothing    Kind = "nothing"     // encoders, layers without attention, layers that share another's
)

// Layer is one layer as far as its KV cache goes. Which fields count depends
// on the kind; the others are zero, so layers that keep the same are equal.
// All sizes are those of the whole model, before it is split over cards.
type Layer struct {
	Kind Kind

	KVHeads  int // heads of keys and values; of MLA 1
	KeyDim   int // elements per head of keys; of MLA the compressed vector with its rotary part
	ValueDim int // elements per head of values; of MLA 0
	Window   int // tokens: the window of Sliding, the chunk of Chunked, the encoder's length of Cross
	IndexDim int // of MLA with sparse attention: elements of the indexer's key; else 0

	State State // of the recurrent kinds
}

// State is the size of a recurrent layer's state.
type State struct {
	KeyHeads   int // GatedDelta: key heads; Mamba2: groups
	KeyDim     int // elements per key head; Mamba2: the state's size
	ValueHeads int // value heads; Mamba2: heads
	ValueDim   int // elements per value head; Mamba2: per head
	Inner      int // Mamba2: width within; ShortConv: width
	Kernel     int // of the convolution, in tokens
	Chunk      int // Mamba2: tokens that its kernel takes at once; 0: not known
	Bytes      int // per element of the recurrent state; 0: as the model's type
}

// recurrent says whether the layer's memory does not grow with the sequence.
func (l Layer) recurrent() bool {
	switch l.Kind {
	case Mamba2, GatedDelta, KimiDelta, ShortConv:
		return true
	}
	return false
}

// keeps says whether the layer keeps anything at all.
func (l Layer) keeps() bool { return l.Kind != Nothing && l.Kind != "" }

// heads is how many heads of keys and values one card of so many has: when
// there are fewer heads than cards, each is on several (vLLM
// vllm/config/model.py, get_num_kv_heads).
func heads(total, cards int) int64 { return int64(max(1, total/cards)) }

// stateBytes is the size of a recurrent layer's state on one of so many cards,
// with elements of the model's type of so many bytes. The shapes are those of
// MambaStateShapeCalculator in vLLM's vllm/model_executor/layers/mamba/mamba_utils.py.
func (l Layer) stateBytes(cards int, element int64) (int64, error) {
	s, n := l.State, int64(cards)
	recurrent := int64(s.Bytes)
	if recurrent == 0 {
		recurrent = element
	}
	keep := int64(s.Kernel - 1) // inputs that the convolution looks back on
	for _, split := range []int{s.ValueHeads, s.Inner} {
		if split%cards != 0 {
			return 0, fmt.Errorf("a %s layer's %d heads or channels do not divide by %d cards", l.Kind, split, cards)
		}
	}
	wide := func(elements ...int64) int64 { return product(elements...) / n }
	switch l.Kind {
	case Mamba2:
		groups := s.KeyHeads
		if groups%cards != 0 {
			groups = max(groups, cards) // each card gets the groups that its heads need
		}
		conv := wide(sum(int64(s.Inner), product(2, int64(groups), int64(s.KeyDim))))
		return sum(product(conv, keep, element),
			wide(int64(s.ValueHeads), int64(s.ValueDim), int64(s.KeyDim), recurrent)), nil
	case GatedDelta:
		if s.KeyHeads%cards != 0 {
			return 0, fmt.Errorf("a %s layer's %d key heads do not divide by %d cards", l.Kind, s.KeyHeads, cards)
		}
		conv := wide(sum(product(2, int64(s.KeyDim), int64(s.KeyHeads)), product(int64(s.ValueDim), int64(s.ValueHeads))))
		return sum(product(conv, keep, element),
			wide(int64(s.ValueHeads), int64(s.ValueDim), int64(s.KeyDim), recurrent)), nil
	case KimiDelta:
		conv := wide(3, int64(s.ValueHeads), int64(s.ValueDim))
		return sum(product(conv, keep, element),
			wide(int64(s.ValueHeads), int64(s.ValueDim), int64(s.ValueDim), recurrent)), nil
	case ShortConv:
		return product(wide(int64(s.Inner)), keep, element), nil
	}
	return 0, fmt.Errorf("a %s layer has no state", l.Kind)
}
