package footprint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"
)

func put[T any](b []byte, v T) []byte { b, _ = binary.Append(b, binary.LittleEndian, v); return b }

func putText(b []byte, s string) []byte { return append(put(b, uint64(len(s))), s...) }

func ggufBytes(version uint32, facts []any, tensors []Tensor) []byte {
	b := put(put(put([]byte("GGUF"), version), uint64(len(tensors))), uint64(len(facts)/2))
	for i := 0; i < len(facts); i += 2 {
		b = putText(b, facts[i].(string))
		switch v := facts[i+1].(type) {
		case uint32:
			b = put(put(b, uint32(4)), v)
		case uint16:
			b = put(put(b, uint32(2)), v)
		case int32:
			b = put(put(b, uint32(5)), v)
		case float32:
			b = put(put(b, uint32(6)), v)
		case bool:
			b = put(put(b, uint32(7)), v)
		case string:
			b = putText(put(b, uint32(8)), v)
		case []string:
			b = put(put(put(b, uint32(9)), uint32(8)), uint64(len(v)))
			for _, s := range v {
				b = putText(b, s)
			}
		case []uint32:
			b = put(put(put(put(b, uint32(9)), uint32(4)), uint64(len(v))), v)
		}
	}
	offset := uint64(0)
	for _, t := range tensors {
		b = put(putText(b, t.Name), uint32(len(t.Shape)))
		for i := range t.Shape {
			b = put(b, uint64(t.Shape[len(t.Shape)-1-i]))
		}
		for number, kind := range ggmlTypes {
			if kind.name == t.DType {
				b = put(b, number)
			}
		}
		b = put(b, offset)
		offset += uint64(ceilDiv(t.Bytes, 32) * 32)
	}
	return append(append(b, make([]byte, (32-len(b)%32)%32)...), make([]byte, offset)...)
}

// packed is a GGUF tensor whose bytes follow from its shape.
func packed(name, dtype string, shape ...int64) Tensor {
	t := Tensor{Name: name, DType: dtype, Shape: shape}
	for _, kind := range ggmlTypes {
		if kind.name == dtype {
			t.Bytes = t.Elements() / kind.block * kind.bytes
		}
	}
	return t
}

var ggufFacts = []any{
	"general.architecture", "qwen3", "qwen3.block_count", uint32(1), "qwen3.embedding_length", uint32(256),
	"qwen3.attention.head_count", uint32(8), "qwen3.attention.head_count_kv", uint32(2), "qwen3.attention.key_length", uint32(32),
	"qwen3.attention.value_length", uint32(32), "qwen3.feed_forward_length", uint32(512), "tokenizer.ggml.tokens",
	[]string{"a", "b", "c"},
	"some.flag", true, "some.number", float32(1.5), "some.small", int32(-3), "some.list",
	[]uint32{1, 2},
	"long", strings.Repeat("x", 1<<17),
}

func ggufTensors() []Tensor {
	return []Tensor{
		packed("token_embd.weight", "q8_0", 3, 256), packed("blk.0.attn_k.weight", "q4_k", 64, 256),
		packed("blk.0.attn_q.weight", "q4_k", 256, 256), packed("blk.0.attn_norm.weight", "F32", 256), packed("blk.0.ffn_up.weight", "q6_k", 512, 256),
	}
}

