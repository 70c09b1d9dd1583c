package vramman

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what a world's gateways keep: it outlives them, is slow and
// fails at times, and may hold something that nobody understands.

// worldStore is the store of a spec; the world answers for it.
type worldStore struct{}

func (worldStore) Load(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
func (worldStore) Store(context.Context, string, []byte) error  { return nil }

// archive is what is kept.
type archive struct {
	stores    bool // there is a store
	kept      map[string][]byte
	storeTold bool           // the gateway knows what it holds
	loaded    *storedEvent   // what it was told
	visits    int            // of the store
	asked     map[string]int // how often each model was sized
}

func (a *archive) begin() {
	a.kept, a.asked = make(map[string][]byte), make(map[string]int)
}

// drawStore draws whether there is a store, and what an earlier gateway has left in it.
func (w *world) drawStore() {
	l := w.luck("the store", "", 0)
	w.stores = l.intN(4) > 0
	if !w.stores || l.intN(2) == 0 {
		return
	}
	var m footprint.Measured
	for _, name := range w.names {
		if k := w.luck("was measured before", name, 0); k.intN(2) == 0 {
			m = w.measuredBefore(m, &ModelSpec{Name: name})
		}
	}
	w.kept[keyMeasured] = m.Encode()
	if w.fault("what was kept is torn", "", 0, 8) {
		w.kept[keyMeasured] = w.kept[keyMeasured][:len(w.kept[keyMeasured])/2]
		w.kept[keyKept] = []byte("{")
	}
}

// measuredBefore adds what a model was measured to take.
func (w *world) measuredBefore(m footprint.Measured, spec *ModelSpec) footprint.Measured {
	for _, c := range w.cards {
		for degree := 1; degree <= len(w.cards); degree *= 2 {
			t, s := w.truthOf(spec, degree), signaturesOf(spec, server.Setting{Card: c.cardOf(), Degree: degree})
			add := func(part footprint.Part, bytes int64) {
				m, _ = m.With(footprint.Record{Part: part, Signature: s.Of(part), Bytes: bytes, Model: spec.Name, Seen: worldBegin.Unix()})
			}
			add(footprint.PartWeights, t.weights)
			add(footprint.PartKV, t.perSeq)
			add(footprint.PartRest, t.rest)
		}
	}
	return m
}

// loadStore reads it.
func (w *world) loadStore(Store) {
	w.visits++
	n := w.visits
	d := w.delay("the store is read", "", n, time.Millisecond, 500*time.Millisecond)
	if w.happens("a slow store", "", n, 4) {
		d *= 18
	}
	w.later(d, func() {
		fails := w.fault("the store cannot be read", "", n, 8)
		e, aside := decodeStore(func(key string) ([]byte, error) {
			if fails {
				return nil, errors.New("the store does not answer")
			}
			text, ok := w.kept[key]
			if !ok {
				return nil, fs.ErrNotExist
			}
			return text, nil
		})
		maps.Copy(w.kept, aside)
		if len(e.measured.Records()) > 0 {
			w.saw("the store holds measurements")
		}
		if len(e.errs) > 0 {
			w.saw("the store cannot be read")
			w.note("what was kept cannot be read: %v", errors.Join(e.errs...))
		}
		w.storeTold, w.loaded = true, &e
		w.tell(e)
	})
}

// saveStore writes it.
func (w *world) saveStore(_ Store, values map[string][]byte) {
	w.checkKept(values)
	w.visits++
	n := w.visits
	w.later(w.delay("the store is written", "", n, time.Millisecond, 2*time.Second), func() {
		if w.fault("the store cannot be written", "", n, 10) {
			first := slices.Sorted(maps.Keys(values))[0]
			if l := w.luck("some of it is written", "", n); l.intN(2) == 0 {
				w.kept[first] = values[first]
			}
			w.tell(savedEvent{errors.New("the store does not answer")})
			return
		}
		maps.Copy(w.kept, values)
		w.saw("saved")
		w.tell(savedEvent{})
	})
}

// checkKept sees to it that what is written can be read, and that nothing is
// forgotten that was read.
func (w *world) checkKept(values map[string][]byte) {
	w.must(w.storeTold, 2, "the store is written before it was read")
	e, _ := decodeStore(func(key string) ([]byte, error) { return values[key], nil })
	w.must(len(e.errs) == 0, 2, "what is kept cannot be read: %v", e.errs)
	if w.loaded == nil {
		return
	}
	for _, r := range w.loaded.measured.Records() {
		now, ok := e.measured.Find(r.Part, r.Signature)
		w.must(ok && now.Bytes >= r.Bytes, 2, "the measurement %s of %d bytes is forgotten", r.Signature, r.Bytes)
	}
	for key := range w.loaded.kept.Degrees {
		w.must(e.kept.Degrees[key] > 0, 8, "the degree of %s is forgotten", key)
	}
}
