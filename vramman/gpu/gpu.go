// Package gpu defines the inventory of cards: what there is, how large, how full.
package gpu

import (
	"context"

	"go.uber.org/zap"
)

// Spec is an inventory's configuration: inert until opened.
type Spec interface {
	// Key is equal for two specs exactly when an inventory opened from one
	// serves the other too.
	Key() string
	// Open makes the inventory ready. It may do I/O and is called by a worker.
	Open(ctx context.Context, log *zap.Logger) (Inventory, error)
}

// Inventory reads the cards. Read may be called by several goroutines at once.
type Inventory interface {
	// Read measures all cards now, in a stable order.
	Read(ctx context.Context) ([]Card, error)
	// Environ is what a server must have in its environment to use these cards
	// (beyond the choice of cards, which is the engine's business), as
	// KEY=VALUE; nil for real ones.
	Environ() []string
	// Close frees what Open took.
	Close() error
}

// Card is one GPU (or slice of one) at the moment of a reading. Sizes are bytes.
//
// Not every source of figures has them all. A zero Total is a size that nobody
// knows; Unmeasured and Unattributed say which other figures are missing.
type Card struct {
	UUID      string
	Name      string    // "NVIDIA H200", "simulated"
	Driver    string    // its driver's version, "580.95.05"; empty: not known
	Total     int64     // 0: not known
	Used      int64     // by everybody, with what the driver keeps for itself
	Processes []Process // who uses it; processes that use nothing are left out

	// Unmeasured says that nobody knows what is in use: Used is 0, and there
	// are no Processes.
	Unmeasured bool
	// Unattributed says that Used is known, but not whose it is: Processes
	// lacks some of them, or their Used is 0 although they use something.
	Unattributed bool
}

// Process is one process's use of a card.
type Process struct {
	PID  int   // on the host
	Used int64 // bytes
}
