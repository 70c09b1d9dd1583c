package vramman

import (
	"context"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// This file is about what workers do for the audit: they ask the engine.

// listTimeout bounds one question to the engine.
const listTimeout = 20 * time.Second

func (w *workers) list(number uint64, h *engineHandle) {
	l := h.engine.(engine.Lister) // the owner has looked
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
		defer cancel()
		names, err := l.List(ctx)
		w.manager.post(listedEvent{handle: h, number: number, names: names, err: err})
	})
}

func (w *workers) discard(h *engineHandle, name string) {
	l := h.engine.(engine.Lister)
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
		defer cancel()
		w.manager.post(discardedEvent{name, l.Discard(ctx, name)})
	})
}
