package footprint

// This file turns a config.json into a description of the model.

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Bounds of what a configuration may say. They are far above every model there
// is, and keep all arithmetic within 64 bits.
const (
	maxConfig = 32 << 20 // bytes
	maxLayers = 1024
	maxHeads  = 4096
	maxDim    = 1 << 14 // of a head or a state
	maxWidth  = 1 << 20 // of a layer
	maxVocab  = 1 << 24
	maxTokens = 1 << 26 // of a context, a window
)

// Config is what a config.json says of a model, as far as memory goes. Sizes
// are those of the whole model.
type Config struct {
	Type   string // model_type of the language model: "llama", "gemma3_text"
	Layers []Layer
	// Depth is how many layers the checkpoint numbers; higher ones are drafters'.
	Depth int
	// DType is the type the model is made for: "bfloat16", …; empty when it is not said.
	DType        string
	Quantization string // quant_method of the checkpoint: "fp8", "awq", …; empty: none

	Hidden          int // width of the residual stream
	Intermediate    int // width within the widest dense feed-forward layer
	Vocab           int // tokens
	Heads           int // query heads; 0 where there is no attention
	HeadDim         int // elements per query head
	KVHeads         int // heads of keys and values that the projections split by
	Experts         int // 0: not a mixture
	ExpertsPerToken int // 0: not a mixture
	ExpertWidth     int // width within an expert
	// Tied says that the output layer is the input embedding. Where that is not
	// written it is not assumed, and both are counted if both are there.
	Tied   bool
	Towers bool // it has encoders for pictures or sound
}

// textKeys are under which configurations nest the language model.
var textKeys = []string{"text_config", "llm_config", "language_config", "thinker_config"}

// ParseConfig reads a config.json. The error wraps [ErrCannot] when the
// configuration nests in a way that is not understood, lacks fields, or is of
// a model_type whose memory is not known.
func ParseConfig(text []byte) (Config, error) {
	c, err := parseConfig(text)
	if err != nil {
		return Config{}, cannot("%w", err)
	}
	return c, nil
}

func parseConfig(text []byte) (Config, error) {
	if len(text) > maxConfig {
		return Config{}, fmt.Errorf("config.json has more than %d bytes", maxConfig)
	}
	outer, err := parseObject("config.json", plainJSON(text))
	if err != nil {
		return Config{}, err
	}
	o, err := languageModel(outer, 0)
	if err != nil {
		return Config{}, err
	}
	c := Config{Type: o.text("model_type")}
	if o.err != nil {
		return Config{}, o.err
	}
	if c.Type == "" {
		return Config{}, fmt.Errorf("%s says no model_type", o.path)
	}
	build, known := families[c.Type]
	if !known {
		return Config{}, fmt.Errorf("the memory of model_type %q is not known", c.Type)
	}
	build(o, &c)
	if o.err != nil {
		return Config{}, o.err
	}
	c.common(o)
	c.DType = elementType(o, outer)
	c.Quantization = quantization(outer, o)
	c.Tied = o.flag("tie_word_embeddings", outer.flag("tie_word_embeddings", false))
	for _, key := range []string{"vision_config", "audio_config", "vit_config", "visual"} {
		c.Towers = c.Towers || outer.has(key)
	}
	if o.err != nil {
		return Config{}, o.err
	}
	return c, outer.err
}

// languageModel finds the part of a configuration that describes the language
// model: the outermost, or the one that it nests. Two that could be it, or one
// whose numbers the outer part contradicts, are not understood.
func languageModel(o *object, depth int) (*object, error) {
	var inner *object
	for _, key := range textKeys {
		if !o.has(key) {
			continue
		}
		if inner != nil {
			return nil, fmt.Errorf("%s nests both %s and %s", o.path, inner.path, key)
		}
		if inner = o.nested(key); inner == nil {
			return nil, o.err
		}
	}
	if inner == nil {
		return o, nil
	}
	// thinker_config is the one part that nests a language model once more.
	if depth > 0 && o.path != "thinker_config" {
		return nil, fmt.Errorf("%s nests %s once more", o.path, inner.path)
	}
	for _, key := range []string{"num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size"} {
		if o.has(key) && inner.has(key) && string(o.fields[key]) != string(inner.fields[key]) {
			return nil, fmt.Errorf("%s is %s in %s and %s in %s", key, o.fields[key], o.path, inner.fields[key], inner.path)
		}
	}
	return languageModel(inner, depth+1)
}

// common reads what activations depend on. It is not required: what is missing
// makes the activation a coarser guess, and the KV cache does not need it.
func (c *Config) common(o *object) {
	c.Hidden = max(c.Hidden, o.sizeOr(0, maxWidth, "hidden_size", "n_embd", "d_model"))
	c.Intermediate = o.sizeOr(0, 1<<24, "intermediate_size", "ffn_dim", "n_inner", "decoder_ffn_dim")
	c.Vocab = o.sizeOr(0, maxVocab, "vocab_size")
	if n, _ := o.whole("num_experts", 0, maxWidth); n > 0 {
		c.Experts = n
	} else {
		c.Experts = o.sizeOr(0, maxWidth, "num_local_experts", "n_routed_experts", "moe_num_experts")
	}
	c.ExpertsPerToken = o.sizeOr(0, maxHeads, "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk")
	c.ExpertWidth = o.sizeOr(c.Intermediate, 1<<24, "moe_intermediate_size")
}

// elementType is the type that the model is made for, from the same places in
// the same order as vLLM looks (get_torch_dtype in its
// vllm/transformers_utils/model_arch_config_convertor.py).
func elementType(inner, outer *object) string {
	for _, o := range []*object{outer, inner} {
		for _, key := range []string{"dtype", "torch_dtype"} {
			if s := o.text(key); s != "" {
				return strings.TrimPrefix(s, "torch.")
			}
		}
	}
	return ""
}

// quantization is the method by which the checkpoint's weights were made
// smaller. "unknown" is one that the configuration does not name.
func quantization(outer, inner *object) string {
	for _, o := range []*object{outer, inner} {
		for _, key := range []string{"quantization_config", "compression_config"} {
			q := o.nested(key)
			if q == nil {
				continue
			}
			if method := q.text("quant_method"); method != "" && q.err == nil {
				return strings.ReplaceAll(strings.ToLower(method), "_", "-")
			}
			return "unknown"
		}
	}
	return ""
}

// identity is what tells models apart: the same one gives the same bytes.
func (c Config) identity() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic(err) // plain fields cannot fail
	}
	return b
}
