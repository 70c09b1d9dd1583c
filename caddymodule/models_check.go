// This file owns what can be wrong with the configuration of models.

package caddymodule

import (
	"cmp"
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman/server/vllm"
)

// leastVRAM is less than any server needs for itself. A smaller `vram` is a
// number without its unit.
const leastVRAM = 1 << 20

// dtypes are the values of vLLM's --dtype (vllm/config/model.py, ModelDType).
var dtypes = []string{"auto", "half", "float16", "bfloat16", "float", "float32"}

// ownVariables are set by the gateway for each instance.
var ownVariables = []string{
	"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
	"VLLM_API_KEY", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "VLLM_SERVER_DEV_MODE",
}

// checkModels looks for what is wrong with the models, with their defaults, and
// between them and the pools. The pools are known to be right.
func (a *App) checkModels() error {
	if err := a.Defaults.check(defaultsSection); err != nil {
		return err
	}
	owner := make(map[string]string) // of each name and alias: a model
	for _, m := range a.Models {
		section := modelSection(m.Name)
		if err := checkServedName(m.Name, "name", at(place{section, "", ""})); err != nil {
			return err
		}
		if other, taken := owner[m.Name]; taken {
			if other == m.Name {
				return configErrorf(at(place{section, "", ""}), "%s is defined twice", section)
			}
			return configErrorf(at(place{section, "", ""}), "%s: the name is an alias of model %s already", section, other)
		}
		owner[m.Name] = m.Name
		for _, alias := range m.Aliases {
			here := at(place{section, "alias", alias}, place{section, "", ""})
			if err := checkServedName(alias, section+": alias", here); err != nil {
				return err
			}
			if other, taken := owner[alias]; taken {
				return configErrorf(here, "%s: the alias %s is a name of model %s already", section, alias, other)
			}
			owner[alias] = m.Name
		}
		if err := m.checkAdapters(section, owner); err != nil {
			return err
		}
		if err := m.checkFiles(section); err != nil {
			return err
		}
		if err := m.check(section); err != nil {
			return err
		}
		if err := a.checkReservation(m); err != nil {
			return err
		}
		if err := a.checkPlace(m); err != nil {
			return err
		}
	}
	return a.checkFallbacks(owner)
}

// check looks for what is wrong with options by themselves.
func (o *ModelOptions) check(section string) error {
	for _, n := range []struct {
		option string
		value  int
	}{
		{"tensor_parallel", o.TensorParallel},
		{"max_model_len", o.MaxModelLen},
		{"max_num_seqs", o.MaxNumSeqs},
		{"kv_reservation_seqs", o.KVReservationSeqs},
	} {
		if n.value < 0 {
			return configErrorf(at(place{section, n.option, ""}), "%s: %s must be at least 1", section, n.option)
		}
	}
	switch {
	case o.VRAM != 0 && o.GPUMemoryUtilization != 0:
		return configErrorf(at(place{section, "gpu_memory_utilization", ""}),
			"%s: vram and gpu_memory_utilization both say how much it takes of a card: keep one of them", section)
	case o.VRAM != 0 && o.VRAM < leastVRAM:
		return configErrorf(at(place{section, "vram", ""}), "%s: vram of %d bytes is too little: is a unit missing, as in '3GiB'?", section, o.VRAM)
	case !isShare(o.GPUMemoryUtilization):
		return configErrorf(at(place{section, "gpu_memory_utilization", ""}),
			"%s: gpu_memory_utilization must be above 0 and at most 1", section)
	case o.TensorParallel != 0 && o.TensorParallelAuto:
		return configErrorf(at(place{section, "tensor_parallel", ""}),
			"%s: tensor_parallel and tensor_parallel_auto both say on how many cards it runs: keep one of them", section)
	case o.TensorParallelAuto && (o.VRAM != 0 || o.GPUMemoryUtilization != 0):
		return configErrorf(at(place{section, "tensor_parallel", ""}),
			"%s: vram and gpu_memory_utilization say what it takes of each card, however many these are: leave them out, or write the number in the place of 'tensor_parallel auto'", section)
	case o.DType != "" && !slices.Contains(dtypes, o.DType):
		return configErrorf(at(place{section, "dtype", ""}), "%s: dtype is '%s', but must be one of %s",
			section, o.DType, strings.Join(dtypes, ", "))
	}
	if err := checkWord(section, "quantization", o.Quantization); err != nil {
		return err
	}
	if err := checkVariables(section, o.Env); err != nil {
		return err
	}
	if len(o.RequestDefaults) > 0 {
		if _, err := openai.ParseDefaults(o.RequestDefaults); err != nil {
			return configErrorf(at(place{section, "request_defaults", ""}), "%s: %w", section, err)
		}
	}
	if err := o.FallbackOptions.check(section); err != nil {
		return err
	}
	if err := o.PlacementOptions.check(section); err != nil {
		return err
	}
	if err := o.RequestOptions.check(section); err != nil {
		return err
	}
	return o.Limits.check(section)
}

