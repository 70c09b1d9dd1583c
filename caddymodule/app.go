// This file owns the app: what it is configured with and how it lives.

package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func init() { caddy.RegisterModule(new(App)) }

// App says which models there are, on which cards they may run, what starts their
// servers, and within which limits. Servers are started when a request names their
// model, and stopped when they are idle or when another model needs their room.
//
// Its HTTP handlers are modules of their own; they find their models here. The
// app itself holds configuration only: the state of models, queues and cards lives
// through reloads.
type App struct {
	// The gateway's name: letters, digits, '-', '_' and '.'. Gateways on one
	// machine need different names. Default: `main`.
	Name string `json:"name,omitempty"`

	// What starts and stops servers. Required.
	EngineRaw json.RawMessage `json:"engine,omitempty" caddy:"namespace=vramman.engines inline_key=engine"`

	// Where the cards are read: how many there are, how large and how full. Required.
	GPUsRaw json.RawMessage `json:"gpus,omitempty" caddy:"namespace=vramman.gpus inline_key=source"`

	// The pools of cards. Default: one pool named `all` with every card.
	Pools []*Pool `json:"pools,omitempty"`

	// The share of each card that may be used, for pools that say nothing else:
	// above 0 and at most 1. Default: 0.92.
	Budget float64 `json:"budget,omitempty"`

	// Who makes room first when VRAM is short. Default: `lru`, the least recently
	// used model.
	EvictionRaw json.RawMessage `json:"eviction,omitempty" caddy:"namespace=vramman.eviction inline_key=policy"`

	// How long a model waits for busy ones before they get no more requests and
	// make room once they are idle. Default: `2m`.
	MaxWaitForTurn caddy.Duration `json:"max_wait_for_turn,omitempty"`

	// How long requests may go on at a model that must make room or that a new
	// configuration changes or removes. What outlives it is cut. Default: `10m`.
	DrainTimeout caddy.Duration `json:"drain_timeout,omitempty"`

	// How much of the host's memory models that sleep may take together, in bytes.
	// Default: half of it.
	SleepMemory int64 `json:"sleep_memory,omitempty"`

	Totals
	Limits

	// Options that hold for each model that does not say otherwise.
	Defaults ModelOptions `json:"defaults,omitzero"`

	// The models, in the order in which they are listed to clients.
	Models []*Model `json:"models,omitempty"`

	log             *zap.Logger
	generation      *vramman.Generation
	manager         *vramman.Manager // nil: no reference to it is held
	requestDefaults map[string]*openai.Defaults
	requestLimits   map[string]openai.Limits
	fallbacks       map[string]*fallback // by the model's name
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "vramman",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and makes a generation of it. It also runs
// under `caddy validate`, so it asks nothing of the world but the values of
// placeholders, and leaves what runs alone.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	if err := a.check(); err != nil {
		return err
	}
	spec, err := a.spec(ctx)
	if err != nil {
		return err
	}
	a.generation = vramman.NewGeneration(spec)

	// A subscription made while provisioning is for this configuration's own event.
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	if err := events.(*caddyevents.App).On("started", committer{a}); err != nil {
		return fmt.Errorf("subscribing to the start of all apps: %w", err)
	}
	a.manager, err = holdManager()
	return err
}

// Start opens the models to requests. It only adds to what runs: other apps of
// this configuration may still fail to start, and then it must not have cost
// anything.
func (a *App) Start() error {
	a.manager.Apply(a.generation)
	return nil
}

// Stop does nothing: requests that are under way go on after it.
func (a *App) Stop() error { return nil }

// Cleanup takes the configuration back: the newest that remains is in force again.
// It also runs after a Provision that failed, at any point of it.
func (a *App) Cleanup() error {
	if a.manager == nil {
		return nil
	}
	// When the process exits, the end of the manager stops everything, and its
	// reason is a better one than that a configuration is gone.
	if !caddy.Exiting() {
		a.manager.Withdraw(a.generation)
	}
	return releaseManager()
}

// Generation is this configuration as the manager knows it. A handler finds its
// models there, which waits until the app has started.
func (a *App) Generation() *vramman.Generation { return a.generation }

// Manager is the process's manager.
func (a *App) Manager() *vramman.Manager { return a.manager }

// RequestDefaults are what requests for a model are filled in with; nil: nothing.
// The model is named as configured, not by an alias.
func (a *App) RequestDefaults(model string) *openai.Defaults { return a.requestDefaults[model] }

// RequestLimits are what requests for a model may ask for. The model is named as
// configured, not by an alias.
func (a *App) RequestLimits(model string) openai.Limits { return a.requestLimits[model] }

// committer puts a configuration in force once all its apps have started. Only
// then may anything be stopped for it.
type committer struct{ app *App }

// Handle implements caddyevents.Handler.
func (c committer) Handle(context.Context, caddy.Event) error {
	c.app.manager.Commit(c.app.generation)
	return nil
}

// duration converts Caddy's durations to those of everybody else.
func duration(d caddy.Duration) time.Duration { return time.Duration(d) }

// Interface guards
var (
	_ caddy.App           = (*App)(nil)
	_ caddy.Provisioner   = (*App)(nil)
	_ caddy.CleanerUpper  = (*App)(nil)
	_ caddyevents.Handler = committer{}
)
