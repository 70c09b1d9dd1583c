package footprint

// This file holds what the tests need of real models' configurations: the
// numbers of their architecture.

import (
	"strings"
	"testing"
)

const (
	llama8B    = `{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16"}`
	llama70B   = `{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16"}`
	mixtral    = `{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": null, "vocab_size": 32000}`
	qwen3      = `{"model_type": "qwen3", "hidden_size": 4096, "head_dim": 128, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "sliding_window": null, "use_sliding_window": false, "max_window_layers": 36}`
	qwen3MoE   = `{"model_type": "qwen3_moe", "hidden_size": 2048, "head_dim": 128, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768}`
	deepseekV3 = `{"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "num_nextn_predict_layers": 1, "quantization_config": {"quant_method": "fp8"}}`
	// nemotron is Nemotron-3-Nano-30B-A3B.
	nemotron = `{"model_type": "nemotron_h", "hidden_size": 2688, "num_hidden_layers": 52, "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
		"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "mamba_num_heads": 64, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
		"chunk_size": 128, "mamba_ssm_cache_dtype": "float32", "time_step_limit": [0.0, Infinity]}`
)

// gemma4MoE is gemma-4-26B-A4B: five windows, then one full layer.
var gemma4MoE = `{"model_type": "gemma4", "dtype": "bfloat16", "vision_config": {"depth": 27}, "text_config": {"model_type": "gemma4_text", "hidden_size": 2816, "head_dim": 256, "global_head_dim": 512,
	"attention_k_eq_v": true, "num_hidden_layers": 30, "num_attention_heads": 16, "num_key_value_heads": 8, "num_global_key_value_heads": 2, "num_kv_shared_layers": 0, "sliding_window": 1024,
	"layer_types": [` + pattern(5, "sliding_attention", "full_attention", 5) + `]}}`

// qwen35 is Qwen3.5-27B: three delta nets, then one full layer.
var qwen35 = `{"model_type": "qwen3_5", "text_config": {"model_type": "qwen3_5_text", "hidden_size": 5120, "head_dim": 256, "num_hidden_layers": 64, "num_attention_heads": 24, "num_key_value_heads": 4,
	"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 48, "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32",
	"full_attention_interval": 4, "layer_types": [` + pattern(3, "linear_attention", "full_attention", 16) + `]}}`

// pattern is a list of types: so often the first, then the second, repeated.
func pattern(n int, first, second string, times int) string {
	one := strings.Repeat(`"`+first+`",`, n) + `"` + second + `",`
	return strings.TrimSuffix(strings.Repeat(one, times), ",")
}

// config parses a configuration that is right.
func config(t testing.TB, text string) Config {
	t.Helper()
	c, err := ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cache computes a cache that can be computed.
func cache(t testing.TB, c Config, l Launch) KV {
	t.Helper()
	if l.MaxModelLen == 0 {
		l.MaxModelLen = 32768
	}
	kv, err := c.Cache(l)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}