// checkFiles looks for what is wrong with where a model's files are.
func (m *Model) checkFiles(section string) error {
	if m.Repo == "" {
		return configErrorf(at(place{section, "", ""}), "%s is without a repo: add 'repo <Hugging Face repository or folder>'", section)
	}
	if err := checkWord(section, "repo", m.Repo); err != nil {
		return err
	}
	repo, quantization := vllm.SplitRepo(m.Repo)
	_, tail, colon := strings.Cut(repo, ":")
	isPath := strings.HasPrefix(repo, "/") || strings.HasPrefix(repo, ".") || strings.HasPrefix(tail, "//")
	switch {
	case colon && !isPath:
		return configErrorf(at(place{section, "repo", ""}),
			"%s: repo: what follows the colon in '%s' must be a quantization, such as 'Q4_K_M'", section, m.Repo)
	case m.File == "":
		return nil
	case quantization != "":
		return configErrorf(at(place{section, "file", ""}),
			"%s: the file and the quantization '%s' in the repo both say which file is meant: keep one of them", section, quantization)
	case !strings.HasSuffix(m.File, ".gguf"):
		return configErrorf(at(place{section, "file", ""}),
			"%s: file must be the name of a GGUF file, which ends in '.gguf'; a quantization stands in the repo, as in 'org/name:Q4_K_M'", section)
	case !filepath.IsLocal(m.File):
		return configErrorf(at(place{section, "file", ""}), "%s: file must be a path within the repository", section)
	}
	return checkWord(section, "file", m.File)
}

// checkReservation looks for a KV cache for more sequences than are computed.
func (a *App) checkReservation(m *Model) error {
	o := a.complete(m)
	if o.MaxNumSeqs == 0 || o.KVReservationSeqs <= o.MaxNumSeqs {
		return nil
	}
	section := modelSection(m.Name)
	return configErrorf(
		at(place{section, "kv_reservation_seqs", ""}, place{section, "max_num_seqs", ""}, place{defaultsSection, "kv_reservation_seqs", ""}),
		"%s: kv_reservation_seqs is %d, but max_num_seqs is %d", section, o.KVReservationSeqs, o.MaxNumSeqs)
}

// checkVariables looks for variables that cannot be, or that the gateway sets.
func checkVariables(section string, env map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(env)) {
		here := at(place{section, "env", name}, place{section, "env", ""})
		if name == "" || strings.ContainsAny(name, "= \t\n\x00") {
			return configErrorf(here, "%s: %q cannot be the name of an environment variable", optionName(section, "env"), name)
		}
		if slices.Contains(ownVariables, name) {
			return configErrorf(here, "%s: the gateway sets %s itself; remove it", optionName(section, "env"), name)
		}
		if strings.Contains(env[name], "\x00") {
			return configErrorf(here, "%s: the value of %s has a zero byte", optionName(section, "env"), name)
		}
	}
	return nil
}

// checkAgainstServer looks for what a model's server cannot do or be told. o are
// the model's options, complete.
func checkAgainstServer(m *Model, o ModelOptions, guest ServerModule) error {
	if err := checkArgs(m, o.Args, guest); err != nil {
		return err
	}
	return checkSleep(m, o, guest)
}

// checkArgs looks for arguments that the gateway sets itself. args are the
// model's, those of the defaults included.
func checkArgs(m *Model, args []string, guest ServerModule) error {
	srv := guest.Server()
	flag := srv.Managed(args)
	if flag == "" {
		return nil
	}
	section := modelSection(m.Name)
	var here []place
	for _, arg := range args {
		if srv.Managed([]string{arg}) == flag {
			here = at(place{section, "args", arg}, place{defaultsSection, "args", arg})
			break
		}
	}
	here = append(here, place{section, "args", ""}, place{defaultsSection, "args", ""})
	return configErrorf(here, "%s: %s cannot stand in args: %s", section, flag,
		cmp.Or(guest.Instead(flag), "the gateway sets it itself"))
}

// checkServedName looks for names that clients could not send or servers not take.
func checkServedName(name, what string, here []place) error {
	if name == "" {
		return configErrorf(here, "a model is without a name")
	}
	if name[0] == '-' || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return configErrorf(here, "%s: %q cannot be a model's name: it has white space or begins with '-'", what, name)
	}
	return nil
}

// checkWord looks for values that a command line would take for something else.
func checkWord(section, option, value string) error {
	if strings.HasPrefix(value, "-") || strings.ContainsAny(value, "\x00\n") {
		return configErrorf(at(place{section, option, ""}), "%s: %q cannot be a value of %s", section, value, option)
	}
	return nil
}

// parseDefaults reads request defaults that are known to be right.
func parseDefaults(raw json.RawMessage) (*openai.Defaults, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return openai.ParseDefaults(raw)
}
