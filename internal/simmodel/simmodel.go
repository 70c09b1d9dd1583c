// Package simmodel writes folders that look like a model's, for tests of how much
// memory one needs: a config.json, and weights of the right size without a content,
// which take no room on a disk that knows sparse files.
package simmodel

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Llama is a transformer of Llama's kind, in bfloat16.
type Llama struct {
	Layers       int
	Hidden       int // width of the residual stream; a multiple of Heads
	Heads        int // of queries; a multiple of KVHeads
	KVHeads      int // of keys and values
	Intermediate int // width within the feed-forward layers
	Vocab        int // tokens
	MaxLen       int // tokens of the longest context
}

// elementBytes is the size of a bfloat16.
const elementBytes = 2

// HeadWidth is how many elements a head has.
func (m Llama) HeadWidth() int { return m.Hidden / m.Heads }

// KVPerToken is what a token of the KV cache takes of all cards together, in bytes:
// a key and a value of each layer and head.
func (m Llama) KVPerToken() int64 {
	return 2 * elementBytes * int64(m.Layers) * int64(m.KVHeads) * int64(m.HeadWidth())
}

// Write makes the folder and the model's files in it, config.json and
// model.safetensors, and returns how many bytes its weights have.
func Write(dir string, m Llama) (weights int64, err error) {
	if err := m.check(); err != nil {
		return 0, fmt.Errorf("simulated model: %w", err)
	}
	config, err := json.MarshalIndent(m.config(), "", "  ")
	if err != nil {
		return 0, fmt.Errorf("simulated model: %w", err)
	}
	header, weights, err := m.header()
	if err != nil {
		return 0, fmt.Errorf("simulated model: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("simulated model: %w", err)
	}
	file := filepath.Join(dir, "model.safetensors")
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "config.json"), append(config, '\n'), 0o600),
		os.WriteFile(file, header, 0o600),
	)
	if err == nil {
		err = os.Truncate(file, int64(len(header))+weights)
	}
	if err != nil {
		return 0, fmt.Errorf("simulated model: %w", err)
	}
	return weights, nil
}

func (m Llama) check() error {
	for _, n := range []int{m.Layers, m.Hidden, m.Heads, m.KVHeads, m.Intermediate, m.Vocab, m.MaxLen} {
		if n <= 0 {
			return fmt.Errorf("all of %+v must be above zero", m)
		}
	}
	if m.Hidden%m.Heads != 0 || m.Heads%m.KVHeads != 0 {
		return fmt.Errorf("in %+v the heads do not divide what they share", m)
	}
	return nil
}

// config is the content of config.json, as Hugging Face's transformers write it.
func (m Llama) config() map[string]any {
	return map[string]any{
		"architectures":           []string{"LlamaForCausalLM"},
		"model_type":              "llama",
		"torch_dtype":             "bfloat16",
		"num_hidden_layers":       m.Layers,
		"hidden_size":             m.Hidden,
		"num_attention_heads":     m.Heads,
		"num_key_value_heads":     m.KVHeads,
		"head_dim":                m.HeadWidth(),
		"intermediate_size":       m.Intermediate,
		"vocab_size":              m.Vocab,
		"max_position_embeddings": m.MaxLen,
		"tie_word_embeddings":     false,
	}
}

// tensor is one matrix or vector of the weights.
type tensor struct {
	name  string
	shape []int64
}

// tensors are all of them, as Llama's checkpoints name them.
func (m Llama) tensors() []tensor {
	hidden, inner, vocab := int64(m.Hidden), int64(m.Intermediate), int64(m.Vocab)
	keys := int64(m.KVHeads) * int64(m.HeadWidth())
	list := []tensor{{"model.embed_tokens.weight", []int64{vocab, hidden}}}
	for n := range m.Layers {
		for _, t := range []tensor{
			{"self_attn.q_proj", []int64{hidden, hidden}},
			{"self_attn.k_proj", []int64{keys, hidden}},
			{"self_attn.v_proj", []int64{keys, hidden}},
			{"self_attn.o_proj", []int64{hidden, hidden}},
			{"mlp.gate_proj", []int64{inner, hidden}},
			{"mlp.up_proj", []int64{inner, hidden}},
			{"mlp.down_proj", []int64{hidden, inner}},
			{"input_layernorm", []int64{hidden}},
			{"post_attention_layernorm", []int64{hidden}},
		} {
			list = append(list, tensor{fmt.Sprintf("model.layers.%d.%s.weight", n, t.name), t.shape})
		}
	}
	return append(list, tensor{"model.norm.weight", []int64{hidden}}, tensor{"lm_head.weight", []int64{vocab, hidden}})
}

// header is the beginning of the safetensors file: the length of what follows, and
// the place of each tensor in the data after it (github.com/huggingface/safetensors,
// README, "Format").
func (m Llama) header() (header []byte, data int64, err error) {
	type place struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	places := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	for _, t := range m.tensors() {
		bytes := int64(elementBytes)
		for _, n := range t.shape {
			bytes *= n
		}
		places[t.name] = place{"BF16", t.shape, [2]int64{data, data + bytes}}
		data += bytes
	}
	text, err := json.Marshal(places)
	if err != nil {
		return nil, 0, err
	}
	for len(text)%8 != 0 { // so that the data is aligned
		text = append(text, ' ')
	}
	header = binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(header, text...), data, nil
}
