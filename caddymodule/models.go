// This file owns a model's configuration: its options, and how those that it
// leaves out are filled in.

package caddymodule

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
	"github.com/vllm-gateway/vllm-gateway/vramman/server/vllm"
)

// defaultsSection is where options stand that hold for every model.
const defaultsSection = "defaults"

// Model is what a client can name in a request.
type Model struct {
	// The name that clients use. Required.
	Name string `json:"name,omitempty"`

	// The Hugging Face repository, or a local folder, that holds the model's
	// weights. Of a repository with GGUF files one is meant, which is named by its
	// quantization behind a colon, as in `org/name:Q4_K_M`, or by `file`. Required.
	Repo string `json:"repo,omitempty"`

	// The GGUF file that is meant, by its path within the repository or the folder.
	// Of a model that is split over several files it is any of them. Default: the
	// one that the repository's name tells, if it tells one.
	File string `json:"file,omitempty"`

	// Other names that clients may use for it.
	Aliases []string `json:"aliases,omitempty"`

	// LoRA adapters, each with a name that clients may use.
	LoRA []Adapter `json:"lora,omitempty"`

	ModelOptions
}

// ModelOptions are what a model can be told beyond its names. Those that it
// leaves out are taken from the app's `defaults`, except that `args` and `mounts`
// of the defaults come before its own, `env` is merged name by name, and what
// excludes another option replaces that, too.
type ModelOptions struct {
	// The program that serves the model. Default: `vllm`.
	ServerRaw json.RawMessage `json:"server,omitempty" caddy:"namespace=vramman.servers inline_key=program"`

	// The pool of cards that it runs on. Default: the only pool there is.
	Pool string `json:"pool,omitempty"`

	// The VRAM that it may take on each of its cards, in bytes, everything
	// included (weights, KV cache, graphs and the CUDA context). Not together with
	// `gpu_memory_utilization`. Default, without either: what was measured, else
	// what its files let expect, else the whole budget of each card.
	VRAM int64 `json:"vram,omitempty"`

	// The share of each of its cards that it may take, above 0 and at most 1. Not
	// together with `vram`.
	GPUMemoryUtilization float64 `json:"gpu_memory_utilization,omitempty"`

	// On how many cards it runs at once. Default: 1.
	TensorParallel int `json:"tensor_parallel,omitempty"`

	// Run it on as few cards as it fits on: 1, 2, 4 and so on. Not together with
	// `tensor_parallel`, nor with `vram` or `gpu_memory_utilization`. Default: false.
	TensorParallelAuto bool `json:"tensor_parallel_auto,omitempty"`

	// The longest context, prompt and answer together, in tokens. Default: the model's own.
	MaxModelLen int `json:"max_model_len,omitempty"`

	// How many sequences the server computes at once. Default: the server's own.
	MaxNumSeqs int `json:"max_num_seqs,omitempty"`

	// For how many sequences of `max_model_len` the KV cache is to have room at
	// once; more are computed as long as they are shorter. At most `max_num_seqs`.
	// Default: `max_num_seqs`, or else 8; and fewer where the card has less room.
	KVReservationSeqs int `json:"kv_reservation_seqs,omitempty"`

	// The type of weights and activations: `auto`, `half`, `float16`, `bfloat16`,
	// `float` or `float32`. Default: the server's own, `auto`.
	DType string `json:"dtype,omitempty"`

	// How the weights are quantized: `awq`, `fp8` and so on. Default: what the
	// model's own files say.
	Quantization string `json:"quantization,omitempty"`

	// Compute without CUDA graphs: slower, but with less VRAM. Default: false.
	EnforceEager *bool `json:"enforce_eager,omitempty"`

	// Further arguments for the server. Those that the gateway sets itself are
	// refused.
	Args []string `json:"args,omitempty"`

	// Further environment for the server. Values may have placeholders such as
	// `{env.HF_TOKEN}` and `{file./run/secrets/hf_token}`; a variable whose
	// placeholder is empty is left out.
	Env map[string]string `json:"env,omitempty"`

	// What is added to a request that lacks it: a JSON object of the request's
	// members.
	RequestDefaults json.RawMessage `json:"request_defaults,omitempty"`

	// Start it with the gateway, and never stop it to make room for another or
	// because it is idle. Default: false.
	AlwaysOn *bool `json:"always_on,omitempty"`

	PlacementOptions
	RequestOptions
	FallbackOptions
	ContainerOptions
	Limits
}

