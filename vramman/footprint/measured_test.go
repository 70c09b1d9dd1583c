package footprint

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func with(t testing.TB, m Measured, records ...Record) Measured {
	t.Helper()
	for _, r := range records {
		var err error
		if m, err = m.With(r); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func some(t testing.TB) Measured {
	return with(t, Measured{},
		Record{Part: PartWeights, Signature: "w", Bytes: 100, Model: "m", Seen: 5},
		Record{Part: PartRest, Signature: "r", Bytes: 7, Model: "m", Seen: 6},
		Record{Part: PartKV, Signature: "k", Bytes: 9, Model: "m, \"n\" and <o>", Seen: 7})
}

func TestMeasurementsAreMerged(t *testing.T) {
	m := some(t)
	before := fmt.Sprint(m.Records())
	more := with(t, m, Record{Part: PartWeights, Signature: "w", Bytes: 90, Seen: 8}, Record{Part: PartWeights, Signature: "v", Bytes: 50})
	if r, ok := more.Find(PartWeights, "w"); !ok || r.Bytes != 100 || r.Seen != 8 || r.Count != 2 {
		t.Errorf("%+v", r)
	}
	if r, ok := more.Find(PartWeights, "v"); !ok || r.Bytes != 50 {
		t.Errorf("%+v", r)
	}
	if r, ok := more.Find(PartRest, "r"); !ok || r.Bytes != 7 {
		t.Errorf("another record is gone: %+v", r)
	}
	if _, ok := more.Find(PartKV, "w"); ok {
		t.Error("a part has another's measurement")
	}
	if fmt.Sprint(m.Records()) != before {
		t.Error("adding changed what was there")
	}
	for _, bad := range []Record{
		{},
		{Part: "other", Signature: "s"},
		{Part: PartKV},
		{Part: PartKV, Signature: "s", Bytes: -1},
		{Part: PartKV, Signature: "s", Bytes: mostBytes + 1},
		{Part: PartKV, Signature: "s", Seen: -1},
	} {
		if _, err := m.With(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestMergingKnowsNoOrder(t *testing.T) {
	draw := rand.New(rand.NewPCG(3, 4))
	var records []Record
	for range 60 {
		records = append(records, Record{Part: partNames[draw.IntN(len(partNames))], Signature: Signature(rune('a' + draw.IntN(4))), Bytes: draw.Int64N(1000), Seen: draw.Int64N(100), Model: "m"})
	}
	want := with(t, Measured{}, records...).Encode()
	for range 20 {
		draw.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		cut := draw.IntN(len(records))
		got := with(t, Measured{}, records[:cut]...)
		for _, r := range records[cut:] {
			got = with(t, got, r)
		}
		if !bytes.Equal(got.Encode(), want) {
			t.Fatalf("%s\n%s", got.Encode(), want)
		}
	}
	a, b := with(t, Measured{}, records[0]), with(t, Measured{}, records[1])
	if !bytes.Equal(a.Merge(b).Encode(), b.Merge(a).Encode()) {
		t.Error("merging two ways gives two things")
	}
}

func TestTheOldestGoFirst(t *testing.T) {
	m := Measured{}
	for i := range mostRecords {
		m.records = append(m.records, Record{Part: PartKV, Signature: Signature(fmt.Sprintf("%06d", i)), Bytes: 1, Seen: int64(i+5000) % mostRecords, Count: 1})
	}
	m = with(t, m, Record{Part: PartWeights, Signature: "new", Seen: 1 << 40})
	if _, ok := m.Find(PartKV, "005000"); ok || len(m.Records()) != mostRecords {
		t.Errorf("%d records, the oldest among them", len(m.Records()))
	}
	if _, ok := m.Find(PartWeights, "new"); !ok {
		t.Error("the new one is not among them")
	}
}

func TestEncodedMeasurements(t *testing.T) {
	for _, m := range []Measured{{}, some(t)} {
		text := m.Encode()
		got, err := DecodeMeasured(text)
		if err != nil || fmt.Sprint(got.Records()) != fmt.Sprint(m.Records()) {
			t.Errorf("%v, %v", got, err)
		}
		for n := range text { // cut after each byte
			if got, err := DecodeMeasured(text[:n]); !errors.Is(err, ErrTorn) {
				t.Fatalf("%d of %d bytes: %v, %v", n, len(text), got, err)
			}
		}
		for i := range text { // one byte changed
			for bit := range 8 {
				bad := bytes.Clone(text)
				bad[i] ^= 1 << bit
				if got, err := DecodeMeasured(bad); err == nil && !slices.Equal(got.Records(), m.Records()) {
					t.Fatalf("bit %d of byte %d changed: %v", bit, i, got)
				}
			}
		}
		other := with(t, m, Record{Part: PartGraphs, Signature: "g", Bytes: 1})
		end := other.Encode()
		for n := range text { // the beginning of one file and the end of another
			got, err := DecodeMeasured(append(bytes.Clone(text[:n]), end[min(n, len(end)):]...))
			if err == nil && !slices.Equal(got.Records(), m.Records()) && !slices.Equal(got.Records(), other.Records()) {
				t.Fatalf("%d bytes of one and the rest of another: %v", n, got)
			}
		}
	}
	for _, foreign := range []string{`{}`, `{"format": "something else"}`, `{"format": "vllm-gateway footprints 2", "sum": "", "records": []}`} {
		if _, err := DecodeMeasured([]byte(foreign)); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", foreign, err)
		}
	}
}

func FuzzDecodeMeasured(f *testing.F) {
	f.Add(some(f).Encode())
	f.Add(Measured{}.Encode())
	f.Add([]byte(`{"format":"vllm-gateway footprints 1","sum":"","records":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := DecodeMeasured(text)
		if err != nil {
			if len(m.records) != 0 || !errors.Is(err, ErrTorn) && !errors.Is(err, ErrForeign) {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		again, err := DecodeMeasured(m.Encode())
		if err != nil || !slices.Equal(again.records, m.records) {
			t.Fatalf("%v, %v", again, err)
		}
	})
}

func TestBelief(t *testing.T) {
	w := tinyWeights(t)
	l := Launch{MaxModelLen: 4096, MaxNumSeqs: 8, Reserved: 2}
	p := estimate(t, tiny, w, l)
	measure := func(part Part, bytes int64) Record {
		return Record{Part: part, Signature: p.Signatures.Of(part), Bytes: bytes}
	}

	if b := Believe(p, Measured{}); b.Total() != p.Total() || len(b.Measured) != 0 {
		t.Errorf("%+v", b)
	}
	m := with(t, Measured{}, measure(PartWeights, 1000), measure(PartRest, 5000))
	b := Believe(p, m)
	if b.Weights != 1000 || b.Rest() != 5000 || b.KVBytes != p.KVBytes || !slices.Equal(b.Measured, []Part{PartWeights, PartRest}) {
		t.Errorf("%+v", b)
	}
	// What was measured by itself stays, and together they are not less than the sum.
	m = with(t, m, measure(PartGraphs, 3000))
	if b := Believe(p, m); b.Graphs != 3000 || b.Rest() != 5000 {
		t.Errorf("%+v", b)
	}
	m = with(t, m, measure(PartActivation, 4000), measure(PartContext, 10))
	if b := Believe(p, m); b.Rest() != 7010 {
		t.Errorf("%+v", b)
	}
	// A longer context keeps what was measured of the weights.
	longer := l
	longer.MaxModelLen = 8192
	if b := Believe(estimate(t, tiny, w, longer), m); b.Weights != 1000 {
		t.Errorf("%+v", b)
	}
	other := l
	other.Server = "another"
	if b := Believe(estimate(t, tiny, w, other), m); len(b.Measured) != 0 {
		t.Errorf("%+v", b)
	}
	// A cache that was seen to take more is charged more, one that took less is not charged less.
	one := p.KVLeast - p.KV.Null
	if b := Believe(p, with(t, Measured{}, measure(PartKV, 2*one))); b.KVBytes < 2*p.KVBytes || b.KVLeast != 2*one+p.KV.Null {
		t.Errorf("%+v", b)
	}
	if b := Believe(p, with(t, Measured{}, measure(PartKV, one/2))); b.KVBytes != p.KVBytes {
		t.Errorf("%+v", b)
	}
}
