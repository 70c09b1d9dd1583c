package footprint

import "testing"

func TestStatesOnCards(t *testing.T) {
	kimi := Layer{Kind: KimiDelta, State: State{ValueHeads: 66, ValueDim: 128, Kernel: 4, Bytes: 4}}
	mamba := Layer{Kind: Mamba2, State: State{KeyHeads: 8, KeyDim: 128, ValueHeads: 64, ValueDim: 64, Inner: 4096, Kernel: 4, Bytes: 4}}
	oneGroup := mamba
	oneGroup.State.KeyHeads = 1
	net := Layer{Kind: GatedDelta, State: State{KeyHeads: 16, KeyDim: 128, ValueHeads: 32, ValueDim: 128, Kernel: 4}}
	conv := Layer{Kind: ShortConv, State: State{Inner: 2048, Kernel: 3}}
	for _, c := range []struct {
		name  string
		layer Layer
		cards int
		want  int64
	}{
		{"kimi delta attention, 22 heads on each", kimi, 3, 22*128*128*4 + 3*22*128*3*2},
		{"mamba, as vLLM logged it", mamba, 1, 2134016},
		{"mamba on four cards, as vLLM logged it", mamba, 4, 533504},
		{"mamba with one group, which each card has", oneGroup, 4, 4096/4*3*2 + 2*128*3*2 + 64*64*128},
		{"a delta net in the model's type", net, 2, (2*128*16+128*32)/2*3*2 + 16*128*128*2},
		{"a convolution", conv, 2, 1024 * 2 * 2},
	} {
		if got, err := c.layer.stateBytes(c.cards, 2); err != nil || got != c.want {
			t.Errorf("%s: %d bytes, want %d (%v)", c.name, got, c.want, err)
		}
	}
	for name, l := range map[string]Layer{"heads": kimi, "channels": {Kind: ShortConv, State: State{Inner: 9, Kernel: 2}}, "key heads": {Kind: GatedDelta, State: State{KeyHeads: 1, ValueHeads: 4, Kernel: 2}}, "attention": {Kind: Full}} {
		if got, err := l.stateBytes(4, 2); err == nil {
			t.Errorf("%s: %d bytes", name, got)
		}
	}
}

// How many states a sequence holds, and what that does to the blocks.
func TestStatesOfASequence(t *testing.T) {
	c := config(t, nemotron)
	// Attention has 2 heads of 128: 1024 bytes per token. The state of 2134016
	// bytes fits into 2096 tokens, in chunks of 128 into 2176. Six layers of
	// attention and 23 of states make one and four groups of six.
	for mode, want := range map[string]int64{
		"none":  6 * 2096 * 1024 * (16 + 4*1),
		"align": 6 * 2096 * 1024 * (16 + 4*2),
		"":      6 * 2096 * 1024 * (16 + 4*2),
		"all":   6 * 2176 * 1024 * (16 + 4*16),
	} {
		if got := cache(t, c, Launch{MambaCacheMode: mode}).Sequence(32768); got != want {
			t.Errorf("%q: %d bytes, want %d", mode, got, want)
		}
	}
}

// Latent attention beside states has blocks of whole 128 tokens.
func TestBlocksOfLatentAttention(t *testing.T) {
	c := config(t, `{"model_type": "kimi_linear", "num_hidden_layers": 4, "num_attention_heads": 32, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
		"linear_attn_config": {"kda_layers": [1, 2, 3], "full_attn_layers": [4], "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4}}`)
	state := 32*128*128*4 + 3*32*128*3*2
	want := int64(state+128*1152-1) / (128 * 1152) * 128
	for _, term := range cache(t, c, Launch{}).Terms {
		if term.Block != want {
			t.Errorf("%d tokens, want %d", term.Block, want)
		}
	}
}

func TestHeadsOfTheOlderFamilies(t *testing.T) {
	for text, want := range map[string]int{
		`{"model_type": "gpt_bigcode", "n_layer": 2, "n_head": 48, "n_embd": 6144}`:                                                                              1,
		`{"model_type": "gpt_bigcode", "n_layer": 2, "n_head": 48, "n_embd": 6144, "multi_query": false}`:                                                        48,
		`{"model_type": "falcon", "num_hidden_layers": 2, "num_attention_heads": 128, "num_kv_heads": 8, "hidden_size": 8192, "new_decoder_architecture": true}`: 8,
	} {
		if got := config(t, text).Layers[0].KVHeads; got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
}