func modelSection(name string) string { return "model " + name }

// over returns the options with those that are missing taken from base.
func (o ModelOptions) over(base ModelOptions) ModelOptions {
	if o.VRAM != 0 || o.GPUMemoryUtilization != 0 {
		base.VRAM, base.GPUMemoryUtilization = 0, 0 // one footprint replaces the other
	}
	if o.TensorParallel != 0 || o.TensorParallelAuto {
		base.TensorParallel, base.TensorParallelAuto = 0, false
	}
	return ModelOptions{
		ServerRaw:            firstRaw(o.ServerRaw, base.ServerRaw),
		Pool:                 cmp.Or(o.Pool, base.Pool),
		VRAM:                 cmp.Or(o.VRAM, base.VRAM),
		GPUMemoryUtilization: cmp.Or(o.GPUMemoryUtilization, base.GPUMemoryUtilization),
		TensorParallel:       cmp.Or(o.TensorParallel, base.TensorParallel),
		TensorParallelAuto:   o.TensorParallelAuto || base.TensorParallelAuto,
		MaxModelLen:          cmp.Or(o.MaxModelLen, base.MaxModelLen),
		MaxNumSeqs:           cmp.Or(o.MaxNumSeqs, base.MaxNumSeqs),
		KVReservationSeqs:    cmp.Or(o.KVReservationSeqs, base.KVReservationSeqs),
		DType:                cmp.Or(o.DType, base.DType),
		Quantization:         cmp.Or(o.Quantization, base.Quantization),
		EnforceEager:         cmp.Or(o.EnforceEager, base.EnforceEager),
		Args:                 slices.Concat(base.Args, o.Args),
		Env:                  mergeEnv(base.Env, o.Env),
		RequestDefaults:      firstRaw(o.RequestDefaults, base.RequestDefaults),
		AlwaysOn:             cmp.Or(o.AlwaysOn, base.AlwaysOn),
		PlacementOptions:     o.PlacementOptions.over(base.PlacementOptions),
		RequestOptions:       o.RequestOptions.over(base.RequestOptions),
		FallbackOptions:      o.FallbackOptions.over(base.FallbackOptions),
		ContainerOptions:     o.ContainerOptions.over(base.ContainerOptions),
		Limits:               o.Limits.over(base.Limits),
	}
}

func firstRaw(a, b json.RawMessage) json.RawMessage {
	if a != nil {
		return a
	}
	return b
}

func mergeEnv(base, own map[string]string) map[string]string {
	merged := make(map[string]string, len(base)+len(own))
	maps.Copy(merged, base)
	maps.Copy(merged, own)
	return merged
}

// complete returns a model's options with nothing missing that the app, its
// defaults or the program has an answer for.
func (a *App) complete(m *Model) ModelOptions {
	o := m.ModelOptions.over(a.Defaults.over(ModelOptions{Limits: a.Limits.over(standardLimits)}))
	switch {
	case o.Pool != "":
	case len(a.Pools) == 0:
		o.Pool = everyCard
	case len(a.Pools) == 1:
		o.Pool = a.Pools[0].Name
	}
	if !o.TensorParallelAuto {
		o.TensorParallel = cmp.Or(o.TensorParallel, 1)
	}
	if o.ServerRaw == nil {
		o.ServerRaw = standardServer
	}
	return o
}

// repeatable are the options that may stand several times.
var repeatable = []string{"args", "env", "mount", "pin_gpus", "exclude_gpus"}

// read reads a model's block.
func (m *Model) read(r *reader) error {
	return r.block(modelSection(m.Name), append([]string{"alias", "lora"}, repeatable...), func(word string) error {
		switch word {
		case "repo":
			return r.text(&m.Repo)
		case "file":
			return r.text(&m.File)
		case "alias":
			return r.list(&m.Aliases)
		case "lora":
			return m.readAdapter(r)
		}
		return m.option(r, word)
	})
}

