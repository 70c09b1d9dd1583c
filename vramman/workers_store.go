package vramman

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what workers do for sizing: reading a model's files, and the
// store of what was measured.

// sizeTimeout bounds reading what a model's footprint follows from.
const sizeTimeout = 30 * time.Second

func (w *workers) loadStore(s Store) {
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		e, aside := decodeStore(func(key string) ([]byte, error) { return s.Load(ctx, key) })
		for key, text := range aside {
			if err := s.Store(ctx, key, text); err != nil {
				e.errs = append(e.errs, fmt.Errorf("setting %s aside: %w", key, err))
			}
		}
		w.manager.post(e)
	})
}

func (w *workers) saveStore(s Store, values map[string][]byte) {
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		defer cancel()
		var errs []error
		for _, key := range slices.Sorted(maps.Keys(values)) {
			if err := s.Store(ctx, key, values[key]); err != nil {
				errs = append(errs, fmt.Errorf("writing %s: %w", key, err))
			}
		}
		w.manager.post(savedEvent{errors.Join(errs...)})
	})
}

func (w *workers) size(r *record, h *engineHandle, settings []server.Setting) {
	e := sizedEvent{record: r, hash: r.hash, settings: settings}
	sizer, spec, store := r.spec.Server.(server.Sizer), r.spec, r.from.Store
	image := r.spec.Launch.Image
	if i, ok := h.spec.(engine.Imager); ok && image == "" {
		image = i.ImageName()
	}
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), sizeTimeout)
		defer cancel()
		files := server.Files{Image: image}
		if c, ok := h.engine.(engine.Cacher); ok {
			files.Cache = c.Cache()
			if !declares(spec) { // else the hub need not be asked what is told already
				files.Env = c.Hub(&engine.Launch{Env: spec.Launch.Env})
			}
		}
		if store != nil {
			files.Keep = hubStore{store}
		}
		e.sizes = sizer.Size(ctx, spec.Launch, files, settings)
		if len(e.sizes) != len(settings) {
			h.log.DPanic("a server sized a model for other settings than asked", zap.String("model", spec.Name))
			e.settings = nil
		}
		w.manager.post(e)
	})
}

// declares says whether a model's footprint is declared.
func declares(m *ModelSpec) bool { return m.Need.Bytes > 0 || m.Need.Share > 0 }

// hubStore keeps what was read from the hub in the store, under names that any
// store can have.
type hubStore struct{ store Store }

func (h hubStore) key(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "hub/" + hex.EncodeToString(sum[:]) + ".kept"
}

func (h hubStore) Load(ctx context.Context, key string) ([]byte, error) {
	return h.store.Load(ctx, h.key(key))
}

func (h hubStore) Store(ctx context.Context, key string, value []byte) error {
	return h.store.Store(ctx, h.key(key), value)
}
