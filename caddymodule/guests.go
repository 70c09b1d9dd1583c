// This file owns what the app asks of the modules that plug into it.

package caddymodule

import (
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// The namespaces of the modules that plug into the app, and the JSON key by which
// each object names its module.
const (
	engineNamespace, engineKey     = "vramman.engines", "engine"
	gpusNamespace, gpusKey         = "vramman.gpus", "source"
	serverNamespace, serverKey     = "vramman.servers", "program"
	evictionNamespace, evictionKey = "vramman.eviction", "policy"
)

// EngineModule is a module in the namespace vramman.engines. It is configuration
// only: the manager opens what it returns, and keeps that open across reloads
// for as long as the key stays the same.
type EngineModule interface {
	// EngineSpec is asked for once the module is provisioned, with the gateway's
	// name. It does no I/O.
	EngineSpec(gateway string) (engine.Spec, error)
}

// GPUModule is a module in the namespace vramman.gpus: an inventory of cards.
type GPUModule interface {
	// GPUSpec is asked for once the module is provisioned, with the gateway's
	// name. It does no I/O.
	GPUSpec(gateway string) gpu.Spec
}

// ServerModule is a module in the namespace vramman.servers.
type ServerModule interface {
	// Server must be usable as soon as the module's options are read, before it
	// is provisioned: a model's args are checked against it while the Caddyfile
	// is being read.
	Server() server.Server
	// Instead says what to do instead of setting a flag that the server names as
	// managed, such as "set tensor_parallel"; it may be empty.
	Instead(flag string) string
}

// EvictionModule is a module in the namespace vramman.eviction.
type EvictionModule interface {
	// Policy is asked for once the module is provisioned.
	Policy() scheduler.Policy
}
