package footprint

import (
	"math"
	"strings"
	"testing"
)

// near says whether a figure is within half a per cent of what is known.
func near(got, want float64) bool { return math.Abs(got-want) <= want*0.005 }

// The figures of vLLM's formulas for known models: bytes per token, and GiB of
// one sequence of 8, 32 and 128 thousand tokens.
func TestCacheOfKnownModels(t *testing.T) {
	inFlight := func(n int) Launch { return Launch{MaxNumBatchedTokens: n / 2} }
	for _, m := range []struct {
		name, config  string
		launch        Launch
		perToken      int64
		k8, k32, k128 float64
	}{
		{"Llama 3.1 8B", llama8B, Launch{}, 131072, 1, 4, 16},
		{"Mixtral 8x7B", mixtral, Launch{}, 131072, 1, 4, 16},
		{"Llama 3.1 70B", llama70B, Launch{}, 327680, 2.5, 10, 40},
		{"Qwen3 8B", qwen3, Launch{}, 147456, 1.125, 4.5, 18},
		{"Qwen3 30B A3B", qwen3MoE, Launch{}, 98304, 0.75, 3, 12},
		{"Qwen3 30B A3B in 8 bits", qwen3MoE, Launch{KVCacheDType: "fp8"}, 49152, 0.375, 1.5, 6},
		{"DeepSeek V3", deepseekV3, Launch{}, 70272, 0.536, 2.145, 8.578},
		{"DeepSeek V3 on eight cards", deepseekV3, Launch{TensorParallel: 8}, 70272, 0.536, 2.145, 8.578},
		{"Gemma 4 26B, 16384 in flight", gemma4MoE, inFlight(16384), 20480, 1.722, 3.948, 5.823},
		{"Gemma 4 26B, 4096 in flight", gemma4MoE, inFlight(4096), 20480, 1.136, 1.605, 3.480},
		{"Qwen3.5 27B", qwen35, Launch{}, 65536, 0.813, 2.297, 8.326},
		{"Llama 3.1 8B on two cards", llama8B, Launch{TensorParallel: 2}, 65536, 0.5, 2, 8},
		{"Llama 3.1 8B on sixteen cards: each head is on two", llama8B, Launch{TensorParallel: 16}, 16384, 0.125, 0.5, 2},
	} {
		t.Run(m.name, func(t *testing.T) {
			kv := cache(t, config(t, m.config), m.launch)
			if got := kv.PerToken(); got != m.perToken {
				t.Errorf("%d bytes per token, want %d", got, m.perToken)
			}
			for _, length := range []struct {
				tokens int
				gib    float64
			}{{8192, m.k8}, {32768, m.k32}, {131072, m.k128}} {
				if got := float64(kv.Sequence(length.tokens)) / (1 << 30); !near(got, length.gib) {
					t.Errorf("%d tokens take %.4f GiB, want %.3f", length.tokens, got, length.gib)
				}
			}
		})
	}
}

// What vLLM itself wrote or tests, from runs that we did not make.
func TestCacheAsOthersSawIt(t *testing.T) {
	t.Run("Qwen3 8B: 6.37 GiB hold 46,368 tokens, 2.83 times 16,384", func(t *testing.T) {
		kv := cache(t, config(t, qwen3), Launch{})
		pool := 6.37 * (1 << 30)
		if tokens := pool / float64(kv.PerToken()); !near(tokens, 46368) {
			t.Errorf("they hold %.0f tokens", tokens)
		}
		if times := pool / float64(kv.Sequence(16384)); !near(times, 2.83) {
			t.Errorf("they hold %.3f sequences", times)
		}
	})
	t.Run("Qwen3.8 27B in 8 bits: blocks of 1568 tokens, states padded by 0.13 %", func(t *testing.T) {
		c := config(t, qwen35)
		kv := cache(t, c, Launch{KVCacheDType: "fp8"})
		for _, term := range kv.Terms {
			if term.Block != 1568 {
				t.Errorf("blocks of %d tokens", term.Block)
			}
		}
		state, err := c.Layers[0].stateBytes(1, 2)
		if err != nil {
			t.Fatal(err)
		}
		if state != 3207168 {
			t.Errorf("a state of %d bytes", state)
		}
		padded := float64(1568*2048-state) / float64(state)
		if math.Round(padded*1e4) != 13 {
			t.Errorf("padded by %.3f %%", padded*100)
		}
	})
	t.Run("vLLM's own test: 32 layers of 32 heads of 128, 8 GiB hold 16,384 tokens", func(t *testing.T) {
		kv := cache(t, config(t, `{"model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096}`), Launch{})
		if tokens := (8 << 30) / kv.PerToken(); tokens != 16384 {
			t.Errorf("they hold %d tokens", tokens)
		}
	})
	t.Run("GPT-2 XL: 300 KiB per token", func(t *testing.T) {
		kv := cache(t, config(t, `{"model_type": "gpt2", "n_layer": 48, "n_head": 25, "n_embd": 1600}`), Launch{})
		if kv.PerToken() != 300<<10 {
			t.Errorf("%d bytes per token", kv.PerToken())
		}
	})
	t.Run("Nemotron 3 Nano in 8 bits: blocks of 4192, on four cards of 2112", func(t *testing.T) {
		for cards, block := range map[int]int64{1: 4192, 2: 4192, 4: 2112} {
			kv := cache(t, config(t, nemotron), Launch{TensorParallel: cards, KVCacheDType: "fp8", BlockSize: 32})
			for _, term := range kv.Terms {
				if term.Block != block {
					t.Errorf("on %d cards blocks of %d tokens", cards, term.Block)
				}
			}
		}
	})
	t.Run("DeepSeek V3.2 in 8 bits: 656 and 132 bytes per token and layer", func(t *testing.T) {
		text := strings.Replace(deepseekV3, `"deepseek_v3"`, `"deepseek_v32", "index_head_dim": 128`, 1)
		if got := cache(t, config(t, text), Launch{KVCacheDType: "fp8"}).PerToken(); got != 61*(656+132) {
			t.Errorf("%d bytes per token", got)
		}
	})
}

