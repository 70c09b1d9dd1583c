package footprint

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

const testGiB = 1 << 30

func estimate(t testing.TB, text string, w Weights, l Launch) Parts {
	t.Helper()
	p, err := Estimate(config(t, text), w, l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEstimate(t *testing.T) {
	w := tinyWeights(t)
	l := Launch{MaxModelLen: 4096, MaxNumSeqs: 8, MaxNumBatchedTokens: 8192, Reserved: 3}
	p := estimate(t, tiny, w, l)
	page := int64(2 * 4 * 16 * 2 * 16) // layers, heads, elements, bytes, tokens
	if p.Weights != w.Bytes() || p.KVBytes != page*(3*256+1) || p.KVLeast != page*257 {
		t.Errorf("%+v", p)
	}
	if p.Activation != 1024*mib+slack || p.Graphs != graphBytes || p.Context != contextBytes {
		t.Errorf("%+v", p)
	}
	if p.Total() != p.Weights+p.KVBytes+p.Rest() || p.Rest() != p.Activation+p.Graphs+p.Context {
		t.Errorf("%+v", p)
	}
	if s := p.String(); !strings.Contains(s, "3 x 4096 tokens") {
		t.Error(s)
	}
	l.EnforceEager, l.TensorParallel = true, 2
	if q := estimate(t, tiny, w, l); q.Graphs != 0 || q.Context != contextBytes+commBytes || q.KVBytes != p.KVBytes/2 {
		t.Errorf("%+v", q)
	}
	// A sampler of many sequences takes more than the batch.
	l = Launch{MaxModelLen: 4096, MaxNumSeqs: 1024, MaxNumBatchedTokens: 2048}
	if q := estimate(t, strings.Replace(tiny, `"vocab_size": 128`, `"vocab_size": 151936`, 1), w, l); q.Activation < 2*testGiB || q.Reserved != 1024 {
		t.Errorf("%+v", q)
	}
	if q := estimate(t, strings.Replace(tiny, `{`, `{"vision_config": {}, `, 1), w, l); q.Activation != estimate(t, tiny, w, l).Activation+towerActivation {
		t.Errorf("%+v", q)
	}
	if q := estimate(t, `{"model_type": "xlm-roberta", "num_hidden_layers": 2}`, w, Launch{MaxModelLen: 8192}); q.KVBytes != 0 || q.KVLeast != 0 {
		t.Errorf("%+v", q)
	}
}

func TestBatchDefaults(t *testing.T) {
	for _, c := range []struct {
		total        int64
		card         string
		tokens, seqs int
	}{
		{0, "", 2048, 256},
		{24 * testGiB, "NVIDIA GeForce RTX 4090", 2048, 256},
		{80 * testGiB, "NVIDIA A100-SXM4-80GB", 2048, 256},
		{80 * testGiB, "NVIDIA H100", 8192, 1024},
		{180 * testGiB, "NVIDIA B200", 16384, 1024},
	} {
		l, err := Launch{MaxModelLen: 100000, CardTotal: c.total, Card: c.card}.complete()
		if err != nil || l.MaxNumBatchedTokens != c.tokens || l.MaxNumSeqs != c.seqs {
			t.Errorf("%+v, %v, want %d and %d", l, err, c.tokens, c.seqs)
		}
	}
	if l, _ := (Launch{MaxModelLen: 100}).complete(); l.Reserved != DefaultReserved {
		t.Errorf("room for %d", l.Reserved)
	}
	if l, _ := (Launch{MaxModelLen: 100, MaxNumSeqs: 2}).complete(); l.MaxNumBatchedTokens != 200 || l.Reserved != 2 {
		t.Errorf("%+v", l)
	}
}

// What an estimate depends on, it grows with.
func TestEstimateGrows(t *testing.T) {
	w := tinyWeights(t)
	draw := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		l := Launch{MaxModelLen: 1 + draw.IntN(1<<17), MaxNumSeqs: 1 + draw.IntN(512), MaxNumBatchedTokens: 1 + draw.IntN(1<<14), Reserved: 1 + draw.IntN(16)}
		for _, text := range []string{tiny, strings.Replace(tiny, `{`, `{"sliding_window": 512, `, 1)} {
			p := estimate(t, text, w, l)
			for i, grow := range []func(*Launch){
				func(l *Launch) { l.MaxModelLen += draw.IntN(1000) }, func(l *Launch) { l.MaxNumSeqs += draw.IntN(1000) },
				func(l *Launch) { l.MaxNumBatchedTokens += draw.IntN(1000) }, func(l *Launch) { l.Reserved += draw.IntN(10) },
			} {
				more := l
				grow(&more)
				if q := estimate(t, text, w, more); q.Total() < p.Total() {
					t.Fatalf("%d: %+v takes %s, %+v takes %s", i, l, p, more, q)
				}
			}
		}
	}
}

func TestSignaturesDependOnWhatTheyShould(t *testing.T) {
	w := tinyWeights(t)
	l := Launch{MaxModelLen: 4096, MaxNumSeqs: 8, Server: "vllm 1", Card: "H200"}
	base := estimate(t, tiny, w, l).Signatures
	if again := estimate(t, tiny, tinyWeights(t), l).Signatures; again != base {
		t.Errorf("%+v and %+v", base, again)
	}
	for name, c := range map[string]struct {
		change func(*Launch)
		same   []Part
	}{
		"max_model_len":          {func(l *Launch) { l.MaxModelLen = 2048 }, []Part{PartWeights, PartActivation, PartGraphs, PartContext, PartRest}},
		"max_num_seqs":           {func(l *Launch) { l.MaxNumSeqs = 9 }, []Part{PartWeights, PartContext, PartKV}},
		"max_num_batched_tokens": {func(l *Launch) { l.MaxNumBatchedTokens = 1024 }, []Part{PartWeights, PartGraphs, PartContext, PartKV}},
		"reserved":               {func(l *Launch) { l.Reserved = 2 }, []Part{PartWeights, PartActivation, PartGraphs, PartContext, PartRest, PartKV}},
		"eager":                  {func(l *Launch) { l.EnforceEager = true }, []Part{PartWeights, PartKV}},
		"kv type":                {func(l *Launch) { l.KVCacheDType = "fp8" }, []Part{PartWeights, PartContext}},
		"cards":                  {func(l *Launch) { l.TensorParallel = 2 }, nil},
		"server":                 {func(l *Launch) { l.Server = "vllm 2" }, nil},
		"card":                   {func(l *Launch) { l.Card = "A100" }, nil},
		"type":                   {func(l *Launch) { l.DType = "float32" }, nil},
		"other arguments":        {func(l *Launch) { l.Other = []string{"--x"} }, nil},
		"no other arguments":     {func(l *Launch) { l.Other = []string{} }, partNames},
		"sleep":                  {func(l *Launch) { l.Sleep = true }, []Part{PartWeights, PartActivation, PartGraphs, PartKV}},
		"asked for":              {func(l *Launch) { l.Fixed = true }, partNames},
	} {
		other := l
		c.change(&other)
		got := estimate(t, tiny, w, other).Signatures
		for _, part := range partNames {
			if same := got.Of(part) == base.Of(part); same != slices.Contains(c.same, part) {
				t.Errorf("%s: the signature of %s is the same: %v", name, part, same)
			}
		}
	}
	// The workspace of latent attention grows with the context.
	text := strings.Replace(deepseekV3, `"num_hidden_layers": 61`, `"num_hidden_layers": 1`, 1)
	one := Weights{Tensors: []Tensor{tensor("x", "U8", 1)}}
	l.MaxNumBatchedTokens = 2048
	short, long := l, l
	long.MaxModelLen *= 2
	if a, b := estimate(t, text, one, short).Signatures, estimate(t, text, one, long).Signatures; a.Activation == b.Activation || a.Weights != b.Weights {
		t.Errorf("%+v and %+v", a, b)
	}
	more := estimate(t, tiny, tinyWeights(t, tensor("more", "U8", 1)), l).Signatures
	for _, part := range partNames {
		if more.Of(part) == base.Of(part) {
			t.Errorf("other weights have the same %s", part)
		}
	}
	if (Signatures{}).Of("nothing") != "" {
		t.Error("nothing has a signature")
	}
}

func TestEstimateRefusesWhatNoCardHas(t *testing.T) {
	w, err := NewWeights([]Tensor{{Name: "x", DType: "U8", Shape: []int64{1 << 50}, Bytes: 1 << 50}})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Estimate(config(t, tiny), w, Launch{MaxModelLen: 10}); !errors.Is(err, ErrCannot) {
		t.Errorf("%v, %v", p, err)
	}
	// A cache for more sequences than any card holds is a figure, not an error:
	// fewer may fit.
	if p, err := Estimate(config(t, tiny), tinyWeights(t), Launch{MaxModelLen: 1 << 20, Reserved: maxTokens}); err != nil || p.Total() <= 0 {
		t.Errorf("%v, %v", p, err)
	}
}

func ExampleParts() {
	kv := KV{Terms: []Term{{Bytes: 2 << 20, Block: 16}}, Null: 2 << 20}
	p := Parts{Weights: 15 << 30, Activation: 1 << 30, Graphs: 717 << 20, Context: 512 << 20, KV: kv, KVBytes: kv.Pool(8192, 4), MaxModelLen: 8192, Reserved: 4}
	fmt.Println(p)
	// Output: weights 15.00 GiB, kv cache 4.00 GiB for 4 x 8192 tokens, activation 1.00 GiB, graphs 0.70 GiB, context 0.50 GiB
}
