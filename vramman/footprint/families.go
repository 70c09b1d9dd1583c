package footprint

// This file knows the models: which layers a model_type has, from which fields.
// What is not listed here is refused. The facts are those of vLLM's model files
// (vllm/model_executor/models) and of the configuration classes that the fields
// left out of a config.json take their defaults from.

import (
	"fmt"
	"slices"
)

// families holds, by model_type, what reads the layers of a configuration.
var families = known()

func known() map[string]func(*object, *Config) {
	special := map[string]func(*object, *Config){
		"gemma2":           patterned(2, 0),
		"gemma3_text":      gemma3,
		"gemma3n_text":     shared,
		"gemma4_text":      gemma4,
		"gpt_oss":          alternating,
		"cohere2":          patterned(4, 0),
		"olmo3":            patterned(4, 0),
		"exaone4":          plain,
		"llama4_text":      llama4,
		"gpt2":             gpt2,
		"gpt_bigcode":      bigcode,
		"opt":              plain,
		"falcon":           falcon,
		"bloom":            plain,
		"deepseek_v2":      latent(false),
		"deepseek_v3":      latent(false),
		"deepseek_v32":     latent(true),
		"kimi_k2":          latent(false),
		"glm4_moe_lite":    latent(false),
		"glm_moe_dsa":      latent(true),
		"kimi_linear":      kimiLinear,
		"qwen3_next":       deltaNet,
		"qwen3_5_text":     deltaNet,
		"qwen3_5_moe_text": deltaNet,
		"mamba2":           mamba2,
		"nemotron_h":       nemotronH,
		"granitemoehybrid": graniteHybrid,
		"bamba":            bamba,
		"falcon_h1":        falconH1,
		"lfm2":             shortConv,
		"lfm2_moe":         shortConv,
		"whisper":          whisper,
		"bert":             encoder,
		"roberta":          encoder,
		"xlm-roberta":      encoder,
		"modernbert":       encoder,
		"nomic_bert":       encoder,
	}
	for _, kind := range []string{
		"llama", "mistral", "ministral3", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe",
		"qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text",
		"qwen2_5_omni_text", "gemma", "olmo", "olmo2", "olmoe", "phi", "phi3", "phimoe", "granite",
		"granitemoe", "starcoder2", "stablelm", "internlm2", "internlm3", "glm", "glm4", "glm4_moe",
		"baichuan", "cohere", "ernie4_5", "ernie4_5_moe", "smollm3", "seed_oss", "hunyuan_v1_dense",
		"nemotron", "arcee", "apertus", "dots1", "deepseek", "minimax_m2", "exaone", "gpt_neox", "minicpm",
	} {
		special[kind] = plain
	}
	return special
}

// alien are fields of memory that plain models do not have. One that has them
// is not what its model_type says.
var alien = []string{
	"kv_lora_rank", "compress_ratios", "attention_chunk_size", "num_kv_shared_layers", "cross_attention_layers",
	"block_configs", "ssm_cfg", "mamba_d_state", "ssm_state_size", "linear_num_value_heads", "linear_attn_config",
	"global_head_dim", "index_head_dim", "hybrid_override_pattern", "attn_config",
}

// depth reads the number of layers.
func depth(o *object, c *Config) int {
	c.Depth = o.size(maxLayers, "num_hidden_layers", "n_layer", "num_layers", "n_layers")
	return c.Depth
}