func TestGGUFHeader(t *testing.T) {
	b := ggufBytes(3, ggufFacts, ggufTensors())
	// However the bytes come.
	h, err := parseGGUF(iotest.OneByteReader(bytes.NewReader(b)), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(h.tensors) != fmt.Sprint(ggufTensors()) {
		t.Errorf("%v", h.tensors)
	}
	if h.tensors[1].Bytes != 64*144 || h.tensors[0].Bytes != 3*8*34 {
		t.Errorf("%v", h.tensors)
	}
	c, err := h.config()
	if err != nil || c.Type != "qwen3" || c.Vocab != 3 || c.Layers[0] != (Layer{Kind: Full, KVHeads: 2, KeyDim: 32, ValueDim: 32}) {
		t.Errorf("%+v, %v", c, err)
	}
	for key, want := range map[string]any{"some.flag": true, "some.number": 1.5, "some.small": int64(-3), "some.list": listLength(2), "long": ""} {
		if h.facts[key] != want {
			t.Errorf("%s is %v", key, h.facts[key])
		}
	}
	w, err := NewWeights(h.tensors)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Estimate(c, w, Launch{MaxModelLen: 4096, Reserved: 2, TensorParallel: 2})
	want := int64(32*8*34) + 32*144 + 128*144 + 256*2 + 256*210
	if err != nil || p.Weights != want {
		t.Errorf("%d bytes on each card, want %d (%v)", p.Weights, want, err)
	}
	w.Tensors[0].Shape[0] = 63
	if _, err := Estimate(c, w, Launch{MaxModelLen: 4096}); err == nil {
		t.Error("keys of another model are taken")
	}
}

func TestGGUFLength(t *testing.T) {
	for _, c := range []struct {
		more []any
		want int
	}{
		{nil, 0},
		{[]any{"qwen3.context_length", uint32(40960)}, 40960},
		{[]any{"llama.context_length", uint32(40960)}, 0},
		{[]any{"qwen3.context_length", "long"}, 0},
		{[]any{"qwen3.context_length", uint32(1 << 31)}, 0},
		{[]any{"qwen3.context_length", uint32(40960), "qwen3.rope.scaling.factor", float32(1)}, 40960},
		{[]any{"qwen3.context_length", uint32(131072), "qwen3.rope.scaling.factor", float32(4)}, 0},
	} {
		b := ggufBytes(3, append(append([]any{}, ggufFacts...), c.more...), ggufTensors())
		m, err := LoadGGUF(t.Context(), NewFolder(folder(t, t.TempDir(), map[string][]byte{"m.gguf": b}), ""), "")
		if err != nil || m.Native != c.want {
			t.Errorf("%v: %d tokens (%v)", c.more, m.Native, err)
		}
	}
}

func TestGGUFRefuses(t *testing.T) {
	whole := ggufBytes(3, ggufFacts, ggufTensors())
	huge := put(put(put([]byte("GGUF"), uint32(3)), uint64(1<<60)), uint64(0))
	list := putText(put(put(put([]byte("GGUF"), uint32(3)), uint64(0)), uint64(1)), "a")
	for name, b := range map[string][]byte{
		"nothing":                {},
		"another format":         []byte("GGML...................."),
		"an old version":         ggufBytes(1, ggufFacts, ggufTensors()),
		"cut data":               whole[:len(whole)-32],
		"tensors that never end": huge,
		"facts that never end":   put(put(put([]byte("GGUF"), uint32(3)), uint64(0)), uint64(1<<60)),
		"a text that never ends": put(put(put(put([]byte("GGUF"), uint32(3)), uint64(0)), uint64(1)), uint64(1<<63)),
		"a list that never ends": put(put(put(bytes.Clone(list), uint32(9)), uint32(8)), uint64(1<<63)),
		"a long list of numbers": put(put(put(bytes.Clone(list), uint32(9)), uint32(4)), uint64(1<<63)),
		"a list of lists":        put(put(put(bytes.Clone(list), uint32(9)), uint32(9)), uint64(1)),
		"an unknown fact":        put(bytes.Clone(list), uint32(99)),
		"an unknown packing":     append(put(put(put(putText(put(put(put([]byte("GGUF"), uint32(3)), uint64(1)), uint64(0)), "a"), uint32(1)), uint64(256)), uint32(200)), make([]byte, 1024)...),
		"rows that do not fit":   ggufBytes(3, nil, []Tensor{packed("a", "q4_k", 2, 100)}),
	} {
		if h, err := parseGGUF(bytes.NewReader(b), int64(len(b))); err == nil {
			t.Errorf("%s: %v", name, h)
		}
	}
	for n := range whole[:400] {
		if _, err := parseGGUF(bytes.NewReader(whole[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d bytes are taken for a file", n)
		}
	}
	change := func(key string, value any) []any {
		facts := append([]any{}, ggufFacts...)
		for i := 0; i < len(facts); i += 2 {
			if facts[i] == key {
				facts[i+1] = value
				return facts
			}
		}
		return append(facts, key, value)
	}
	for key, value := range map[string]any{
		"general.architecture": "gemma3", "qwen3.attention.sliding_window": uint32(4096), "qwen3.attention.head_count_kv": []uint32{2, 4},
		"qwen3.attention.value_length": uint32(64), "qwen3.block_count": uint32(0), "qwen3.attention.head_count": uint32(0),
	} {
		b := ggufBytes(3, change(key, value), ggufTensors())
		h, err := parseGGUF(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := h.config(); err == nil {
			t.Errorf("%s %v: %+v", key, value, c)
		}
	}
}

var bartowski = []string{
	"README.md", "M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-Q4_K.gguf", "M-IQ4_XS.gguf", "M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf",
	"mmproj-M-f16.gguf", "M.imatrix.gguf", "BF16/M-BF16-00001-of-00002.gguf", "BF16/M-BF16-00002-of-00002.gguf", "M-UD-Q4_K_XL.gguf", "Q6_K/model.gguf",
}

func TestPick(t *testing.T) {
	for want, files := range map[string]string{
		"Q4_K_M":                          "[M-Q4_K_M.gguf]",
		"q4_k_s":                          "[M-Q4_K_S.gguf]",
		"Q4_K":                            "[M-Q4_K.gguf]",
		"IQ4_XS":                          "[M-IQ4_XS.gguf]",
		"Q8_0":                            "[M-Q8_0-00001-of-00002.gguf M-Q8_0-00002-of-00002.gguf]",
		"M-Q8_0-00002-of-00002.gguf":      "[M-Q8_0-00001-of-00002.gguf M-Q8_0-00002-of-00002.gguf]",
		"bf16":                            "[BF16/M-BF16-00001-of-00002.gguf BF16/M-BF16-00002-of-00002.gguf]",
		"UD-Q4_K_XL":                      "[M-UD-Q4_K_XL.gguf]",
		"Q6_K":                            "[Q6_K/model.gguf]",
		"M-Q4_K_M.gguf":                   "[M-Q4_K_M.gguf]",
		"BF16/M-BF16-00001-of-00002.gguf": "[BF16/M-BF16-00001-of-00002.gguf BF16/M-BF16-00002-of-00002.gguf]",
	} {
		got, err := Pick(bartowski, want)
		if err != nil || fmt.Sprint(got.Files) != files {
			t.Errorf("%s: %v, %v", want, got, err)
		}
	}
	for _, want := range []string{"", "Q4", "Q4_K_XL", "XS", "K_M", "Q4_K_M.gguf", "f16", "M", "mmproj-M-f16.gguf"} {
		got, err := Pick(bartowski, want)
		if err == nil || !strings.Contains(err.Error(), "Q4_K_M (M-Q4_K_M.gguf)") || strings.Contains(err.Error(), "mmproj-M-f16.gguf (") {
			t.Errorf("%q: %v, %v", want, got, err)
		}
	}
	if got, err := Pick([]string{"only.gguf", "x.txt"}, ""); err != nil || got.Files[0] != "only.gguf" {
		t.Errorf("%v, %v", got, err)
	}
	for name, files := range map[string][]string{
		"nothing":          {"a.txt"},
		"twice":            {"a-Q4_0.gguf", "b-Q4_0.gguf"},
		"a part missing":   {"a-Q4_0-00001-of-00003.gguf", "a-Q4_0-00003-of-00003.gguf"},
		"the last missing": {"a-Q4_0-00001-of-00002.gguf"},
		"two splits":       {"a-Q4_0-00001-of-00002.gguf", "a-Q4_0-00002-of-00003.gguf"},
	} {
		if got, err := Pick(files, "Q4_0"); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(ggufBytes(3, ggufFacts, ggufTensors()))
	f.Add(ggufBytes(2, nil, nil))
	f.Add(put(put(put([]byte("GGUF"), uint32(3)), uint64(1<<60)), uint64(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseGGUF(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		for _, tensor := range h.tensors {
			if tensor.Bytes < 0 || tensor.Bytes > int64(len(b)) {
				t.Fatalf("%v in %d bytes", tensor, len(b))
			}
		}
		_, _ = h.config()
	})
}

func FuzzPick(f *testing.F) {
	f.Add(strings.Join(bartowski, "\n"), "Q4_K_M")
	f.Fuzz(func(t *testing.T, names, want string) {
		list := strings.Split(names, "\n")
		c, err := Pick(list, want)
		if err == nil && (len(c.Files) == 0 || want != "" && !strings.EqualFold(c.Quant, want) && !strings.Contains(names, want)) {
			t.Fatalf("%q of %q: %v", want, names, c)
		}
	})
}
