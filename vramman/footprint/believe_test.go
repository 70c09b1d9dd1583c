package footprint

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// beliefs are footprints of several kinds of models, estimated, and with a
// cache that was seen to take more than the formula says.
func beliefs(t testing.TB, l Launch) map[string]Belief {
	t.Helper()
	all := map[string]Belief{}
	one := Weights{Tensors: []Tensor{tensor("x", "U8", 5<<30)}}
	for name, text := range map[string]string{"plain": llama8B, "windows": gemma4MoE, "states": qwen35, "encoder": `{"model_type": "xlm-roberta", "num_hidden_layers": 2}`} {
		p := estimate(t, text, one, l)
		all[name] = Believe(p, Measured{})
		if len(p.KV.Terms) > 0 {
			all[name+", measured"] = Believe(p, with(t, Measured{}, Record{Part: PartKV, Signature: p.Signatures.KV, Bytes: p.KV.Sequence(l.MaxModelLen) * 3 / 2}))
		}
	}
	all["remembered"], _ = Remember(Unknown(nil, l), remembered(t, Measured{}, Unknown(nil, l),
		Observation{Used: 40 << 30, Facts: Facts{Weights: 9 << 30, KV: 20 << 30, Concurrency: 3.5}}))
	return all
}

func TestReservationFits(t *testing.T) {
	const seed = 5
	draw := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		l := Launch{MaxModelLen: 512 << draw.IntN(8), MaxNumSeqs: 1 + draw.IntN(64), MaxNumBatchedTokens: 2048}
		for name, b := range beliefs(t, l) {
			most := draw.Int64N(b.Total() + b.Total()/2)
			got, ok := b.Fit(most)
			switch {
			case b.Total() <= most:
				if !ok || !reflect.DeepEqual(got, b) {
					t.Fatalf("seed %d, %s: what fits was changed: %s", seed, name, got)
				}
			case ok:
				if got.Total() > most || got.Reserved < 1 || got.Reserved >= b.Reserved {
					t.Fatalf("seed %d, %s: %s in %d", seed, name, got, most)
				}
				if more := b.Reserve(got.Reserved + 1); more.Total() <= most {
					t.Fatalf("seed %d, %s: one more would fit into %d: %s", seed, name, most, got)
				}
			default:
				if got.Reserved != 1 || got.Total() <= most {
					t.Fatalf("seed %d, %s: %s does not fit into %d", seed, name, got, most)
				}
			}
			if got.KVBytes < got.KVLeast || got.KVLeast != b.KVLeast {
				t.Fatalf("seed %d, %s: a cache of %d, of which one sequence takes %d", seed, name, got.KVBytes, got.KVLeast)
			}
			fixed := b
			fixed.Fixed = true
			if got, ok := fixed.Fit(most); ok != (b.Total() <= most) || !reflect.DeepEqual(got, fixed) {
				t.Fatalf("seed %d, %s: what was asked for became %s", seed, name, got)
			}
		}
	}
}

// It makes no difference whether less is reserved before or after measurements
// are put in.
func TestReservationAndMeasurementKnowNoOrder(t *testing.T) {
	l := Launch{MaxModelLen: 32768, MaxNumSeqs: 16, MaxNumBatchedTokens: 2048}
	for name, text := range map[string]string{"plain": llama8B, "windows": gemma4MoE, "states": qwen35} {
		p := estimate(t, text, Weights{Tensors: []Tensor{tensor("x", "U8", 1)}}, l)
		for _, bytes := range []int64{p.KV.Sequence(32768) / 2, p.KV.Sequence(32768), 2 * p.KV.Sequence(32768)} {
			m := with(t, Measured{}, Record{Part: PartKV, Signature: p.Signatures.KV, Bytes: bytes})
			for n := 1; n <= 20; n++ {
				after, before := Believe(p, m).Reserve(n), Believe(p.Reserve(n), m)
				if !reflect.DeepEqual(after, before) {
					t.Fatalf("%s: %d sequences: %+v\n%+v", name, n, after, before)
				}
				if back := after.Reserve(7).Reserve(n); !reflect.DeepEqual(back, after) {
					t.Fatalf("%s: %d sequences after seven: %+v\n%+v", name, n, back, after)
				}
			}
		}
	}
	if p := (Parts{}).Reserve(-3); p.Reserved != 1 {
		t.Errorf("%d sequences", p.Reserved)
	}
}

