package footprint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
)

// tensor is one whose bytes follow from its shape.
func tensor(name, dtype string, shape ...int64) Tensor {
	t := Tensor{Name: name, DType: dtype, Shape: shape}
	t.Bytes = ceilDiv(product(t.Elements(), elementBits[dtype]), 8)
	return t
}

// file writes a safetensors file with zeros for data.
func file(tensors ...Tensor) []byte {
	entries := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	at := int64(0)
	for _, t := range tensors {
		entries[t.Name] = map[string]any{"dtype": t.DType, "shape": t.Shape, "data_offsets": []int64{at, at + t.Bytes}}
		at += t.Bytes
	}
	header, err := json.Marshal(entries)
	if err != nil {
		panic(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, at)...)
}

// parse reads a file as the readers do.
func parse(b []byte) ([]Tensor, error) {
	n, err := headerLength(b, int64(len(b)))
	if err != nil {
		return nil, err
	}
	return parseHeader(b[8:8+n], int64(len(b))-8-n)
}

// tiny is a model of two layers that is easy to count: 8 heads of 8, 4 of keys,
// 512 bytes of vocabulary rows, and its weights.
const tiny = `{"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 256, "vocab_size": 128, "dtype": "bfloat16"}`

func tinyTensors() []Tensor {
	all := []Tensor{tensor("model.embed_tokens.weight", "BF16", 128, 64), tensor("model.norm.weight", "BF16", 64), tensor("lm_head.weight", "BF16", 128, 64)}
	for i := range 2 {
		p := fmt.Sprintf("model.layers.%d.", i)
		all = append(all,
			tensor(p+"input_layernorm.weight", "BF16", 64), tensor(p+"post_attention_layernorm.weight", "BF16", 64),
			tensor(p+"self_attn.q_proj.weight", "BF16", 64, 64), tensor(p+"self_attn.o_proj.weight", "BF16", 64, 64),
			tensor(p+"self_attn.k_proj.weight", "BF16", 32, 64), tensor(p+"self_attn.v_proj.weight", "BF16", 32, 64),
			tensor(p+"mlp.gate_proj.weight", "BF16", 256, 64), tensor(p+"mlp.up_proj.weight", "BF16", 256, 64), tensor(p+"mlp.down_proj.weight", "BF16", 64, 256))
	}
	return all
}