// attention reads the one kind of attention that most models have (vLLM
// vllm/transformers_utils/model_arch_config_convertor.py, get_head_size and
// get_total_num_kv_heads).
func attention(o *object, c *Config) Layer {
	c.Heads = o.size(maxHeads, "num_attention_heads", "n_head", "num_heads")
	c.KVHeads = o.sizeOr(c.Heads, maxHeads, "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
	c.HeadDim = o.sizeOr(0, maxDim, "head_dim", "hidden_size_per_head")
	if c.HeadDim == 0 {
		c.Hidden = o.size(maxWidth, "hidden_size", "n_embd", "d_model")
		if o.err == nil && c.Hidden%c.Heads != 0 {
			o.fail("hidden_size %d does not divide by %d heads, and %s says no head_dim", c.Hidden, c.Heads, o.path)
			return Layer{}
		}
		if o.err == nil {
			c.HeadDim = c.Hidden / c.Heads
		}
	}
	if o.err == nil && c.Heads%c.KVHeads != 0 {
		o.fail("%d heads do not share %d heads of keys and values", c.Heads, c.KVHeads)
	}
	return Layer{Kind: Full, KVHeads: c.KVHeads, KeyDim: c.HeadDim, ValueDim: c.HeadDim}
}

// repeat is n layers of the same kind.
func repeat(l Layer, n int) []Layer { return slices.Repeat([]Layer{l}, max(n, 0)) }

// window is the layer with a window in place of the whole sequence.
func (l Layer) window(kind Kind, tokens int) Layer {
	l.Kind, l.Window = kind, tokens
	return l
}

// plain is for models that have one kind of attention, or write the kind of
// each layer down. A window that is set is every layer's (vLLM takes it from
// the cache's configuration), unless use_sliding_window turns it off.
func plain(o *object, c *Config) {
	for _, key := range alien {
		if n, isSize := o.fields[key]; isSize && string(n) != "null" && string(n) != "0" {
			o.fail("%s has %s, which a %s is not known to have", o.path, key, c.Type)
			return
		}
	}
	n, l := depth(o, c), attention(o, c)
	if !o.flag("is_causal", true) {
		c.Layers = repeat(Layer{Kind: Nothing}, n) // an encoder keeps nothing
		return
	}
	tokens := o.sizeOr(0, maxTokens, "sliding_window")
	if !o.flag("use_sliding_window", true) {
		tokens = 0
	}
	if o.has("layer_types") {
		c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "sliding_attention": l.window(Sliding, tokens)})
		return
	}
	if o.has("sliding_window_pattern") && tokens > 0 {
		o.fail("%s says no layer_types, and how %s uses its pattern of windows is not known", o.path, c.Type)
		return
	}
	if tokens > 0 {
		if most, ok := o.whole("max_window_layers", 0, maxLayers); ok && most < n && o.has("use_sliding_window") {
			o.fail("%s has a window in some layers only and says no layer_types", o.path)
			return
		}
		l = l.window(Sliding, tokens)
	}
	c.Layers = repeat(l, n)
}

// typed reads layer_types, which names the kind of each layer.
func typed(o *object, n int, kinds map[string]Layer) []Layer {
	names := o.texts("layer_types")
	if o.err == nil && len(names) != n {
		o.fail("%s names the types of %d layers and has %d", o.path, len(names), n)
	}
	if o.err != nil {
		return nil
	}
	layers := make([]Layer, n)
	for i, name := range names {
		l, ok := kinds[name]
		if !ok {
			o.fail("the memory of layers of type %q is not known", name)
			return nil
		}
		if (l.Kind == Sliding || l.Kind == Chunked) && l.Window == 0 {
			o.fail("%s has layers with a window and does not say how long it is", o.path)
			return nil
		}
		layers[i] = l
	}
	return layers
}

// every is for models where each so manieth layer is full and the others are
// another kind.
func every(interval, n int, full, other Layer) []Layer {
	layers := repeat(other, n)
	for i := interval - 1; i < n; i += interval {
		layers[i] = full
	}
	return layers
}

// patterned is for models of windows with a full layer at intervals. An older
// configuration writes the interval instead of the types; it has the defaults
// given here.
func patterned(interval, tokens int) func(*object, *Config) {
	return func(o *object, c *Config) {
		n, l := depth(o, c), attention(o, c)
		tokens := o.sizeOr(tokens, maxTokens, "sliding_window")
		slide := l.window(Sliding, tokens)
		if o.has("layer_types") {
			c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "sliding_attention": slide})
			return
		}
		if tokens == 0 {
			o.fail("%s does not say how long its window is", o.path)
			return
		}
		interval := o.sizeOr(interval, maxLayers, "sliding_window_pattern", "_sliding_window_pattern")
		if o.err == nil {
			c.Layers = every(interval, n, l, slide)
		}
	}
}

// gemma3 fills in what its configurations leave out. One that looks both ways
// is an encoder.
func gemma3(o *object, c *Config) {
	for key, value := range map[string]int{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256} {
		if !o.has(key) {
			o.fields[key] = fmt.Append(nil, value)
		}
	}
	patterned(6, 4096)(o, c)
	if string(o.fields["use_bidirectional_attention"]) == "true" {
		c.Layers = repeat(Layer{Kind: Nothing}, c.Depth)
	}
}

