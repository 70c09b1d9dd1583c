// This file owns the engine module "docker".

package caddymodule

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/docker"
)

func init() { caddy.RegisterModule(new(EngineDocker)) }

// The volumes that keep what servers load and compile, where nothing else is set;
// and the word for keeping nothing.
const (
	standardCache        = "vllm-gateway-huggingface"
	standardCompileCache = "vllm-gateway-compiled"
	noCache              = "off"
)

// EngineDocker runs each server as a container of Docker. Containers publish no
// port and cannot reach one another; the gateway reaches them on a bridge of
// their own. They bear labels with the gateway's name, and what does not is never
// touched.
type EngineDocker struct {
	// The image of every model that has none of its own. Required.
	Image string `json:"image,omitempty"`

	// The bridge that servers are put on. It is made if it is missing; one that
	// exists is used if containers on it cannot reach one another. Default:
	// `vllm-gateway`.
	Network string `json:"network,omitempty"`

	// Where weights are kept, as Hugging Face's client lays them out: the full path
	// of a folder on Docker's host, made if it is missing, or a volume's name, or
	// `off`. May have placeholders. Default: the volume `vllm-gateway-huggingface`.
	Cache string `json:"cache,omitempty"`

	// Where the gateway itself sees the folder or volume of `cache`, by its full path,
	// if it does not see it at the same place: it looks there for which models are
	// complete. May have placeholders. Default: found out if the gateway runs in a
	// container of the same Docker.
	CacheHere string `json:"cache_here,omitempty"`

	// Where servers keep what they compile, a folder for each image: like `cache`
	// a folder, a volume, or `off`. May have placeholders. Default: the volume
	// `vllm-gateway-compiled`.
	CompileCache string `json:"compile_cache,omitempty"`

	// Environment for every server. Values may have placeholders such as
	// `{env.HF_TOKEN}`; a variable whose placeholder is empty is left out. A
	// model's own `env` wins over it.
	Env map[string]string `json:"env,omitempty"`

	// How containers get their cards: `nvidia`, by NVIDIA's container runtime;
	// `cdi`, by Docker's own support of the Container Device Interface; `none`, not
	// at all, only named in CUDA_VISIBLE_DEVICES. Default: `nvidia`.
	GPUAccess string `json:"gpu_access,omitempty"`

	// The address on which each server's port is published: only `127.0.0.1`, for
	// hosts from which containers cannot be reached directly. Default: none.
	Publish string `json:"publish,omitempty"`

	// `host` puts servers into the host's IPC namespace; `private` gives each one of
	// its own. Default: `private`.
	IPC string `json:"ipc,omitempty"`

	// The size of each server's own shared memory, in bytes. Not together with
	// `ipc host`. Default: 16 GiB.
	ShmSize int64 `json:"shm_size,omitempty"`

	// Further folders for every server.
	Mounts []Mount `json:"mounts,omitempty"`

	// End the servers when Caddy exits. Default: false, they go on, and the next
	// start of the gateway removes them.
	StopOnExit *bool `json:"stop_on_exit,omitempty"`

	// Where Docker listens, such as `unix:///run/docker.sock`. May have
	// placeholders. Default: what DOCKER_HOST says, else Docker's usual socket.
	Host string `json:"host,omitempty"`

	spec docker.Spec // with placeholders resolved
}

// CaddyModule returns the Caddy module information.
func (*EngineDocker) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  engineNamespace + ".docker",
		New: func() caddy.Module { return new(EngineDocker) },
	}
}

// UnmarshalCaddyfile reads the engine's options. Syntax:
//
//	docker {
//		image         <image>
//		network       <name>
//		cache         <folder>|<volume>|off [<folder as the gateway sees it>]
//		compile_cache <folder>|<volume>|off
//		env           <name> <value>
//		gpu_access    nvidia|cdi|none
//		publish       127.0.0.1
//		ipc           private|host
//		shm_size      <size>
//		mount         <folder>|<volume> <target> [ro]
//		stop_on_exit  [on|off]
//		host          <address>
//	}
func (e *EngineDocker) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	texts := map[string]*string{
		"image": &e.Image, "network": &e.Network, "compile_cache": &e.CompileCache,
		"gpu_access": &e.GPUAccess, "publish": &e.Publish, "ipc": &e.IPC, "host": &e.Host,
	}
	return guestBlock(d, []string{"env", "mount"}, func(r *reader, word string) error {
		if text, ok := texts[word]; ok {
			return r.text(text)
		}
		switch word {
		case "cache":
			return e.readCache(r)
		case "env":
			return r.pair(&e.Env)
		case "shm_size":
			return r.size(&e.ShmSize)
		case "mount":
			return readMount(r, &e.Mounts)
		case "stop_on_exit":
			return r.flag(&e.StopOnExit)
		}
		return r.unknown("docker")
	}, e.check)
}

