// This file owns the engine of the benchmarks: its servers are there at once, and
// stand somewhere else or nowhere at all.

package main

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func init() { caddy.RegisterModule(new(benchEngine)) }

// benchEngine is the engine module "bench". All its instances are one server, so
// that the gateway and what it is compared with are in front of the same one.
type benchEngine struct {
	// Address is where the server listens, on this machine. Empty: connections are
	// scripted ones, which cost as little as a connection can.
	Address string `json:"address,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*benchEngine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "vramman.engines.bench", New: func() caddy.Module { return new(benchEngine) }}
}

// UnmarshalCaddyfile reads the engine's only argument: the server's address.
func (b *benchEngine) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	d.Args(&b.Address)
	return nil
}

// EngineSpec says what the manager opens.
func (b *benchEngine) EngineSpec(string) (engine.Spec, error) { return spec{b.Address}, nil }

type spec struct{ address string }

// Key implements engine.Spec.
func (s spec) Key() string { return "bench:" + s.address }

// Open implements engine.Spec.
func (s spec) Open(context.Context, *zap.Logger) (engine.Engine, error) { return s, nil }

// Reconcile implements engine.Engine.
func (spec) Reconcile(context.Context) (int, error) { return 0, nil }

// Fetch implements engine.Engine.
func (spec) Fetch(context.Context, *engine.Launch) error { return nil }

// Start implements engine.Engine.
func (s spec) Start(context.Context, *engine.Launch) (engine.Running, error) {
	return &running{address: s.address, done: make(chan struct{})}, nil
}

// Close implements engine.Engine.
func (spec) Close(context.Context) error { return nil }

// running is an instance of the engine.
type running struct {
	address string
	stop    sync.Once
	done    chan struct{}
}

// Dial implements engine.Running.
func (r *running) Dial(ctx context.Context) (net.Conn, error) {
	if r.address == "" {
		return newScriptedConn(), nil
	}
	return new(net.Dialer).DialContext(ctx, "tcp", r.address)
}

// PIDs implements engine.Running.
func (*running) PIDs(context.Context) ([]int, error) { return nil, nil }

// Stop implements engine.Running.
func (r *running) Stop(context.Context, time.Duration) error {
	r.stop.Do(func() { close(r.done) })
	return nil
}

// Done implements engine.Running.
func (r *running) Done() <-chan struct{} { return r.done }

// Exit implements engine.Running.
func (*running) Exit() engine.Exit { return engine.Exit{} }

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*benchEngine)(nil)
	_ engine.Spec           = spec{}
	_ engine.Engine         = spec{}
	_ engine.Running        = (*running)(nil)
)
