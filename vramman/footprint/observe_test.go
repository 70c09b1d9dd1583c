package footprint

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var noon = time.Unix(1_800_000_000, 0)

// remembered adds an observation's records to what is measured.
func remembered(t testing.TB, m Measured, p Parts, o Observation) Measured {
	t.Helper()
	return with(t, m, p.Records("m", o, noon)...)
}

// parts names the parts of records.
func parts(records []Record) string {
	var names []string
	for _, r := range records {
		names = append(names, string(r.Part))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// What a first start shows decides what the second is charged, and each part
// outlives what it does not depend on.
func TestSecondStartIsChargedWhatTheFirstTook(t *testing.T) {
	w := tinyWeights(t)
	l := Launch{MaxModelLen: 4096, MaxNumSeqs: 8, Reserved: 2, Server: "image 1", Card: "H200"}
	p := estimate(t, tiny, w, l)
	one := p.KV.Sequence(4096)
	facts := Facts{Weights: 3 << 30, KV: 10 * one, Graphs: 1 << 28, MaxModelLen: 4096, Concurrency: 10}

	for name, rest := range map[string]int64{"less": 1 << 30, "more": 9 << 30} {
		o := Observation{Used: facts.Weights + facts.KV + rest, Facts: facts}
		m := remembered(t, Measured{}, p, o)
		b := Believe(p, m)
		if b.Weights != facts.Weights || b.Rest() != rest || b.KVBytes != p.KVBytes || b.Graphs != facts.Graphs {
			t.Errorf("%s: %s\nof %s", name, b, p)
		}
		// It grows while it serves, and does not shrink again.
		o.Used += 1 << 20
		grown := remembered(t, m, p, o)
		o.Used -= 1 << 29
		if b := Believe(p, remembered(t, grown, p, o)); b.Rest() != rest+1<<20 {
			t.Errorf("%s: after a peak %s", name, b)
		}

		longer := l
		longer.MaxModelLen = 8192
		if b := Believe(estimate(t, tiny, w, longer), m); b.Weights != facts.Weights || b.Rest() != rest || b.KVBytes <= p.KVBytes {
			t.Errorf("%s: with a longer context %s", name, b)
		}
		for change, other := range map[string]Launch{
			"image": {MaxModelLen: 4096, MaxNumSeqs: 8, Reserved: 2, Server: "image 2", Card: "H200"},
			"card":  {MaxModelLen: 4096, MaxNumSeqs: 8, Reserved: 2, Server: "image 1", Card: "A100"},
			"args":  {MaxModelLen: 4096, MaxNumSeqs: 8, Reserved: 2, Server: "image 1", Card: "H200", Other: []string{"x"}},
		} {
			q := estimate(t, tiny, w, other)
			if b := Believe(q, m); len(b.Measured) != 0 || b.Total() != q.Total() {
				t.Errorf("%s: with another %s still %s", name, change, b)
			}
		}
		// Asleep it runs with another allocator: the weights stay.
		sleeper := l
		sleeper.Sleep = true
		if b := Believe(estimate(t, tiny, w, sleeper), m); b.Weights != facts.Weights || slices.Contains(b.Measured, PartRest) {
			t.Errorf("%s: as a sleeper %s", name, b)
		}
	}
}

func TestRecordsAreOfWhatIsKnown(t *testing.T) {
	p := estimate(t, tiny, tinyWeights(t), Launch{MaxModelLen: 4096, MaxNumSeqs: 8})
	unknown := Unknown([]string{"org/name"}, Launch{MaxModelLen: 4096})
	const gib = int64(1) << 30
	whole := Facts{Weights: 3 * gib, KV: 8 * gib, Graphs: gib / 2, Tokens: 1000, MaxModelLen: 4096, Concurrency: 4}
	change := func(f func(*Facts)) Facts {
		facts := whole
		f(&facts)
		return facts
	}
	encoder := estimate(t, `{"model_type": "xlm-roberta", "num_hidden_layers": 2}`, tinyWeights(t), Launch{MaxModelLen: 8192})
	for _, c := range []struct {
		name string
		p    Parts
		o    Observation
		want string
	}{
		{"nothing", p, Observation{}, ""},
		{"no facts", p, Observation{Used: 20 * gib}, ""},
		{"no signatures", Parts{}, Observation{Used: 20 * gib, Facts: whole}, ""},
		{"all", p, Observation{Used: 13 * gib, Facts: whole}, "graphs kv rest weights"},
		{"all of an unknown model", unknown, Observation{Used: 13 * gib, Facts: whole}, "graphs kv rest weights"},
		{"no driver", p, Observation{Facts: whole}, "graphs kv weights"},
		{"no weights", p, Observation{Used: 13 * gib, Facts: change(func(f *Facts) { f.Weights = 0 })}, "graphs kv"},
		{"no cache", p, Observation{Used: 13 * gib, Facts: change(func(f *Facts) { f.KV = 0 })}, "graphs weights"},
		{"no concurrency", p, Observation{Used: 13 * gib, Facts: change(func(f *Facts) { f.Concurrency = 0 })}, "graphs rest weights"},
		{"less than one sequence", p, Observation{Used: 13 * gib, Facts: change(func(f *Facts) { f.Concurrency = 0.5 })}, "graphs rest weights"},
		{"another length", p, Observation{Used: 13 * gib, Facts: change(func(f *Facts) { f.MaxModelLen = 2048 })}, "graphs rest weights"},
		{"less than the server says", p, Observation{Used: 10 * gib, Facts: whole}, "graphs kv"},
		{"graphs larger than all the rest", p, Observation{Used: 11*gib + 1, Facts: whole}, "kv rest weights"},
		{"nothing served, less than was expected", p, Observation{Used: 12 * gib, Facts: whole, Idle: true}, "graphs kv weights"},
		{"nothing served, more than was expected", p, Observation{Used: 30 * gib, Facts: whole, Idle: true}, "graphs kv rest weights"},
		{"nothing served, nothing expected", unknown, Observation{Used: 12 * gib, Facts: whole, Idle: true}, "graphs kv rest weights"},
		{"no cache at all", encoder, Observation{Used: 4 * gib, Facts: Facts{Weights: 3 * gib}}, "rest weights"},
		{"more than any card", p, Observation{Used: 1 << 62, Facts: change(func(f *Facts) { f.Weights = 1 << 61 })}, "graphs kv"},
	} {
		records := c.p.Records("m", c.o, noon)
		if got := parts(records); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		for _, r := range records {
			if r.check() != nil || r.Model != "m" || r.Seen != noon.Unix() || r.Count != 1 {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
	}
	records := p.Records("m", Observation{Used: 13 * gib, Facts: whole}, noon)
	for part, want := range map[Part]int64{PartWeights: 3 * gib, PartKV: 2 * gib, PartGraphs: gib / 2, PartRest: 2 * gib} {
		i := slices.IndexFunc(records, func(r Record) bool { return r.Part == part })
		if records[i].Bytes != want || records[i].Signature != p.Signatures.Of(part) {
			t.Errorf("%s: %+v, want %d bytes", part, records[i], want)
		}
	}
	if r := p.Records("m", Observation{Facts: whole}, time.Time{}); r[0].Seen != 0 {
		t.Errorf("before 1970: %+v", r)
	}
}

// A model that cannot be estimated is known by what it took.
func TestUnknownModelIsRemembered(t *testing.T) {
	const gib = int64(1) << 30
	identity := []string{"org/name", "", "abc"}
	l := Launch{MaxModelLen: 4096, MaxNumSeqs: 4, Server: "image 1", Card: "H200"}
	p := Unknown(identity, l)
	if p.Total() != 0 || p.Reserved != 4 || p.MaxModelLen != 4096 {
		t.Errorf("%+v", p)
	}
	if b, ok := Remember(p, Measured{}); ok {
		t.Errorf("nothing was measured: %s", b)
	}
	o := Observation{Used: 13 * gib, Facts: Facts{Weights: 3 * gib, KV: 8 * gib, MaxModelLen: 4096, Concurrency: 4}}
	m := remembered(t, Measured{}, p, o)
	b, ok := Remember(p, m)
	if !ok || b.Weights != 3*gib || b.KVBytes != 8*gib || b.KVLeast != 2*gib || b.Rest() != 2*gib || b.Total() != 13*gib || b.Reserved != 4 {
		t.Errorf("%v, %s", ok, b)
	}
	if got, fits := b.Fit(11 * gib); !fits || got.Reserved != 3 || got.KVBytes != 6*gib {
		t.Errorf("%v, %s", fits, got)
	}
	if got, fits := b.Fit(6 * gib); fits || got.Reserved != 1 || got.Total() != 7*gib {
		t.Errorf("%v, %s", fits, got)
	}
	if s := b.String(); s != "weights 3.00 GiB (measured), kv cache 8.00 GiB for 4 x 4096 tokens (measured), activation, graphs and context 2.00 GiB (measured)" {
		t.Error(s)
	}
	for _, lack := range []func(*Facts){func(f *Facts) { f.Weights = 0 }, func(f *Facts) { f.KV = 0 }, func(f *Facts) { f.Concurrency = 0 }} {
		less := o
		lack(&less.Facts)
		if b, ok := Remember(p, remembered(t, Measured{}, p, less)); ok {
			t.Errorf("of %+v: %s", less, b)
		}
	}
	// The weights' measurement outlives a change of length here too, and nothing
	// that is another model's is believed.
	longer := l
	longer.MaxModelLen = 8192
	if got, base := Unknown(identity, longer).Signatures, p.Signatures; got.Weights != base.Weights || got.KV == base.KV || got.Activation == base.Activation {
		t.Errorf("%+v and %+v", got, base)
	}
	more := l
	more.Reserved, more.Fixed = 7, true
	if got := Unknown(identity, more); got.Signatures != p.Signatures || got.Reserved != 7 || !got.Fixed {
		t.Errorf("a reservation changes what was measured: %+v", got)
	}
	for name, other := range map[string]Parts{
		"revision": Unknown([]string{"org/name", "", "def"}, l),
		"file":     Unknown([]string{"org/name", "x", "abc"}, l),
		"nothing":  Unknown(nil, l),
		"batch":    Unknown(identity, Launch{MaxModelLen: 4096, MaxNumSeqs: 5, Server: "image 1", Card: "H200"}),
		"image":    Unknown(identity, Launch{MaxModelLen: 4096, MaxNumSeqs: 4, Server: "image 2", Card: "H200"}),
		"estimate": estimate(t, tiny, tinyWeights(t), l),
	} {
		if b, ok := Remember(other, m); ok {
			t.Errorf("another %s is believed to be %s", name, b)
		}
	}
	if fmt.Sprint(Unknown(nil, l).Signatures) != fmt.Sprint(Unknown([]string{}, l).Signatures) {
		t.Error("nothing is not nothing")
	}
}

// Whatever is seen, what is charged is never less, and what was seen before is
// not forgotten.
func TestNeverChargedLessThanMeasured(t *testing.T) {
	const seed = 21
	draw := rand.New(rand.NewPCG(seed, 0))
	p := estimate(t, llama8B, Weights{Tensors: []Tensor{tensor("x", "U8", 5<<30)}}, Launch{MaxModelLen: 8192, MaxNumSeqs: 4})
	m, most := Measured{}, map[Part]int64{}
	bytes := func() int64 { return draw.Int64N(1 << (10 + draw.IntN(52))) }
	for range 3000 {
		o := Observation{Used: bytes(), Idle: draw.IntN(2) == 0, Facts: Facts{
			Weights: bytes(), KV: bytes(), Graphs: bytes(), MaxModelLen: 8192, Concurrency: draw.ExpFloat64() * 10,
		}}
		for _, r := range p.Records("m", o, noon) {
			m, most[r.Part] = with(t, m, r), max(most[r.Part], r.Bytes)
		}
		b := Believe(p, m)
		if b.Weights < most[PartWeights] || b.Rest() < most[PartRest] || b.Graphs < most[PartGraphs] || b.KVLeast < most[PartKV]-most[PartKV]/100 || b.KVBytes < b.KVLeast {
			t.Fatalf("seed %d: %s of %v, after %+v", seed, b, most, o)
		}
	}
	if len(most) != 4 {
		t.Fatalf("seed %d: only %v were measured", seed, most)
	}
}

// Several workers tell their figures in any order.
func TestFactsJoinInAnyOrder(t *testing.T) {
	a := Facts{Weights: 5, KV: 9, Tokens: 100, MaxModelLen: 10, Concurrency: 10}
	b := Facts{Weights: 6, KV: 8, Graphs: 2, Concurrency: 9.5}
	want := Facts{Weights: 6, KV: 8, Graphs: 2, Tokens: 100, MaxModelLen: 10, Concurrency: 9.5}
	for _, got := range []Facts{a.Join(b), b.Join(a), Facts{}.Join(a).Join(b).Join(Facts{}), a.Join(a).Join(b).Join(b)} {
		if got != want {
			t.Errorf("%+v", got)
		}
	}
}
