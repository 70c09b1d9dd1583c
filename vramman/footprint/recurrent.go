package footprint

// This file knows the models whose layers compress what they read: latent
// attention, state spaces, delta nets and short convolutions.

import "strings"

// latent is for multi-head latent attention: one vector per token, the same on
// every card. A sparse one keeps an indexer's key beside it.
func latent(sparse bool) func(*object, *Config) {
	return func(o *object, c *Config) {
		n, l := depth(o, c), compressed(o, c)
		if sparse {
			l.IndexDim = o.size(maxDim, "index_head_dim")
		}
		c.Layers = repeat(l, n)
	}
}

func compressed(o *object, c *Config) Layer {
	c.Heads = o.size(maxHeads, "num_attention_heads")
	c.KVHeads = c.Heads
	c.HeadDim = o.sizeOr(128, maxDim, "v_head_dim")
	return Layer{Kind: MLA, KVHeads: 1, KeyDim: o.size(maxDim, "kv_lora_rank") + o.size(maxDim, "qk_rope_head_dim")}
}

// deltaNet is for models of gated delta nets with full attention at intervals.
func deltaNet(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	net := Layer{Kind: GatedDelta, State: State{
		KeyHeads:   o.size(maxHeads, "linear_num_key_heads"),
		KeyDim:     o.size(maxDim, "linear_key_head_dim"),
		ValueHeads: o.size(maxHeads, "linear_num_value_heads"),
		ValueDim:   o.size(maxDim, "linear_value_head_dim"),
		Kernel:     o.size(maxDim, "linear_conv_kernel_dim"),
		Bytes:      stateElement(o, 0),
	}}
	if o.has("layer_types") {
		c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "linear_attention": net})
		return
	}
	if interval := o.size(maxLayers, "full_attention_interval"); o.err == nil {
		c.Layers = every(interval, n, l, net)
	}
}

// stateElement is the bytes per element of a recurrent state.
func stateElement(o *object, otherwise int) int {
	for _, key := range []string{"mamba_ssm_dtype", "mamba_ssm_cache_dtype"} {
		switch name := o.text(key); name {
		case "":
		case "float32":
			return 4
		case "bfloat16", "float16":
			return 2
		default:
			o.fail("%s in %s is %q, whose size is not known", key, o.path, name)
		}
	}
	return otherwise
}

// space reads a Mamba2 layer. Models name the fields in two ways: with the
// words of Mamba's own code, or with longer ones. A type of the state that is
// not written is taken for the larger one.
func space(o *object) Layer {
	if string(o.fields["mamba_d_head"]) == `"auto"` {
		delete(o.fields, "mamba_d_head")
	}
	s := State{
		KeyHeads:   o.sizeOr(1, maxHeads, "mamba_n_groups", "n_groups", "mamba_num_groups"),
		KeyDim:     o.size(maxDim, "mamba_d_state", "ssm_state_size", "state_size"),
		ValueHeads: o.size(maxWidth, "mamba_n_heads", "mamba_num_heads", "num_heads"),
		ValueDim:   o.sizeOr(0, maxDim, "mamba_d_head", "mamba_head_dim"),
		Kernel:     o.size(maxDim, "mamba_d_conv", "conv_kernel"),
		Chunk:      o.sizeOr(0, maxDim, "mamba_chunk_size", "chunk_size"),
		Bytes:      stateElement(o, 4),
	}
	if s.ValueDim == 0 && o.has("num_heads") { // a model of nothing else
		s.ValueDim = o.size(maxDim, "head_dim")
	}
	s.Inner = o.sizeOr(0, 1<<24, "mamba_d_ssm")
	if s.Inner == 0 && o.has("mamba_expand") && o.has("mamba_n_heads") {
		s.Inner = o.size(maxHeads, "mamba_expand") * o.size(maxWidth, "hidden_size")
	}
	if o.err != nil {
		return Layer{}
	}
	if s.ValueDim == 0 && s.Inner > 0 && s.Inner%s.ValueHeads == 0 {
		s.ValueDim = s.Inner / s.ValueHeads
	}
	if s.Inner == 0 {
		s.Inner = s.ValueHeads * s.ValueDim
	}
	if s.ValueDim == 0 || s.Inner != s.ValueHeads*s.ValueDim {
		o.fail("%s has a state space of width %d with %d heads of %d", o.path, s.Inner, s.ValueHeads, s.ValueDim)
	}
	return Layer{Kind: Mamba2, State: s}
}

