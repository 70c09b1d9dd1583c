package vramman

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about engines, servers and inventories that do nothing: a world
// answers in their stead.

const worldGiB = 1 << 30

type worldRunning struct {
	done chan struct{}
	exit engine.Exit
}

func (*worldRunning) Dial(context.Context) (net.Conn, error) {
	return nil, errors.New("not in this world")
}
func (*worldRunning) PIDs(context.Context) ([]int, error)       { return nil, nil }
func (*worldRunning) Stop(context.Context, time.Duration) error { return nil }
func (r *worldRunning) Done() <-chan struct{}                   { return r.done }
func (r *worldRunning) Exit() engine.Exit                       { return r.exit }

type noEngine struct{}

func (noEngine) Reconcile(context.Context) (int, error)                        { return 0, nil }
func (noEngine) Fetch(context.Context, *engine.Launch) error                   { return nil }
func (noEngine) Start(context.Context, *engine.Launch) (engine.Running, error) { return nil, nil }
func (noEngine) Close(context.Context) error                                   { return nil }

type noInventory struct{}

func (noInventory) Read(context.Context) ([]gpu.Card, error) { return nil, nil }
func (noInventory) Environ() []string                        { return nil }
func (noInventory) Close() error                             { return nil }

// engineKey and gpuKey are specs that open nothing.
type engineKey string

func (k engineKey) Key() string                                            { return string(k) }
func (engineKey) Open(context.Context, *zap.Logger) (engine.Engine, error) { return noEngine{}, nil }

type gpuKey string

func (k gpuKey) Key() string                                            { return string(k) }
func (gpuKey) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return noInventory{}, nil }

type noServer struct{}

func (noServer) Key() string                                             { return "none" }
func (noServer) Args(server.Model, server.Place, engine.Listen) []string { return nil }
func (noServer) FetchCommand(server.Model) []string                      { return nil }
func (noServer) Env(server.Model, server.Place) []string                 { return nil }
func (noServer) Managed([]string) string                                 { return "" }
func (noServer) ReadyRequest() *http.Request                             { return nil }
func (noServer) Line(string) server.Line                                 { return server.Line{} }
func (noServer) KeepAlive() time.Duration                                { return time.Minute }
