package vramman

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
)

// memoryStore is a store that can fail.
type memoryStore struct {
	mu     sync.Mutex
	values map[string][]byte
	fails  error
	writes int
}

func newMemoryStore() *memoryStore { return &memoryStore{values: make(map[string][]byte)} }

func (s *memoryStore) Load(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return nil, s.fails
	}
	v, ok := s.values[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return v, nil
}

func (s *memoryStore) Store(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		return s.fails
	}
	s.writes++
	s.values[key] = bytes.Clone(value)
	return nil
}

func (s *memoryStore) all() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.values)
}

func someMeasured(t *testing.T) footprint.Measured {
	t.Helper()
	m, err := footprint.Measured{}.With(footprint.Record{Part: footprint.PartWeights, Signature: "s", Bytes: 5 * worldGiB, Model: "a", Seen: 1})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A value that was cut anywhere, or that something else wrote, is set aside and
// believed nothing of.
func TestTornStoreIsSetAside(t *testing.T) {
	found, err := json.Marshal(kept{Format: keptFormat, Degrees: map[string]int{"a x": 2}})
	if err != nil {
		t.Fatal(err)
	}
	whole := map[string][]byte{keyMeasured: someMeasured(t).Encode(), keyKept: append(found, '\n')}
	decode := func(values map[string][]byte) (storedEvent, map[string][]byte) {
		return decodeStore(func(key string) ([]byte, error) {
			if v, ok := values[key]; ok {
				return v, nil
			}
			return nil, fs.ErrNotExist
		})
	}
	if e, aside := decode(whole); len(e.errs) > 0 || len(aside) > 0 || len(e.measured.Records()) != 1 || e.kept.Degrees["a x"] != 2 {
		t.Fatalf("a whole store: %v, %v, %+v", e.errs, aside, e.kept)
	}
	if e, aside := decode(nil); len(e.errs) > 0 || len(aside) > 0 {
		t.Fatalf("an empty store: %v", e.errs)
	}
	for key, text := range whole {
		for n := range text {
			cut := maps.Clone(whole)
			cut[key] = text[:n]
			e, aside := decode(cut)
			if key == keyKept && n == len(text)-1 {
				continue // but for the line's end it is whole
			}
			if len(e.errs) != 1 || !bytes.Equal(aside[key+asideSuffix], text[:n]) {
				t.Fatalf("%s cut at %d: %v, aside %q", key, n, e.errs, aside)
			}
			if key == keyMeasured && len(e.measured.Records()) > 0 || key == keyKept && len(e.kept.Degrees) > 0 {
				t.Fatalf("%s cut at %d is believed", key, n)
			}
		}
	}
	for _, foreign := range []string{`{"format":"other 1","degrees":{"a":2}}`, `{"format":"` + keptFormat + `","degrees":{"a":-2}}`, `[]`} {
		if e, aside := decode(map[string][]byte{keyKept: []byte(foreign)}); len(e.errs) != 1 || len(aside) != 1 || len(e.kept.Degrees) > 0 {
			t.Errorf("%s: %v", foreign, e.errs)
		}
	}
}

// A store that cannot be read keeps nobody from starting, and one that cannot be
// written is tried again.
func TestStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		store := newMemoryStore()
		store.fails = errors.New("the disk is full")
		core, logs := observer.New(zap.WarnLevel)
		spec := r.spec(rigModel("a", 8))
		spec.Store, spec.Log = store, zap.New(core)
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		if logs.FilterMessageSnippet("it is measured again").Len() == 0 {
			t.Error("nobody hears of it")
		}
		_ = mustStatus(t, m)
	})
}

// What is not understood is moved out of the way before it is written over.
func TestForeignStoreIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		store := newMemoryStore()
		store.values[keyMeasured] = []byte("somebody else's\n")
		spec := r.spec(rigModel("a", 8))
		spec.Store = store
		_, g := r.open(t, spec)
		mustHold(t, g, "a")()
		synctest.Wait()
		if got := string(store.all()[keyMeasured+asideSuffix]); !strings.HasPrefix(got, "somebody") {
			t.Errorf("set aside: %q", got)
		}
	})
}