// shared is for models whose last layers use the keys and values of earlier ones.
func shared(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "sliding_attention": l.window(Sliding, o.size(maxTokens, "sliding_window"))})
	share(o, c)
}

// share empties the layers that share.
func share(o *object, c *Config) {
	count, _ := o.whole("num_kv_shared_layers", 0, maxLayers)
	if o.err == nil && count >= c.Depth && count > 0 {
		o.fail("%d of %d layers share their keys", count, c.Depth)
	}
	if o.err != nil {
		return
	}
	for i := c.Depth - count; i < c.Depth; i++ {
		c.Layers[i] = Layer{Kind: Nothing}
	}
}

// gemma4 has full layers with heads of their own size and, where keys are
// values too, of their own number. vLLM keeps both all the same.
func gemma4(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	full := l
	full.KeyDim = o.sizeOr(l.KeyDim, maxDim, "global_head_dim")
	full.ValueDim = full.KeyDim
	if o.flag("attention_k_eq_v", false) {
		full.KVHeads = o.sizeOr(l.KVHeads, maxHeads, "num_global_key_value_heads")
	}
	c.Layers = typed(o, n, map[string]Layer{"full_attention": full, "sliding_attention": l.window(Sliding, o.size(maxTokens, "sliding_window"))})
	share(o, c)
}

// alternating begins with a window and takes turns.
func alternating(o *object, c *Config) { patterned(2, 0)(o, c) }

// llama4 has chunks, except in the layers without rotary positions.
func llama4(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	chunk := l.window(Chunked, o.sizeOr(8192, maxTokens, "attention_chunk_size"))
	if raw, ok := o.fields["attention_chunk_size"]; ok && string(raw) == "null" {
		chunk = l
	}
	if o.has("layer_types") {
		c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "chunked_attention": chunk})
		return
	}
	rotary := o.numbers("no_rope_layers") // 1 where a layer has them
	if o.err != nil {
		return
	}
	if len(rotary) == 0 {
		c.Layers = every(o.sizeOr(4, maxLayers, "no_rope_layer_interval"), n, l, chunk)
		return
	}
	if len(rotary) != n {
		o.fail("no_rope_layers in %s has %d entries for %d layers", o.path, len(rotary), n)
		return
	}
	c.Layers = repeat(l, n)
	for i, has := range rotary {
		if has != 0 {
			c.Layers[i] = chunk
		}
	}
}

// gpt2 names its fields in its own way, which depth and attention know.
func gpt2(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	c.Layers = repeat(l, n)
}

// bigcode has one head of keys and values unless it says otherwise.
func bigcode(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	if o.flag("multi_query", true) {
		l.KVHeads, c.KVHeads = 1, 1
	}
	c.Layers = repeat(l, n)
}

// falcon has one head of keys and values in its old form.
func falcon(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	if !o.flag("new_decoder_architecture", false) && o.flag("multi_query", true) {
		l.KVHeads, c.KVHeads = 1, 1
	}
	c.Layers = repeat(l, n)
}

// encoder is for models that read a text at once and keep nothing of it.
func encoder(o *object, c *Config) {
	c.Heads = o.sizeOr(0, maxHeads, "num_attention_heads", "n_head")
	c.Layers = repeat(Layer{Kind: Nothing}, depth(o, c))
}

// whisper has a decoder that looks at itself and at what the encoder heard.
func whisper(o *object, c *Config) {
	n := o.size(maxLayers, "decoder_layers")
	c.Depth, c.Heads = n, o.size(maxHeads, "decoder_attention_heads")
	c.Hidden = o.size(maxWidth, "d_model")
	heard := o.size(maxTokens, "max_source_positions")
	if o.err != nil {
		return
	}
	if c.Hidden%c.Heads != 0 {
		o.fail("d_model %d does not divide by %d heads", c.Hidden, c.Heads)
		return
	}
	c.KVHeads, c.HeadDim, c.Towers = c.Heads, c.Hidden/c.Heads, true
	l := Layer{Kind: Full, KVHeads: c.Heads, KeyDim: c.HeadDim, ValueDim: c.HeadDim}
	c.Layers = append(repeat(l, n), repeat(l.window(Cross, heard), n)...)
}
