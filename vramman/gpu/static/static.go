// Package static is the inventory of cards that are declared and not measured,
// for machines where nothing tells what the cards hold.
package static

import (
	"context"
	"encoding/json"
	"fmt"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// Spec describes the cards.
type Spec struct {
	Cards []Card // at least one, in the order of their readings
}

// Card is one declared card.
type Card struct {
	UUID  string // as the driver names it, "GPU-…" or "MIG-…"
	Name  string // may be empty
	Total int64  // bytes; 0: not known, and so there is one model at a time
}

// Key implements gpu.Spec.
func (s *Spec) Key() string {
	cards, err := json.Marshal(s)
	if err != nil { // strings and numbers always encode
		return fmt.Sprintf("static:%+v", *s)
	}
	return "static:" + string(cards)
}

// Open implements gpu.Spec.
func (s *Spec) Open(_ context.Context, log *zap.Logger) (gpu.Inventory, error) {
	inv := make(inventory, len(s.Cards))
	for i, c := range s.Cards {
		inv[i] = gpu.Card{UUID: c.UUID, Name: c.Name, Total: c.Total, Unmeasured: true}
	}
	log.Info("the cards are declared and not measured: what other programs use of them is not known", zap.Int("cards", len(inv)))
	return inv, nil
}

// inventory is its readings, which are all the same.
type inventory []gpu.Card

// Read implements gpu.Inventory.
func (i inventory) Read(context.Context) ([]gpu.Card, error) {
	return append([]gpu.Card(nil), i...), nil
}

// Environ implements gpu.Inventory.
func (i inventory) Environ() []string { return nil }

// Close implements gpu.Inventory.
func (i inventory) Close() error { return nil }

// Interface guards
var (
	_ gpu.Spec      = (*Spec)(nil)
	_ gpu.Inventory = inventory(nil)
)