func TestKindsOfLayers(t *testing.T) {
	const head = 8 * 128 * 2 * 2 // bytes per token and layer of the small models below
	with := func(fields string) string {
		return `{"hidden_size": 1024, "head_dim": 128, "num_attention_heads": 8, "num_hidden_layers": 4, ` + fields + `}`
	}
	for _, m := range []struct {
		name, config string
		launch       Launch
		tokens       int
		want         int64
	}{
		{
			"a window in every layer", with(`"model_type": "mistral", "sliding_window": 4096`),
			Launch{MaxNumBatchedTokens: 1024},
			32768,
			4 * head * 16 * ((4095+2048+15)/16 + 1),
		},
		{
			"scheduled one batch at a time", with(`"model_type": "mistral", "sliding_window": 4096`),
			Launch{MaxNumBatchedTokens: 1024, SyncScheduling: true},
			32768,
			4 * head * 16 * ((4095+1024+15)/16 + 1),
		},
		{"a window that is turned off", with(`"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": false`), Launch{}, 8192, 4 * head * 8192},
		{"windows that are not used", with(`"model_type": "gemma2", "sliding_window": 4096`), Launch{WholeWindows: true}, 8192, 4 * head * 8192},
		{
			"turns", with(`"model_type": "gpt_oss", "sliding_window": 128, "layer_types": [` + pattern(1, "sliding_attention", "full_attention", 2) + `]`),
			Launch{MaxNumBatchedTokens: 512},
			8192,
			2 * head * 16 * (8192/16 + (127+1024+15)/16 + 1),
		},
		{
			"chunks", with(`"model_type": "llama4_text", "attention_chunk_size": 2048`),
			Launch{MaxNumBatchedTokens: 512},
			8192,
			head * 16 * (8192/16 + 3*(2048+1024)/16),
		},
		{"keys that are shared", with(`"model_type": "gemma3n_text", "sliding_window": 512, "num_kv_shared_layers": 2, "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]`), Launch{}, 8192, 2 * head * 8192},
		{"an encoder", `{"model_type": "xlm-roberta", "num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 1024}`, Launch{}, 8192, 0},
		{"a decoder that looks both ways", with(`"model_type": "qwen2", "is_causal": false`), Launch{}, 8192, 0},
		{
			"an encoder's tokens", `{"model_type": "whisper", "decoder_layers": 4, "decoder_attention_heads": 8, "d_model": 1024, "max_source_positions": 1500}`,
			Launch{},
			448,
			4 * head * 16 * (448/16 + 94),
		},
		{"scales per token and head", with(`"model_type": "llama"`), Launch{KVCacheDType: "int8_per_token_head"}, 8192, 4 * 8 * (256 + 8) * 8192},
		{"four bits", with(`"model_type": "llama"`), Launch{KVCacheDType: "nvfp4"}, 8192, 4 * 8 * 2 * (64 + 8) * 8192},
		{"32 bits", with(`"model_type": "llama"`), Launch{DType: "float32"}, 8192, 2 * 4 * head * 8192},
		{"a model in 32 bits is served in 16", with(`"model_type": "llama", "torch_dtype": "float32"`), Launch{}, 8192, 4 * head * 8192},
		{
			"state spaces alone", `{"model_type": "mamba2", "num_hidden_layers": 3, "num_heads": 8, "head_dim": 64, "state_size": 128, "n_groups": 1, "conv_kernel": 4}`,
			Launch{MambaCacheMode: "none"},
			1 << 20,
			3 * ((512+256)*3*2 + 8*64*128*4),
		},
		{"latent attention, a part of a block", strings.Replace(deepseekV3, `61`, `1`, 1), Launch{}, 65, 1152 * 128},
		{"a part of a block", with(`"model_type": "llama"`), Launch{}, 17, 4 * head * 32},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.launch.MaxModelLen = m.tokens
			if got := cache(t, config(t, m.config), m.launch).Sequence(m.tokens); got != m.want {
				t.Errorf("%d bytes, want %d", got, m.want)
			}
		})
	}
}

