package footprint

// This file knows how vLLM splits tensors over cards, by their names
// (vllm/model_executor/layers/linear.py, vocab_parallel_embedding.py,
// fused_moe/layer.py, and the models' own choice among them).

import (
	"slices"
	"strings"
)

// towers are parts of names of what is no language model.
var towers = []string{"vision_tower", "vision_model", "visual", "audio_tower", "audio_model", "vit", "multi_modal_projector", "mm_projector", "embed_vision", "embed_audio"}

func tower(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if slices.Contains(towers, part) {
			return true
		}
	}
	return false
}

// loads says whether vLLM loads a tensor: not the output layer that is the
// embedding once more, not drafters without speculative decoding, not buffers
// that it computes itself.
func (c Config) loads(name string, l Launch) bool {
	switch {
	case c.Tied && (name == "lm_head.weight" || strings.HasSuffix(name, ".lm_head.weight")):
		return false
	case strings.HasSuffix(name, "rotary_emb.inv_freq"), strings.HasSuffix(name, ".attn.masked_bias"),
		c.Type == "gpt2" && strings.HasSuffix(name, ".attn.bias"):
		return false
	case strings.HasPrefix(name, "mtp.") || strings.Contains(name, ".mtp."):
		return false
	case l.LanguageOnly && tower(name):
		return false
	}
	layer, ok := layerOf(name)
	return !ok || c.Depth == 0 || layer < c.Depth
}

// split are the modules whose tensors are cut into as many pieces as there are
// cards, by the last part of their names before "weight", "qweight", "scales"
// and the like.
var split = set(
	"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj", "q_b_proj", "kv_b_proj",
	"embed_tokens", "embed_tokens_per_layer", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out",
	"fc1", "fc2", "c_fc", "c_proj", "dense_h_to_4h", "dense_4h_to_h", "w1", "w2", "w3", "wo",
	"in_proj", "out_proj", "in_proj_qkvz", "in_proj_qkv", "in_proj_z", "in_proj_ba", "in_proj_a", "in_proj_b",
	"conv1d", "A_log", "dt_bias",
	// GGUF's names
	"attn_q", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps",
)

// fused hold queries, keys and values in one tensor.
var fused = set("qkv_proj", "query_key_value", "Wqkv", "c_attn", "qkv")

// afterSum are the modules whose results are added up over the cards: their
// bias is on each, whole.
var afterSum = set("o_proj", "down_proj", "fc2", "c_proj", "dense_4h_to_h", "out_proj", "w2", "wo", "attn_output", "ffn_down")

// vocabulary are the modules with a row per token.
var vocabulary = set("embed_tokens", "embed_tokens_per_layer", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out", "token_embd", "output")

// vocabularyStep is what vLLM rounds the vocabulary up to.
const vocabularyStep = 64

// share is the bytes of a tensor on one of so many cards.
func (c Config) share(t Tensor, cards int) int64 {
	module, leaf := moduleOf(t.Name)
	if vocabulary[module] && len(t.Shape) == 2 && t.Shape[0] > 0 && !tower(t.Name) {
		rows := product(ceilDiv(t.Shape[0], vocabularyStep), vocabularyStep)
		return product(ceilDiv(rows, int64(cards)), ceilDiv(t.Bytes, t.Shape[0]))
	}
	n := int64(cards)
	switch {
	case cards == 1 || tower(t.Name):
		// On one card nothing is split. Towers may be, or not: counted whole.
		return t.Bytes
	case leaf == "bias" && afterSum[module], leaf == "g_idx", strings.HasSuffix(leaf, "down_proj_bias"):
		return t.Bytes
	case module == "k_proj", module == "v_proj", module == "attn_k", module == "attn_v":
		return c.keyShare(t, cards)
	case fused[module]:
		kv := int64(max(c.KVHeads, 1))
		whole := int64(c.Heads) + 2*kv
		if c.Heads == 0 {
			return t.Bytes
		}
		part := ceilDiv(int64(c.Heads), n) + 2*heads(int(kv), cards)
		return ceilDiv(product(t.Bytes, part), whole)
	case strings.Contains(t.Name, ".experts."):
		return ceilDiv(t.Bytes, n)
	case split[module]:
		return ceilDiv(t.Bytes, n)
	}
	return t.Bytes
}

// keyShare splits by heads, which are repeated where they are fewer than the cards.
func (c Config) keyShare(t Tensor, cards int) int64 {
	total := c.KVHeads
	if layer, ok := layerOf(t.Name); ok && layer < len(c.Layers) && c.Layers[layer].KVHeads > 0 && c.Layers[layer].Kind != MLA {
		total = c.Layers[layer].KVHeads
	}
	if total == 0 {
		return ceilDiv(t.Bytes, int64(cards))
	}
	return ceilDiv(product(t.Bytes, heads(total, cards)), int64(total))
}

// moduleOf takes the module's and the parameter's name from a tensor's:
// "model.layers.0.self_attn.q_proj.weight" is "q_proj" and "weight",
// "model.layers.0.linear_attn.A_log" is "A_log" and "A_log".
func moduleOf(name string) (module, leaf string) {
	parts := strings.Split(name, ".")
	leaf = parts[len(parts)-1]
	if split[leaf] || len(parts) == 1 {
		return leaf, leaf
	}
	return parts[len(parts)-2], leaf
}

// set makes a set of names.
func set(names ...string) map[string]bool {
	s := make(map[string]bool, len(names))
	for _, name := range names {
		s[name] = true
	}
	return s
}
