package footprint

import (
	"errors"
	"strings"
	"testing"
)

// counts is how many layers there are of each kind.
func counts(c Config) map[Kind]int {
	n := map[Kind]int{}
	for _, l := range c.Layers {
		n[l.Kind]++
	}
	return n
}

func TestLayersOfConfigurations(t *testing.T) {
	const small = `"hidden_size": 512, "head_dim": 64, "num_attention_heads": 8, "num_key_value_heads": 2`
	const mamba = `"mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_n_groups": 1`
	for _, c := range []struct {
		name, config string
		want         map[Kind]int
	}{
		{"gemma 3 with its defaults", `{"text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}}`, map[Kind]int{Sliding: 29, Full: 5}},
		{"gemma 3 that embeds", `{"model_type": "gemma3_text", "num_hidden_layers": 24, "use_bidirectional_attention": true}`, map[Kind]int{Nothing: 24}},
		{"gemma 2", `{"model_type": "gemma2", "num_hidden_layers": 42, "sliding_window": 4096, ` + small + `}`, map[Kind]int{Sliding: 21, Full: 21}},
		{"command r7b", `{"model_type": "cohere2", "num_hidden_layers": 32, "sliding_window": 4096, "sliding_window_pattern": 4, ` + small + `}`, map[Kind]int{Sliding: 24, Full: 8}},
		{"llama 4 by its positions", `{"text_config": {"model_type": "llama4_text", "num_hidden_layers": 4, "no_rope_layers": [1, 1, 0, 1], ` + small + `}}`, map[Kind]int{Chunked: 3, Full: 1}},
		{"llama 4 without chunks", `{"text_config": {"model_type": "llama4_text", "num_hidden_layers": 4, "attention_chunk_size": null, ` + small + `}}`, map[Kind]int{Full: 4}},
		{"qwen3-next by its interval", `{"model_type": "qwen3_next", "num_hidden_layers": 48, "full_attention_interval": 4, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128, ` + small + `}`, map[Kind]int{GatedDelta: 36, Full: 12}},
		{"nemotron", nemotron, map[Kind]int{Mamba2: 23, Full: 6, Nothing: 23}},
		{"granite", `{"model_type": "granitemoehybrid", "num_hidden_layers": 3, "layer_types": ["mamba", "mamba", "attention"], ` + mamba + `, ` + small + `}`, map[Kind]int{Mamba2: 2, Full: 1}},
		{"granite whose state's width says itself", `{"model_type": "granitemoehybrid", "num_hidden_layers": 1, "layer_types": ["mamba"], ` + strings.Replace(mamba, `"mamba_d_head": 64`, `"mamba_d_head": "auto"`, 1) + `, ` + small + `}`, map[Kind]int{Mamba2: 1}},
		{"granite of attention alone", `{"model_type": "granitemoehybrid", "num_hidden_layers": 2, "layer_types": ["attention", "attention"], ` + small + `}`, map[Kind]int{Full: 2}},
		{"bamba", `{"model_type": "bamba", "num_hidden_layers": 4, "attn_layer_indices": [2], ` + mamba + `, ` + small + `}`, map[Kind]int{Mamba2: 3, Full: 1}},
		{"falcon h1", `{"model_type": "falcon_h1", "num_hidden_layers": 4, ` + mamba + `, "mamba_d_ssm": 1024, ` + small + `}`, map[Kind]int{Mamba2: 4, Full: 4}},
		{"lfm2", `{"model_type": "lfm2", "num_hidden_layers": 3, "conv_L_cache": 3, "layer_types": ["conv", "conv", "full_attention"], ` + small + `}`, map[Kind]int{ShortConv: 2, Full: 1}},
		{"kimi linear", `{"model_type": "kimi_linear", "num_hidden_layers": 4, "num_attention_heads": 32, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [4], "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4}}`, map[Kind]int{KimiDelta: 3, MLA: 1}},
		{"a part within a part", `{"model_type": "qwen2_5_omni", "thinker_config": {"text_config": {"model_type": "qwen2", "num_hidden_layers": 2, ` + small + `}}}`, map[Kind]int{Full: 2}},
		{"falcon with one head", `{"model_type": "falcon", "num_hidden_layers": 2, "multi_query": true, "num_attention_heads": 71, "hidden_size": 4544}`, map[Kind]int{Full: 2}},
		{"8.0 is whole", `{"model_type": "llama", "num_hidden_layers": 8.0, ` + small + `}`, map[Kind]int{Full: 8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := counts(config(t, c.config))
			for kind, n := range c.want {
				if got[kind] != n {
					t.Errorf("%d %s layers, want %d", got[kind], kind, n)
				}
				delete(got, kind)
			}
			if len(got) > 0 {
				t.Errorf("and %v", got)
			}
		})
	}
	if c := config(t, `{"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 71, "hidden_size": 4544}`); c.Layers[0].KVHeads != 1 {
		t.Errorf("falcon has %d heads of keys", c.Layers[0].KVHeads)
	}
	if c := config(t, deepseekV3); c.Quantization != "fp8" || c.Layers[0].KeyDim != 576 {
		t.Errorf("%+v", c)
	}
	if c := config(t, gemma4MoE); !c.Towers || c.DType != "bfloat16" || c.Layers[5].KVHeads != 2 || c.Layers[5].KeyDim != 512 || c.Layers[0].KVHeads != 8 {
		t.Errorf("%+v", c)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	const rest = `"num_hidden_layers": 4, "hidden_size": 512, "num_attention_heads": 8`
	for _, c := range []struct{ name, config, reason string }{
		{"nothing", ``, "not a JSON object"},
		{"a half", llama8B[:60], "not a JSON object"},
		{"null", `null`, "null"},
		{"a list", `[]`, "not a JSON object"},
		{"no type", `{` + rest + `}`, "model_type"},
		{"an unknown type", `{"model_type": "deepseek_v4", ` + rest + `}`, `"deepseek_v4" is not known`},
		{"a known name with the memory of another", `{"model_type": "llama", "kv_lora_rank": 512, ` + rest + `}`, "kv_lora_rank"},
		{"no layers", `{"model_type": "llama", "hidden_size": 512, "num_attention_heads": 8}`, "num_hidden_layers"},
		{"no heads", `{"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 2}`, "num_attention_heads"},
		{"no width", `{"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 8}`, "hidden_size"},
		{"heads that do not share", `{"model_type": "llama", "num_key_value_heads": 3, ` + rest + `}`, "do not share"},
		{"a width that does not divide", `{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 500, "num_attention_heads": 8}`, "does not divide"},
		{"a number in quotes", `{"model_type": "llama", "num_hidden_layers": "4", "hidden_size": 512, "num_attention_heads": 8}`, "num_hidden_layers"},
		{"a broken number", `{"model_type": "llama", "num_hidden_layers": 4.5, "hidden_size": 512, "num_attention_heads": 8}`, "num_hidden_layers"},
		{"a negative number", `{"model_type": "llama", "num_hidden_layers": -4, "hidden_size": 512, "num_attention_heads": 8}`, "-4"},
		{"too many layers", `{"model_type": "llama", "num_hidden_layers": 1e9, "hidden_size": 512, "num_attention_heads": 8}`, "num_hidden_layers"},
		{"a part that is no object", `{"text_config": 3, "model_type": "llama", ` + rest + `}`, "text_config"},
		{"two language models", `{"text_config": {"model_type": "llama"}, "llm_config": {"model_type": "llama"}}`, "both"},
		{"a part that nests itself", `{"text_config": {"text_config": {"model_type": "llama", ` + rest + `}}}`, "once more"},
		{"parts that contradict", `{"num_hidden_layers": 5, "text_config": {"model_type": "llama", ` + rest + `}}`, "num_hidden_layers is 5"},
		{"a part without a type", `{"model_type": "llava", "text_config": {` + rest + `}}`, "text_config says no model_type"},
		{"too few types of layers", `{"model_type": "qwen3", "layer_types": ["full_attention"], ` + rest + `}`, "1 layers and has 4"},
		{"an unknown type of layer", `{"model_type": "qwen3", "layer_types": ["full_attention", "a", "a", "a"], ` + rest + `}`, `"a"`},
		{"a window without its length", `{"model_type": "gpt_oss", ` + rest + `}`, "window"},
		{"a typed window without its length", `{"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"], ` + rest + `}`, "how long"},
		{"windows in unnamed layers", `{"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 512, "max_window_layers": 2, ` + rest + `}`, "some layers only"},
		{"letters for other layers", strings.Replace(nemotron, "MEMEM*", "MEMEX*", 1), "'X'"},
		{"a letter too few", strings.Replace(nemotron, "MEMEM*", "MEME*", 1), "51 letters"},
		{"a type that is a number", `{"model_type": 3, ` + rest + `}`, "model_type"},
		{"all layers shared", `{"model_type": "gemma3n_text", "sliding_window": 5, "num_kv_shared_layers": 4, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"], ` + rest + `}`, "share"},
		{"an index beyond the layers", `{"model_type": "bamba", "attn_layer_indices": [9], "mamba_n_heads": 8, "mamba_d_head": 64, "mamba_d_state": 16, "mamba_d_conv": 4, ` + rest + `}`, "attn_layer_indices"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseConfig([]byte(c.config))
			if !errors.Is(err, ErrCannot) || !strings.HasPrefix(err.Error(), "cannot estimate, because ") || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// Any configuration is refused or gives a cache whose figures hang together.
func FuzzParseConfig(f *testing.F) {
	for _, text := range []string{llama8B, mixtral, qwen3, deepseekV3, nemotron, gemma4MoE, qwen35, `{`, `{"text_config": {}}`, `{"a": "\"Infinity", "b": NaN}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err != nil {
			if !errors.Is(err, ErrCannot) || len(c.Layers) != 0 {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		if len(c.Layers) == 0 || len(c.Layers) > 2*maxLayers {
			t.Fatalf("%d layers", len(c.Layers))
		}
		for _, cards := range []int{1, 2, 8} {
			kv, err := c.Cache(Launch{MaxModelLen: 4096, TensorParallel: cards})
			if err != nil {
				continue
			}
			short, long := kv.Sequence(1), kv.Sequence(4096)
			if short < 0 || long < short || kv.Pool(4096, 3) < kv.Pool(4096, 2) || kv.PerToken() < 0 {
				t.Fatalf("%q on %d cards: one token %d, all %d", text, cards, short, long)
			}
		}
	})
}
