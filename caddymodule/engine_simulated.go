// This file owns the engine module "simulated".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/process"
)

func init() { caddy.RegisterModule(new(EngineSimulated)) }

// EngineSimulated runs stand-ins for vLLM, for demonstrations and tests: processes
// of this very program (`caddy vllm-sim`) that take vLLM's flags, load for a while,
// hold memory on simulated cards and answer as vLLM would, without a model and
// without a GPU. It needs `gpus simulated`.
type EngineSimulated struct {
	// Environment for every stand-in: how long it loads, how fast it answers, what
	// goes wrong. Some of the variables, with their defaults:
	//
	// Variable | Default | Meaning
	// ---------|---------|--------
	// `VLLM_SIM_LOAD_TIME` | `1s` | time from the start until it is ready
	// `VLLM_SIM_STOP_TIME` | `0s` | time from the end of the last request until its memory is free
	// `VLLM_SIM_TTFT` | `20ms` | time to the first token
	// `VLLM_SIM_TOKENS_PER_SECOND` | `200` | pace of each answer after that
	// `VLLM_SIM_REPLY_TOKENS` | `0` | length of answers; 0 echoes the last message
	//
	// The rest are for faults; docs/configuration.md lists them all.
	Env map[string]string `json:"env,omitempty"`

	env []string // with placeholders resolved
}

// CaddyModule returns the Caddy module information.
func (*EngineSimulated) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  engineNamespace + ".simulated",
		New: func() caddy.Module { return new(EngineSimulated) },
	}
}

// UnmarshalCaddyfile reads the engine's options. Syntax:
//
//	simulated {
//		env <name> <value>
//	}
func (e *EngineSimulated) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, []string{"env"}, func(r *reader, word string) error {
		if word == "env" {
			return r.pair(&e.Env)
		}
		return r.unknown("simulated")
	}, e.check)
}

func (e *EngineSimulated) check() error { return checkVariables("", e.Env) }

// Provision checks the configuration and resolves its placeholders.
func (e *EngineSimulated) Provision(ctx caddy.Context) error {
	if err := e.check(); err != nil {
		return err
	}
	var err error
	e.env, err = resolveEnv(e.Env, ctx.Logger())
	return err
}

// EngineSpec implements EngineModule.
func (e *EngineSimulated) EngineSpec(string) (engine.Spec, error) {
	return process.Simulated(e.env)
}

// Interface guards
var (
	_ EngineModule          = (*EngineSimulated)(nil)
	_ caddy.Provisioner     = (*EngineSimulated)(nil)
	_ caddyfile.Unmarshaler = (*EngineSimulated)(nil)
)