func TestGroupsOfUnequalKinds(t *testing.T) {
	// 12 windows and 13 full layers: one layer of padding, not a group of 12 and
	// one of 1.
	text := `{"model_type": "gpt_oss", "hidden_size": 1024, "head_dim": 64, "num_attention_heads": 8, "num_hidden_layers": 25, "sliding_window": 128, "layer_types": [` +
		pattern(1, "full_attention", "sliding_attention", 12) + `, "full_attention"]}`
	kv := cache(t, config(t, text), Launch{})
	page := int64(8 * 64 * 2 * 2 * 16)
	if kv.Null != 13*page || len(kv.Terms) != 2 || kv.Terms[0].Bytes != 13*page || kv.Terms[1].Bytes != 13*page {
		t.Errorf("%+v", kv)
	}
}

func TestPoolIsBoundedBySequencesAndTheirParts(t *testing.T) {
	for name, text := range map[string]string{"plain": llama8B, "windows": gemma4MoE, "states": qwen35, "latent": deepseekV3} {
		kv := cache(t, config(t, text), Launch{MaxNumBatchedTokens: 8192})
		last := int64(0)
		for n := 1; n <= 64; n *= 2 {
			pool, one := kv.Pool(32768, n), kv.Sequence(32768)
			if pool > int64(n)*one+kv.Null || pool < last || n == 1 && pool < one {
				t.Errorf("%s: %d sequences take %d, one takes %d, fewer took %d", name, n, pool, one, last)
			}
			last = pool
		}
	}
	// Tokens in flight are shared: eight sequences with windows take much less
	// than eight times one.
	kv := cache(t, config(t, gemma4MoE), Launch{MaxNumBatchedTokens: 8192})
	if kv.Pool(32768, 8) > 4*kv.Sequence(32768) {
		t.Errorf("eight take %d, one %d", kv.Pool(32768, 8), kv.Sequence(32768))
	}
}

func TestCacheRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		launch Launch
		reason string
	}{
		"a type without a size":        {llama8B, Launch{KVCacheDType: "turboquant"}, "turboquant"},
		"MLA in an unknown layout":     {deepseekV3, Launch{KVCacheDType: "nvfp4"}, "nvfp4"},
		"a model's type":               {`{"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 64, "dtype": "int3"}`, Launch{}, "int3"},
		"heads that do not divide":     {llama8B, Launch{TensorParallel: 3}, "32 attention heads do not divide by 3"},
		"keys that do not divide":      {`{"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 12, "num_key_value_heads": 3, "hidden_size": 768}`, Launch{TensorParallel: 2}, "3 heads of keys"},
		"states that do not divide":    {qwen35, Launch{TensorParallel: 12}, "do not divide"},
		"states with every block":      {qwen35, Launch{MambaCacheMode: "all"}, "mamba_cache_mode all"},
		"a mode that there is not":     {qwen35, Launch{MambaCacheMode: "some"}, "some"},
		"a context of unknown length":  {llama8B, Launch{MaxModelLen: -1}, "max_model_len"},
		"a drafter":                    {llama8B, Launch{Drafter: true}, "speculative"},
		"adapters":                     {llama8B, Launch{LoRA: true}, "adapters"},
		"more tokens than can be told": {llama8B, Launch{MaxNumBatchedTokens: 1 << 40}, "max_num_batched_tokens"},
	} {
		l := c.launch
		if l.MaxModelLen == 0 {
			l.MaxModelLen = 4096
		}
		_, err := config(t, c.config).Cache(l)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot estimate, because ") || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := config(t, llama8B).Cache(Launch{}); err == nil || !strings.Contains(err.Error(), "max_model_len") {
		t.Errorf("without a context: %v", err)
	}
}
