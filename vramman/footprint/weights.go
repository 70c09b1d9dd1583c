package footprint

// This file owns the weights: what a checkpoint holds, and how much of it one
// card gets.

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Tensor is one tensor of a checkpoint.
type Tensor struct {
	Name  string
	DType string  // as the file names it: "BF16", "F8_E4M3"; of GGUF "q4_k"
	Shape []int64 // in the file's order: rows first
	Bytes int64   // in the file
}

// Elements is the number of its elements.
func (t Tensor) Elements() int64 { return product(t.Shape...) }

// Weights are the tensors of a checkpoint, in the order of their names.
type Weights struct {
	Tensors []Tensor
}

// NewWeights sorts tensors, and refuses a name that comes twice.
func NewWeights(tensors []Tensor) (Weights, error) {
	sorted := slices.SortedFunc(slices.Values(tensors), func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			return Weights{}, fmt.Errorf("the tensor %q is there twice", sorted[i].Name)
		}
	}
	return Weights{Tensors: sorted}, nil
}

// Bytes is what the checkpoint holds in all.
func (w Weights) Bytes() int64 {
	var all int64
	for _, t := range w.Tensors {
		all = sum(all, t.Bytes)
	}
	return all
}

// identity is a hash that is equal for equal weights, up to their values.
func (w Weights) identity() []byte {
	h := sha256.New()
	var number [8]byte
	write := func(n int64) {
		binary.LittleEndian.PutUint64(number[:], uint64(n))
		h.Write(number[:])
	}
	for _, t := range w.Tensors {
		for _, text := range []string{t.Name, t.DType} {
			write(int64(len(text)))
			h.Write([]byte(text))
		}
		write(int64(len(t.Shape)))
		for _, n := range t.Shape {
			write(n)
		}
		write(t.Bytes)
	}
	return h.Sum(nil)
}

// PerCard is the bytes of weights on each card. On one card it is what the
// checkpoint holds of tensors that are loaded, in the types that they are
// loaded in. On several, projections, experts and the vocabulary are split;
// norms, routers, the compressing projections of latent attention, and heads
// of keys that are fewer than the cards are on each. What is not known to be
// split is counted on each card.
//
// A method of quantization that vLLM applies while it loads is not counted as
// saving anything: the weights pass through the card as they are.
func (w Weights) PerCard(c Config, l Launch) (int64, error) {
	l.TensorParallel = max(l.TensorParallel, 1)
	element, err := c.elementBytes(l)
	if err != nil {
		return 0, cannot("%w", err)
	}
	var all int64
	for _, t := range w.Tensors {
		if !c.loads(t.Name, l) {
			continue
		}
		all = sum(all, c.share(t.loaded(element), l.TensorParallel))
	}
	if all == 0 {
		return 0, cannot("there are no weights")
	}
	return all, nil
}

// loaded is the tensor with the bytes that it has on the card: plain numbers
// become the model's type. Scales and the few others that vLLM computes with
// in 32 bits stay what they are.
func (t Tensor) loaded(element int64) Tensor {
	switch t.DType {
	case "F64", "F32", "F16", "BF16":
	default:
		return t
	}
	for _, stays := range []string{"scale", "A_log", "correction_bias", "dt_bias"} {
		if t.DType == "F32" && strings.Contains(t.Name, stays) {
			return t
		}
	}
	t.Bytes = product(t.Elements(), element)
	return t
}

// agree compares the checkpoint with the configuration, as far as names tell:
// a configuration of another model, or one that is misunderstood, would give a
// wrong number without it.
func (w Weights) agree(c Config) error {
	if len(w.Tensors) == 0 {
		return errors.New("there are no weights")
	}
	seen := -1
	for _, t := range w.Tensors {
		layer, ok := layerOf(t.Name)
		if !ok {
			continue
		}
		seen = max(seen, layer)
		if err := c.agrees(t, layer); err != nil {
			return err
		}
	}
	if seen >= 0 && c.Depth > 0 && seen+1 < c.Depth {
		return fmt.Errorf("config.json says %d layers and the weights have %d", c.Depth, seen+1)
	}
	return nil
}

// agrees checks the projections whose rows are what a layer keeps.
func (c Config) agrees(t Tensor, layer int) error {
	if layer >= c.Depth || layer >= len(c.Layers) || len(t.Shape) != 2 {
		return nil
	}
	var want int64
	switch l := c.Layers[layer]; {
	case strings.HasPrefix(t.DType, "F4"), strings.HasPrefix(t.DType, "U"), strings.HasPrefix(t.DType, "I"):
		return nil // packed: the shape is not the matrix's
	case !l.keeps() || l.recurrent():
		return nil
	case l.Kind == MLA && strings.HasSuffix(t.Name, ".self_attn.kv_a_proj_with_mqa.weight"):
		want = int64(l.KeyDim)
	case l.Kind == MLA:
		return nil
	case strings.HasSuffix(t.Name, ".self_attn.k_proj.weight"), strings.HasSuffix(t.Name, ".attn_k.weight"):
		want = product(int64(l.KVHeads), int64(l.KeyDim))
	default:
		return nil
	}
	if want != t.Shape[0] {
		return fmt.Errorf("%s has %d rows, and by config.json it would have %d", t.Name, t.Shape[0], want)
	}
	return nil
}

// languageModels are what stands before the layers of a language model. Layers
// under another name, as of an encoder, are counted and not looked at.
var languageModels = set("", "model.", "language_model.", "language_model.model.", "model.language_model.",
	"model.decoder.", "decoder.", "thinker.model.", "backbone.", "text_model.")

// layerOf reads the number of the language model's layer that a tensor is of.
func layerOf(name string) (int, bool) {
	rest, ok := strings.CutPrefix(name, "blk.") // GGUF's name for a layer
	if !ok {
		before, after, found := strings.Cut(name, "layers.")
		if !found || !languageModels[before] {
			return 0, false
		}
		rest = after
	}
	digits, _, found := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(digits, 10, 20)
	return int(n), found && err == nil
}
