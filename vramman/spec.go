package vramman

import (
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

	Log *zap.Logger
}

// Pool is a named set of cards.
type Pool struct {
	Name string
	// GPUs are the cards' UUIDs in the order in which they are tried; empty
	// means every card there is.
	GPUs []string
	// Budget is the share of each card that instances may be charged, in (0, 1].
	Budget float64
	// WholeCard gives each instance the whole budget of its cards.
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

	// Need is the footprint on each of its cards: declared, or a share.
	Need placement.Need

	AlwaysOn      bool          // started by itself and never evicted
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