// readCache reads where weights are: <folder>|<volume>|off [<here>].
func (e *EngineDocker) readCache(r *reader) error {
	switch args := r.RemainingArgs(); {
	case len(args) == 0 || len(args) > 2:
		return r.ArgErr()
	case slices.Contains(args, ""):
		return r.Err("cache is empty")
	case len(args) == 2:
		e.CacheHere = args[1]
		fallthrough
	default:
		e.Cache = args[0]
	}
	return nil
}

// check looks for what is wrong before any placeholder is resolved.
func (e *EngineDocker) check() error {
	switch {
	case e.Image == "":
		return configErrorf(at(place{}), "the engine docker is without an image, such as 'image vllm/vllm-openai:v0.30.0'")
	case strings.ContainsAny(e.Image, " \t\n\x00"):
		return configErrorf(at(place{"", "image", ""}), "%q cannot be an image's name", e.Image)
	case e.IPC != "" && e.IPC != "private" && e.IPC != "host":
		return configErrorf(at(place{"", "ipc", ""}), "ipc is '%s', but must be 'private' or 'host'", e.IPC)
	}
	if err := checkVariables("", e.Env); err != nil {
		return err
	}
	// A text with a placeholder may become anything.
	spec, err := e.fill(func(_, text string) (string, error) {
		if strings.Contains(text, "{") {
			return "/unknown", nil
		}
		return text, nil
	})
	if err == nil {
		err = spec.Check()
	}
	if m, ok := errors.AsType[*docker.SpecError](err); ok {
		return configErrorf(at(place{"", m.Option, ""}), "%w", err)
	}
	return err
}

// fill makes the engine's spec of the options, each text that may have
// placeholders given to resolve. The environment is left out.
func (e *EngineDocker) fill(resolve func(option, text string) (string, error)) (docker.Spec, error) {
	s := docker.Spec{
		Gateway:    standardName,
		Image:      e.Image,
		Network:    e.Network,
		GPUAccess:  docker.GPUAccess(e.GPUAccess),
		Publish:    e.Publish,
		HostIPC:    e.IPC == "host",
		ShmSize:    e.ShmSize,
		StopOnExit: isOn(e.StopOnExit),
	}
	var errs []error
	text := func(option, value string) string {
		resolved, err := resolve(option, value)
		errs = append(errs, err)
		return resolved
	}
	store := func(option, value, standard string) string {
		if value = cmp.Or(value, standard); value == noCache {
			return ""
		}
		return text(option, value)
	}
	s.Cache = store("cache", e.Cache, standardCache)
	s.CacheHere = text("cache", e.CacheHere)
	s.CompileCache = store("compile_cache", e.CompileCache, standardCompileCache)
	s.Host = text("host", e.Host)
	var err error
	s.Mounts, err = engineMounts(e.Mounts, resolve)
	return s, errors.Join(append(errs, err)...)
}

// Provision checks the configuration and resolves its placeholders.
func (e *EngineDocker) Provision(ctx caddy.Context) error {
	if err := e.check(); err != nil {
		return err
	}
	spec, err := e.fill(resolve)
	if err != nil {
		return err
	}
	if spec.Env, err = resolveEnv(e.Env, ctx.Logger()); err != nil {
		return err
	}
	e.spec = spec
	return spec.Check()
}

// EngineSpec implements EngineModule.
func (e *EngineDocker) EngineSpec(gateway string) (engine.Spec, error) {
	e.spec.Gateway = gateway
	return e.spec, nil
}

// Interface guards
var (
	_ EngineModule          = (*EngineDocker)(nil)
	_ caddy.Provisioner     = (*EngineDocker)(nil)
	_ caddyfile.Unmarshaler = (*EngineDocker)(nil)
)
