// This file owns the global option vramman of a Caddyfile.

package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() { httpcaddyfile.RegisterGlobalOption("vramman", parseVramman) }

// parseVramman reads the global option. It may stand once only: with several
// blocks it would be left to chance which one a person looks at.
func parseVramman(d *caddyfile.Dispenser, existing any) (any, error) {
	app := new(App)
	if existing != nil {
		d.Next()
		return nil, d.Err("vramman is already specified: put everything into one block; 'import' serves in it to spread models over files")
	}
	if err := app.UnmarshalCaddyfile(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "vramman", Value: caddyconfig.JSON(app, nil)}, nil
}

// UnmarshalCaddyfile reads the app's options. Syntax:
//
//	vramman {
//		name     <name>
//		engine   <engine> { ... }
//		gpus     <source> { ... }
//		eviction <policy>
//		budget   <share>
//		pool     <name> {
//			gpu       <uuids...>
//			budget    <share>
//			placement budget|whole_card
//		}
//		max_wait_for_turn <time>
//		drain_timeout     <time>
//		sleep_memory      <size>
//		total_concurrent  <number>
//		total_queue       <number>
//		default_model     <name>
//
//		<limits...>
//		defaults {
//			<model options...>
//		}
//		model <name> {
//			repo  <repository or folder>|<repository>:<quantization>
//			file  <path of a GGUF file>
//			alias <names...>
//			lora  <name>=<repository or folder>
//			<model options...>
//		}
//	}
//
// Limits, which are model options too:
//
//	idle_timeout   <time>
//	min_residency  <time>
//	start_timeout  <time>
//	stop_grace     <time>
//	max_concurrent <number>
//	max_queue      <number>
//	max_wait       <time>
//
// Further model options:
//
//	server                 <program>
//	pool                   <name>
//	vram                   <size>
//	gpu_memory_utilization <share>
//	tensor_parallel        <number>|auto
//	max_model_len          <tokens>
//	max_num_seqs           <number>
//	kv_reservation_seqs    <number>
//	dtype                  <type>
//	quantization           <method>
//	enforce_eager          [on|off]
//	args                   <arguments...>
//	env                    <name> <value>
//	request_defaults       `<JSON object>`
//	max_tokens_limit       <tokens>
//	n_limit                <number>
//	always_on              [on|off]
//	preload                [on|off]
//	pin_gpus               <uuids...>
//	exclude_gpus           <uuids...>
//	colocate               [on|off]
//	on_conflict            evict|wait|reject
//	replicas               <number>
//	sleep                  [on|off]
//	image                  <image>
//	mount                  <folder>|<volume> <target> [ro]
func (a *App) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	r := newReader(d)
	r.Next() // the option's name
	start := r.Token()
	if r.NextArg() {
		return r.ArgErr()
	}
	err := r.block("", []string{"pool", "model"}, func(word string) error { return a.option(r, word) })
	if err != nil {
		return err
	}
	r.tokens[place{}] = start
	if err := a.check(); err != nil {
		return r.locate(err)
	}
	for _, m := range a.Models {
		if err := a.checkServer(r, m); err != nil {
			return r.locate(err)
		}
	}
	return nil
}

// option reads one of the app's options.
func (a *App) option(r *reader, word string) error {
	switch word {
	case "name":
		return r.text(&a.Name)
	case "engine":
		return r.guest(engineNamespace, engineKey, &a.EngineRaw)
	case "gpus":
		return r.guest(gpusNamespace, gpusKey, &a.GPUsRaw)
	case "eviction":
		return r.guest(evictionNamespace, evictionKey, &a.EvictionRaw)
	case "budget":
		return r.share(&a.Budget)
	case "max_wait_for_turn":
		return r.duration(&a.MaxWaitForTurn)
	case "drain_timeout":
		return r.duration(&a.DrainTimeout)
	case "sleep_memory":
		return r.size(&a.SleepMemory)
	case "pool":
		p := new(Pool)
		if err := r.named(&p.Name, "pool", func(name string) bool { return a.pool(name) != nil }); err != nil {
			return err
		}
		a.Pools = append(a.Pools, p)
		return p.read(r)
	case "defaults":
		if r.NextArg() {
			return r.ArgErr()
		}
		return a.Defaults.readDefaults(r)
	case "model":
		m := new(Model)
		if err := r.named(&m.Name, "model", func(name string) bool { return a.model(name) != nil }); err != nil {
			return err
		}
		a.Models = append(a.Models, m)
		return m.read(r)
	}
	if known, err := a.Totals.option(r, word); known {
		return err
	}
	if known, err := a.Limits.option(r, word); known {
		return err
	}
	return r.unknown("vramman")
}

// named reads the name of a section that begins here, and remembers its line.
func (r *reader) named(name *string, kind string, taken func(string) bool) error {
	if !r.NextArg() || r.Val() == "" {
		return r.Errf("a %s needs a name: '%s <name> {'", kind, kind)
	}
	*name = r.Val()
	if taken(*name) {
		return r.Errf("%s %s is already defined", kind, *name)
	}
	r.tokens[place{kind + " " + *name, "", ""}] = r.Token()
	if r.NextArg() {
		return r.ArgErr()
	}
	return nil
}

// checkServer checks a model against its server, as provisioning will do again.
func (a *App) checkServer(r *reader, m *Model) error {
	guest := r.servers[modelSection(m.Name)]
	if guest == nil {
		guest = r.servers[defaultsSection]
	}
	if guest == nil {
		guest = new(ServerVLLM)
	}
	return checkAgainstServer(m, a.complete(m), guest)
}

// model finds a model by its name; nil: there is none of this name.
func (a *App) model(name string) *Model {
	for _, m := range a.Models {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*App)(nil)
