// This file owns the engine module "process".

package caddymodule

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/process"
)

func init() { caddy.RegisterModule(new(EngineProcess)) }

// EngineProcess runs each server as a process on the gateway's own machine, as the
// gateway's own user. The process sees the cards that it was placed on and no
// others, listens on a random port of the loopback address, and ends with the
// gateway, whatever ends that. Of the gateway's own environment it gets what a
// program needs to run, not its secrets.
type EngineProcess struct {
	// The program and its first arguments; the model's follow. Required. For vLLM:
	// `vllm serve`.
	Command []string `json:"command,omitempty"`

	// Environment for every server. Values may have placeholders such as
	// `{env.HF_TOKEN}`; a variable whose placeholder is empty is left out. A
	// model's own `env` wins over it.
	Env map[string]string `json:"env,omitempty"`

	env []string // with placeholders resolved
}

// CaddyModule returns the Caddy module information.
func (*EngineProcess) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  engineNamespace + ".process",
		New: func() caddy.Module { return new(EngineProcess) },
	}
}

// UnmarshalCaddyfile reads the engine's options. Syntax:
//
//	process {
//		command <program> [<arguments...>]
//		env     <name> <value>
//	}
func (e *EngineProcess) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return guestBlock(d, []string{"env"}, func(r *reader, word string) error {
		switch word {
		case "command":
			return r.list(&e.Command)
		case "env":
			return r.pair(&e.Env)
		}
		return r.unknown("process")
	}, e.check)
}

func (e *EngineProcess) check() error {
	if len(e.Command) == 0 || e.Command[0] == "" {
		return configErrorf(at(place{}), "the engine process is without a command, such as 'command vllm serve'")
	}
	return checkVariables("", e.Env)
}

// Provision checks the configuration and resolves its placeholders.
func (e *EngineProcess) Provision(ctx caddy.Context) error {
	if err := e.check(); err != nil {
		return err
	}
	var err error
	e.env, err = resolveEnv(e.Env, ctx.Logger())
	return err
}

// EngineSpec implements EngineModule.
func (e *EngineProcess) EngineSpec(string) (engine.Spec, error) {
	return process.Spec{Command: e.Command, Env: e.env}, nil
}

// Interface guards
var (
	_ EngineModule          = (*EngineProcess)(nil)
	_ caddy.Provisioner     = (*EngineProcess)(nil)
	_ caddyfile.Unmarshaler = (*EngineProcess)(nil)
)