// mamba2 is for models of state spaces alone.
func mamba2(o *object, c *Config) {
	n, l := depth(o, c), space(o)
	c.Layers = repeat(l, n)
}

// nemotronH writes one letter per layer: M a state space, * attention, - and E
// feed-forward layers, which keep nothing.
func nemotronH(o *object, c *Config) {
	n, l, m := depth(o, c), attention(o, c), space(o)
	pattern := o.text("hybrid_override_pattern")
	if o.err != nil {
		return
	}
	if len(pattern) != n {
		o.fail("hybrid_override_pattern in %s has %d letters for %d layers", o.path, len(pattern), n)
		return
	}
	if d := o.sizeOr(0, maxDim, "attention_head_dim"); d > 0 && !o.has("head_dim") {
		l.KeyDim, l.ValueDim, c.HeadDim = d, d, d
	}
	for _, letter := range pattern {
		switch letter {
		case 'M':
			c.Layers = append(c.Layers, m)
		case '*':
			c.Layers = append(c.Layers, l)
		case '-', 'E':
			c.Layers = append(c.Layers, Layer{Kind: Nothing})
		default:
			o.fail("the memory of layers of type %q is not known", letter)
			return
		}
	}
}

// graniteHybrid writes the type of each layer; one of attention alone is a
// plain model.
func graniteHybrid(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	kinds := map[string]Layer{"attention": l}
	if strings.Contains(string(o.fields["layer_types"]), "mamba") {
		kinds["mamba"] = space(o)
	}
	c.Layers = typed(o, n, kinds)
}

// bamba lists the layers that have attention.
func bamba(o *object, c *Config) {
	n, l, m := depth(o, c), attention(o, c), space(o)
	if !o.has("attn_layer_indices") {
		o.fail("%s says no attn_layer_indices", o.path)
	}
	at := o.numbers("attn_layer_indices")
	if o.err != nil {
		return
	}
	c.Layers = repeat(m, n)
	for _, i := range at {
		if i < 0 || i >= n {
			o.fail("attn_layer_indices in %s has %d, of %d layers", o.path, i, n)
			return
		}
		c.Layers[i] = l
	}
}

// falconH1 has attention and a state space side by side in each layer.
func falconH1(o *object, c *Config) {
	n, l, m := depth(o, c), attention(o, c), space(o)
	c.Layers = append(repeat(l, n), repeat(m, n)...)
}

// shortConv is for models of short convolutions with some attention.
func shortConv(o *object, c *Config) {
	n, l := depth(o, c), attention(o, c)
	conv := Layer{Kind: ShortConv, State: State{
		Inner:  o.sizeOr(o.size(maxWidth, "hidden_size"), maxWidth, "conv_dim"),
		Kernel: o.size(maxDim, "conv_L_cache"),
	}}
	c.Layers = typed(o, n, map[string]Layer{"full_attention": l, "conv": conv})
}

// kimiLinear lists its two kinds of layers, counted from 1.
func kimiLinear(o *object, c *Config) {
	n, l := depth(o, c), compressed(o, c)
	linear := o.nested("linear_attn_config")
	if linear == nil {
		o.fail("%s says no linear_attn_config", o.path)
		return
	}
	delta := Layer{Kind: KimiDelta, State: State{
		ValueHeads: linear.size(maxHeads, "num_heads"),
		ValueDim:   linear.size(maxDim, "head_dim"),
		Kernel:     linear.size(maxDim, "short_conv_kernel_size"),
		Bytes:      4,
	}}
	c.Layers = make([]Layer, max(n, 0))
	for _, kind := range []struct {
		key   string
		layer Layer
	}{{"kda_layers", delta}, {"full_attn_layers", l}} {
		for _, i := range linear.numbers(kind.key) {
			if i < 1 || i > n || c.Layers[i-1].Kind != "" {
				linear.fail("%s in %s has layer %d, which is not there or has its kind already", kind.key, linear.path, i)
				break
			}
			c.Layers[i-1] = kind.layer
		}
	}
	for i, layer := range c.Layers {
		if layer.Kind == "" {
			linear.fail("%s does not name the kind of layer %d", linear.path, i+1)
		}
	}
	if linear.err != nil {
		o.fail("%w", linear.err)
	}
}
