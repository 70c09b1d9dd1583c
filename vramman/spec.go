package vramman

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// Spec is one configuration as the manager sees it: validated, complete (all
// defaults applied, all secrets resolved) and never changed after it was made.
type Spec struct {
	Name     string           // the gateway's name; one gateway per name and machine
	Engine   engine.Spec      // what starts and stops servers
	GPUs     gpu.Spec         // what the cards are and how full
	Eviction scheduler.Policy // who makes room first
	Pools    []Pool           // in the order of the configuration; at least one
	Models   []ModelSpec      // in the order of the configuration; names and aliases are unique

	// MaxWaitForTurn is how long a model waits for busy ones before they are
	// drained for it.
	MaxWaitForTurn time.Duration
	// DrainTimeout bounds a drain: requests that outlive it are cut.
	DrainTimeout time.Duration
	// TotalConcurrent and TotalQueue bound the requests that are served, and that
	// wait, over all models; 0: no bound.
	TotalConcurrent, TotalQueue int
	// SleepMemory is how much of the host's memory sleeping instances may take
	// together, in bytes; 0: half of it.
	SleepMemory int64

	// Store keeps what was measured and decided; nil: it is lost with the process.
	Store Store

	Log *zap.Logger
}

// Store keeps values under keys, each whole or not at all. It is used by workers.
type Store interface {
	// Load returns what was kept, or an error that wraps [fs.ErrNotExist].
	Load(ctx context.Context, key string) ([]byte, error)
	Store(ctx context.Context, key string, value []byte) error
}

// Pool is a named set of cards.
type Pool struct {
	Name string
	// GPUs are the cards' UUIDs in the order in which they are tried; empty
	// means every card there is.
	GPUs []string
	// Budget is the share of each card that instances may be charged, in (0, 1].
	Budget float64
	// WholeCard gives each instance the whole budget of its cards, but for those
	// of models that share theirs.
	WholeCard bool
}

// has says whether all the cards are the pool's.
func (p *Pool) has(cards []string) bool {
	return len(p.GPUs) == 0 || !slices.ContainsFunc(cards, func(c string) bool { return !slices.Contains(p.GPUs, c) })
}

// ModelSpec is one model's configuration with every default applied.
type ModelSpec struct {
	Name    string
	Aliases []string
	Pool    string // a pool's name

	Server server.Server // how it is launched and understood
	Launch server.Model  // what it is launched with

	// Need is the footprint on each of its cards: declared, or a share. Zero: what
	// was measured or is estimated, or else the pool's whole budget.
	Need placement.Need
	// AutoParallel takes the smallest degree of tensor parallelism that fits;
	// Launch.TensorParallel is 0 then.
	AutoParallel bool
	// Pin and Exclude are UUIDs: it runs on these cards of its pool only, or on
	// none of those. Empty: no restriction.
	Pin, Exclude []string
	// Colocate has it share cards of a pool of whole cards with others that do.
	Colocate   bool
	OnConflict scheduler.Conflict // what it does where there is no room

	AlwaysOn bool // started by itself and never evicted
	// Replicas is how many instances it may have at once, where its queue is long and
	// room is free; 0 and 1: one.
	Replicas int

	Preload       bool          // started by itself where there is room, and again when it died
	IdleTimeout   time.Duration // stopped after so long without a request; 0: never
	MinResidency  time.Duration // spared from eviction for so long after it was ready
	StartTimeout  time.Duration // from the server's start until it is ready
	StopGrace     time.Duration // from asking the server to stop until it is killed
	MaxConcurrent int           // requests served at once per instance
	MaxQueue      int           // requests waiting at most
	MaxWait       time.Duration // from arrival to lease
}

// launchHash tells whether an instance that was started from one spec may
// serve another: it covers what the server is started with, and nothing that
// can change while it runs (limits, aliases, times, which cards a pool has). The
// environment enters by its names and values hashed together, so the hash
// itself tells no secret.
func (s *Spec) launchHash(m *ModelSpec) string {
	need, budget := m.need(s.pool(m.Pool)), 0.0
	if need == (placement.Need{}) {
		budget = s.pool(m.Pool).Budget // its footprint follows from it
	}
	h := sha256.New()
	// Encoding a struct of plain fields cannot fail.
	_ = json.NewEncoder(h).Encode(struct {
		Engine, Server string
		Model          server.Model
		Need           placement.Need
		Budget         float64
	}{s.Engine.Key(), m.Server.Key(), m.Launch, need, budget})
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (s *Spec) pool(name string) *Pool {
	for i := range s.Pools {
		if s.Pools[i].Name == name {
			return &s.Pools[i]
		}
	}
	return nil
}

func (s *Spec) model(name string) *ModelSpec {
	for i := range s.Models {
		if s.Models[i].Name == name {
			return &s.Models[i]
		}
	}
	return nil
}