// readDefaults reads the block of options that hold for every model.
func (o *ModelOptions) readDefaults(r *reader) error {
	return r.block(defaultsSection, repeatable, func(word string) error {
		return o.option(r, word)
	})
}

// option reads one option.
func (o *ModelOptions) option(r *reader, word string) error {
	switch word {
	case "server":
		return r.guest(serverNamespace, serverKey, &o.ServerRaw)
	case "pool":
		return r.text(&o.Pool)
	case "vram":
		return r.size(&o.VRAM)
	case "gpu_memory_utilization":
		return r.share(&o.GPUMemoryUtilization)
	case "tensor_parallel":
		return r.countOrAuto(&o.TensorParallel, &o.TensorParallelAuto)
	case "max_model_len":
		return r.count(&o.MaxModelLen)
	case "max_num_seqs":
		return r.count(&o.MaxNumSeqs)
	case "kv_reservation_seqs":
		return r.count(&o.KVReservationSeqs)
	case "dtype":
		return r.text(&o.DType)
	case "quantization":
		return r.text(&o.Quantization)
	case "enforce_eager":
		return r.flag(&o.EnforceEager)
	case "args":
		return r.list(&o.Args)
	case "env":
		return r.pair(&o.Env)
	case "request_defaults":
		return r.json(&o.RequestDefaults)
	case "always_on":
		return r.flag(&o.AlwaysOn)
	}
	if known, err := o.PlacementOptions.option(r, word); known {
		return err
	}
	if known, err := o.RequestOptions.option(r, word); known {
		return err
	}
	if known, err := o.FallbackOptions.option(r, word); known {
		return err
	}
	if known, err := o.ContainerOptions.option(r, word); known {
		return err
	}
	if known, err := o.Limits.option(r, word); known {
		return err
	}
	return r.unknown("model")
}

// spec is a model as the manager sees it. o are its options, complete; env and
// mounts are its environment and folders with all placeholders resolved.
func (m *Model) spec(o ModelOptions, srv server.Server, env []string, mounts []engine.Mount) vramman.ModelSpec {
	repo, quantization := vllm.SplitRepo(m.Repo)
	return vramman.ModelSpec{
		Name:    m.Name,
		Aliases: slices.Clone(m.Aliases),
		Pool:    o.Pool,
		Server:  srv,
		Launch: server.Model{
			Name:           m.Name,
			Repo:           repo,
			File:           cmp.Or(m.File, quantization),
			TensorParallel: o.TensorParallel,
			MaxModelLen:    o.MaxModelLen,
			MaxNumSeqs:     o.MaxNumSeqs,
			ReservedSeqs:   o.KVReservationSeqs,
			Sleep:          isOn(o.Sleep),
			DType:          o.DType,
			Quantization:   o.Quantization,
			EnforceEager:   isOn(o.EnforceEager),
			Image:          o.Image,
			Mounts:         mounts,
			LoRA:           m.adapters(),
			Args:           o.Args,
			Env:            env,
		},
		Need:          placement.Need{Bytes: o.VRAM, Share: o.GPUMemoryUtilization},
		AutoParallel:  o.TensorParallelAuto,
		Pin:           slices.Clone(o.PinGPUs),
		Exclude:       slices.Clone(o.ExcludeGPUs),
		Colocate:      isOn(o.Colocate),
		OnConflict:    conflicts[o.OnConflict],
		AlwaysOn:      isOn(o.AlwaysOn),
		Preload:       isOn(o.Preload),
		Replicas:      o.Replicas,
		IdleTimeout:   duration(*o.IdleTimeout),
		MinResidency:  duration(*o.MinResidency),
		StartTimeout:  duration(o.StartTimeout),
		StopGrace:     duration(o.StopGrace),
		MaxConcurrent: o.MaxConcurrent,
		MaxQueue:      *o.MaxQueue,
		MaxWait:       duration(o.MaxWait),
	}
}

func isOn(b *bool) bool { return b != nil && *b }