func tinyWeights(t testing.TB, more ...Tensor) Weights {
	t.Helper()
	w, err := NewWeights(append(tinyTensors(), more...))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSafetensorsHeader(t *testing.T) {
	want := append(tinyTensors(), tensor("a", "F4", 3, 3), tensor("b", "I64"), tensor("c", "F8_E4M3", 0, 5))
	got, err := parse(file(want...))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := NewWeights(got)
	b, _ := NewWeights(want)
	if fmt.Sprint(a) != fmt.Sprint(b) || !bytes.Equal(a.identity(), b.identity()) || a.Bytes() != b.Bytes() {
		t.Errorf("%v\nwant %v", a, b)
	}
	// A type that is not known is taken by its place.
	header := `{"x":{"dtype":"F2","shape":[8],"data_offsets":[0,2]}}`
	if got, err := parseHeader([]byte(header), 2); err != nil || got[0].Bytes != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSafetensorsHeaderRefuses(t *testing.T) {
	whole := file(tinyTensors()...)
	for name, b := range map[string][]byte{
		"nothing":          {},
		"seven bytes":      whole[:7],
		"a cut header":     whole[:100],
		"cut data":         whole[:len(whole)-1],
		"data behind":      append(bytes.Clone(whole), 0),
		"a length of all":  append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), whole[8:]...),
		"a length of many": append(binary.LittleEndian.AppendUint64(nil, 90<<20), whole[8:]...),
	} {
		if got, err := parse(b); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, header := range map[string]string{
		"a list":              `[]`,
		"a gap":               `{"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
		"an overlap":          `{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`,
		"a shape too large":   `{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,2]}}`,
		"a shape beyond all":  `{"x":{"dtype":"BF16","shape":[9223372036854775807, 9223372036854775807],"data_offsets":[0,2]}}`,
		"a negative side":     `{"x":{"dtype":"U8","shape":[-2],"data_offsets":[0,2]}}`,
		"no place":            `{"x":{"dtype":"U8","shape":[2]}}`,
		"no type":             `{"x":{"shape":[2],"data_offsets":[0,2]}}`,
		"a place backwards":   `{"x":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}}`,
		"a place outside":     `{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`,
		"a number for a name": `{1:{}}`,
		"an end too early":    `{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`,
	} {
		if got, err := parseHeader([]byte(header), 2); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := NewWeights([]Tensor{{Name: "x"}, {Name: "x"}}); err == nil {
		t.Error("a tensor that is there twice is taken")
	}
}

func TestIndexRefuses(t *testing.T) {
	for _, text := range []string{``, `{`, `{}`, `{"weight_map": {}}`, `{"weight_map": {"a": "../../x.safetensors"}}`, `{"weight_map": {"a": "/etc/x.safetensors"}}`, `{"weight_map": {"a": "x.bin"}}`} {
		if got, err := parseIndex([]byte(text)); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestWeightsPerCard(t *testing.T) {
	const (
		vocab = 128 * 64 * 2
		norms = 5 * 64 * 2
		q     = 64 * 64 * 2
		kv    = 32 * 64 * 2
		wide  = 256 * 64 * 2
	)
	for _, c := range []struct {
		name, config string
		more         []Tensor
		launch       Launch
		want         int64
	}{
		{"one card", tiny, nil, Launch{}, 2*vocab + norms + 2*(2*q+2*kv+3*wide)},
		{"two", tiny, nil, Launch{TensorParallel: 2}, vocab + norms + (2*q + 2*kv + 3*wide)},
		{"eight: each head of keys is on two", tiny, nil, Launch{TensorParallel: 8}, vocab/4 + norms + (2*q+3*wide)/4 + 2*2*kv/4},
		{"tied", strings.Replace(tiny, `{`, `{"tie_word_embeddings": true, `, 1), nil, Launch{}, vocab + norms + 2*(2*q+2*kv+3*wide)},
		{"in 32 bits", tiny, nil, Launch{DType: "float32"}, 2 * (2*vocab + norms + 2*(2*q+2*kv+3*wide))},
		{
			"what is not loaded", tiny,
			[]Tensor{tensor("mtp.layers.0.fc.weight", "BF16", 64, 64), tensor("model.layers.2.mlp.up_proj.weight", "BF16", 64, 64), tensor("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 4)},
			Launch{},
			2*vocab + norms + 2*(2*q+2*kv+3*wide),
		},
		{
			"plain numbers are served in the model's type, scales as they are", tiny,
			[]Tensor{tensor("model.layers.0.mlp.x.weight", "F32", 10), tensor("model.layers.0.mlp.x.weight_scale_inv", "F32", 10), tensor("model.layers.0.mlp.y.weight", "F8_E4M3", 10)},
			Launch{},
			2*vocab + norms + 2*(2*q+2*kv+3*wide) + 20 + 40 + 10,
		},
		{
			"on each card", tiny,
			[]Tensor{
				tensor("model.layers.0.mlp.gate.weight", "BF16", 8, 64), tensor("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "BF16", 8, 64),
				tensor("model.layers.0.self_attn.o_proj.bias", "BF16", 64), tensor("vision_tower.layers.0.q_proj.weight", "BF16", 8, 64), tensor("model.layers.0.novelty.weight", "BF16", 8, 64),
			},
			Launch{TensorParallel: 2},
			vocab + norms + (2*q + 2*kv + 3*wide) + 4*8*64*2 + 64*2,
		},
		{
			"split", tiny,
			[]Tensor{
				tensor("model.layers.0.mlp.experts.7.w1.qweight", "I32", 8, 64), tensor("model.layers.0.mlp.experts.gate_up_proj", "BF16", 4, 8, 64),
				tensor("model.layers.0.self_attn.q_proj.bias", "BF16", 64), tensor("model.layers.0.linear_attn.A_log", "F32", 8),
			},
			Launch{TensorParallel: 2},
			vocab + norms + (2*q + 2*kv + 3*wide) + 8*64*4/2 + 4*8*64*2/2 + 64 + 16,
		},
		{
			"queries, keys and values in one", tiny,
			[]Tensor{tensor("model.layers.0.self_attn.qkv_proj.weight", "BF16", 128, 64)},
			Launch{TensorParallel: 8}, // one head of queries and one each of keys and values, of sixteen
			vocab/4 + norms + (2*q+3*wide)/4 + 2*2*kv/4 + 128*64*2*3/16,
		},
		{
			"queries, keys and values in one, on two cards", tiny,
			[]Tensor{tensor("model.layers.0.self_attn.qkv_proj.weight", "BF16", 128, 64)},
			Launch{TensorParallel: 2},
			vocab + norms + (2*q + 2*kv + 3*wide) + 128*64*2/2,
		},
		{
			"layers of an encoder are not a drafter's", tiny,
			[]Tensor{tensor("model.encoder.layers.30.fc.weight", "BF16", 8, 64), tensor("perceiver.layers.9.k_proj.weight", "BF16", 8, 64)},
			Launch{},
			2*vocab + norms + 2*(2*q+2*kv+3*wide) + 2*8*64*2,
		},
		{"a language model alone", tiny, []Tensor{tensor("visual.blocks.0.attn.qkv.weight", "BF16", 64, 64)}, Launch{LanguageOnly: true}, 2*vocab + norms + 2*(2*q+2*kv+3*wide)},
		{"a vocabulary is rounded up to 64", strings.Replace(tiny, `{`, `{"tie_word_embeddings": true, `, 1), []Tensor{tensor("model.extra.embed_tokens.weight", "BF16", 65, 64)}, Launch{}, 2*vocab + norms + 2*(2*q+2*kv+3*wide)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := tinyWeights(t, c.more...).PerCard(config(t, c.config), c.launch)
			if err != nil || got != c.want {
				t.Errorf("%d, want %d (%v)", got, c.want, err)
			}
		})
	}
}

func TestCardsShareNothingLess(t *testing.T) {
	w, c := tinyWeights(t), config(t, tiny)
	whole, _ := w.PerCard(c, Launch{})
	last := whole
	for cards := 2; cards <= 8; cards *= 2 {
		got, err := w.PerCard(c, Launch{TensorParallel: cards})
		if err != nil || got > last || got*int64(cards) < whole {
			t.Errorf("%d cards: %d each, of %d (%v)", cards, got, whole, err)
		}
		last = got
	}
}

func TestWeightsThatAreAnotherModels(t *testing.T) {
	c := config(t, tiny)
	for name, w := range map[string][]Tensor{
		"none":            nil,
		"too few layers":  tinyTensors()[:12],
		"other keys":      append(tinyTensors()[3:], tensor("language_model.model.layers.1.self_attn.k_proj.weight", "BF16", 16, 64)),
		"other keys, F32": {tensor("model.layers.1.self_attn.k_proj.weight", "F32", 64, 64)},
	} {
		weights, err := NewWeights(w)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Estimate(c, weights, Launch{MaxModelLen: 128}); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	latent := config(t, strings.Replace(deepseekV3, `"num_hidden_layers": 61`, `"num_hidden_layers": 1`, 1))
	for rows, good := range map[int64]bool{576: true, 512: false} {
		w, _ := NewWeights([]Tensor{tensor("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "F8_E4M3", rows, 7168)})
		if err := w.agree(latent); (err == nil) != good {
			t.Errorf("%d rows: %v", rows, err)
		}
	}
	// Packed weights tell nothing by their shape.
	w := tinyWeights(t, tensor("language_model.layers.0.self_attn.k_proj.weight", "U8", 5, 5))
	if err := w.agree(c); err != nil {
		t.Error(err)
	}
}

// Lengths that lie cost no memory.
func TestHeadersThatLieAllocateLittle(t *testing.T) {
	gguf := func(tail ...any) []byte {
		b := put([]byte("GGUF"), uint32(3))
		for _, v := range tail {
			switch v := v.(type) {
			case uint32:
				b = put(b, v)
			case uint64:
				b = put(b, v)
			case string:
				b = putText(b, v)
			}
		}
		return b
	}
	for name, b := range map[string][]byte{
		"safetensors":      append(binary.LittleEndian.AppendUint64(nil, maxHeader), '{'),
		"tensors":          gguf(uint64(1<<50), uint64(0)),
		"facts":            gguf(uint64(0), uint64(maxGGUFFacts)),
		"a key":            gguf(uint64(0), uint64(1), uint64(1<<50)),
		"a text":           gguf(uint64(0), uint64(1), "a", uint32(8), uint64(1<<50)),
		"a list of texts":  gguf(uint64(0), uint64(1), "a", uint32(9), uint32(8), uint64(1<<50)),
		"a list":           gguf(uint64(0), uint64(1), "a", uint32(9), uint32(4), uint64(1<<27)),
		"sides":            gguf(uint64(1), uint64(0), "a", uint32(1<<31)),
		"a tensor's name":  gguf(uint64(1), uint64(0), uint64(1<<50)),
		"a side of it all": gguf(uint64(1), uint64(0), "a", uint32(1), uint64(1<<39), uint32(0), uint64(0)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const fileSize = 1 << 40 // as a hub may say
		var err error
		if name == "safetensors" {
			var n int64
			if n, err = headerLength(b, fileSize); err == nil {
				_, err = parseHeader(b[8:], fileSize-8-n)
			}
		} else {
			_, err = parseGGUF(bytes.NewReader(b), fileSize)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; err == nil || got > 4<<20 {
			t.Errorf("%s: %d bytes were allocated for %d (%v)", name, got, len(b), err)
		}
	}
}

func FuzzSafetensors(f *testing.F) {
	f.Add(file(tinyTensors()...))
	f.Add(file())
	f.Add(append(binary.LittleEndian.AppendUint64(nil, math.MaxInt64), '{'))
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 60), `{"x":{"dtype":"BF16","shape":[1,0,9],"data_offsets":[0,0]}}   `...))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, err := parse(b)
		if err != nil {
			return
		}
		n, _ := headerLength(b, int64(len(b)))
		if w := (Weights{Tensors: tensors}); w.Bytes() != int64(len(b))-8-n {
			t.Fatalf("%d bytes of tensors, %d of data", w.Bytes(), int64(len(b))-8-n)
		}
	})
}