// The log rounds: a hundredth more than the formula is the formula.
func TestRoundingIsNoMeasurement(t *testing.T) {
	p := estimate(t, llama8B, Weights{Tensors: []Tensor{tensor("x", "U8", 1)}}, Launch{MaxModelLen: 8192, Reserved: 3})
	one := p.KV.Sequence(8192)
	for _, c := range []struct {
		bytes   int64
		changed bool
	}{{one, false}, {one + one/200, false}, {one + one/50, true}} {
		b := Believe(p, with(t, Measured{}, Record{Part: PartKV, Signature: p.Signatures.KV, Bytes: c.bytes}))
		if (b.KVBytes != p.KVBytes) != c.changed {
			t.Errorf("%d of %d: %d of %d", c.bytes, one, b.KVBytes, p.KVBytes)
		}
	}
}

func TestBeliefInWords(t *testing.T) {
	kv := KV{Terms: []Term{{Bytes: 2 << 20, Block: 16}}, Null: 2 << 20}
	p := Parts{Weights: 15 << 30, Activation: 1 << 30, Graphs: 717 << 20, Context: 512 << 20, KV: kv, MaxModelLen: 8192, Signatures: Signatures{Weights: "w", KV: "k", Activation: "a", Graphs: "g", Context: "c"}}.Reserve(4)
	m := Measured{}
	for _, step := range []struct {
		part  Part
		bytes int64
		want  string
	}{
		{"", 0, "weights 15.00 GiB (estimated), kv cache 4.00 GiB for 4 x 8192 tokens (formula), activation 1.00 GiB (estimated), graphs 0.70 GiB (estimated), context 0.50 GiB (estimated)"},
		{PartWeights, 14 << 30, "weights 14.00 GiB (measured), kv cache 4.00 GiB for 4 x 8192 tokens (formula), activation 1.00 GiB (estimated), graphs 0.70 GiB (estimated), context 0.50 GiB (estimated)"},
		{PartGraphs, 1 << 29, "weights 14.00 GiB (measured), kv cache 4.00 GiB for 4 x 8192 tokens (formula), activation 1.00 GiB (estimated), graphs 0.50 GiB (measured), context 0.50 GiB (estimated)"},
		{PartKV, 2 << 30, "weights 14.00 GiB (measured), kv cache 8.00 GiB for 4 x 8192 tokens (measured), activation 1.00 GiB (estimated), graphs 0.50 GiB (measured), context 0.50 GiB (estimated)"},
		{PartRest, 3 << 30, "weights 14.00 GiB (measured), kv cache 8.00 GiB for 4 x 8192 tokens (measured), activation, graphs and context 3.00 GiB (measured)"},
	} {
		if step.part != "" {
			m = with(t, m, Record{Part: step.part, Signature: p.Signatures.Of(step.part), Bytes: step.bytes})
		}
		if got := Believe(p, m).String(); got != step.want {
			t.Errorf("got  %s\nwant %s", got, step.want)
		}
	}
	b := Believe(p, m)
	if b.Graphs != 1<<29 || b.Context != 512<<20 || b.Activation != 2<<30 {
		t.Errorf("of the rest the graphs have %d, the context %d, the activation %d", b.Graphs, b.Context, b.Activation)
	}
	if s := Believe(Parts{Weights: 1 << 30}, Measured{}).String(); strings.Contains(s, "cache") {
		t.Error(s)
	}
}
