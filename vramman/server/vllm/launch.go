// This file owns what a model's options and arguments mean for its memory.

package vllm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// launch is how a model is launched, as far as its memory goes, but for where.
// The error names an argument whose memory is not known; the launch is then good
// for signatures only.
func launch(m server.Model, env []string) (footprint.Launch, error) {
	l := footprint.Launch{
		MaxModelLen: m.MaxModelLen, MaxNumSeqs: m.MaxNumSeqs,
		Reserved: m.ReservedSeqs, Fixed: m.ReservedSeqs > 0,
		DType: m.DType, Quantization: m.Quantization, EnforceEager: m.EnforceEager, Sleep: m.Sleep,
	}
	var refused error
	for _, f := range flags(slices.Concat(loraArgs(m.LoRA), m.Args)) {
		known, err := understood(&l, f)
		if err != nil && refused == nil {
			refused = err
		}
		if (!known || err != nil) && !f.harmless() {
			l.Other = append(l.Other, strings.Join(append([]string{f.String(), f.key}, f.values...), "\x00"))
		}
	}
	for _, variable := range slices.Concat(env, m.Env) {
		if changesMemory(variable) {
			l.Other = append(l.Other, variable)
		}
	}
	slices.Sort(l.Other)
	return l, refused
}

// understood takes one flag over into the launch; known is false for one that
// it is not about. Names are those of vLLM's vllm/engine/arg_utils.py.
func understood(l *footprint.Launch, f flag) (known bool, err error) {
	number := func(into *int) (bool, error) {
		n, ok := humanInt(f.value())
		if !ok {
			return true, fmt.Errorf("args has %s without a number that is understood", f)
		}
		*into = n
		return true, nil
	}
	word := func(into *string) (bool, error) {
		if *into = f.value(); *into == "" {
			return true, fmt.Errorf("args has %s without a value that is understood", f)
		}
		return true, nil
	}
	switch f.name {
	case "max-num-batched-tokens":
		return number(&l.MaxNumBatchedTokens)
	case "block-size":
		return number(&l.BlockSize)
	case "kv-cache-dtype":
		return word(&l.KVCacheDType)
	case "mamba-cache-mode":
		return word(&l.MambaCacheMode)
	case "enable-prefix-caching":
		if f.off && l.MambaCacheMode == "" {
			l.MambaCacheMode = "none" // no state is kept for a later prompt
		}
		return true, nil
	case "async-scheduling":
		l.SyncScheduling = f.off
		return true, nil
	case "disable-hybrid-kv-cache-manager":
		l.WholeWindows = !f.off
		return true, nil
	case "language-model-only":
		l.LanguageOnly = !f.off
		return true, nil
	case "limit-mm-per-prompt":
		none := f.key == "" && noInputs(f.value())
		l.LanguageOnly = l.LanguageOnly || none
		return none, nil
	case "revision":
		return true, nil // it says what is read
	}
	return false, f.refused(l)
}

// noInputs says whether a limit allows neither pictures nor films nor sound:
// then vLLM does not load their encoders. It is JSON, and in older versions
// "image=0,video=0".
func noInputs(limit string) bool {
	counts := map[string]json.RawMessage{}
	if json.Unmarshal([]byte(limit), &counts) != nil {
		for pair := range strings.SplitSeq(limit, ",") {
			kind, n, _ := strings.Cut(pair, "=")
			counts[strings.TrimSpace(kind)] = json.RawMessage(strings.TrimSpace(n))
		}
	}
	for _, kind := range []string{"image", "video", "audio"} {
		if string(counts[kind]) != "0" {
			return false
		}
	}
	return true
}

// unknownMemory are flags that change what a server takes by how much is not
// known here: weights that are kept elsewhere or spread otherwise, other kinds
// of models, buffers of their own.
var unknownMemory = []string{
	"enable-expert-parallel", "enable-eplb", "enable-elastic-ep", "num-redundant-experts", "enable-dbo",
	"kv-transfer-config", "ec-transfer-config", "weight-transfer-config", "mm-encoder-only", "mm-processor-kwargs",
	"hf-overrides", "hf-config-path", "config-format", "model-impl", "quantization-config", "override-attention-dtype",
	"compilation-config", "cudagraph-capture-sizes", "max-cudagraph-capture-size", "cuda-graph-sizes",
	"enable-return-routed-experts", "kv-cache-dtype-skip-layers", "use-replayssm", "max-seq-len-to-capture",
}

// unknownFamilies are beginnings of names of such flags.
var unknownFamilies = []string{
	"cpu-offload-", "offload-", "moe-cpu-", "kv-offloading-", "mamba-", "replayssm-", "decode-context-parallel-", "dcp-", "eplb-", "all2all-",
}

// unknownShort are short names of such flags.
var unknownShort = []string{"ep", "cc", "dcp", "ac"}

// understoodFlags are the names that understood knows, for what is written as
// a beginning of one.
var understoodFlags = []string{
	"max-num-batched-tokens", "block-size", "kv-cache-dtype", "mamba-cache-mode", "async-scheduling", "disable-hybrid-kv-cache-manager",
	"language-model-only", "limit-mm-per-prompt", "speculative-config", "enable-lora", "load-format", "revision",
}

// loadFormats are those that read safetensors as they are.
var loadFormats = []string{"auto", "safetensors", "hf", "runai_streamer", "fastsafetensors", "instanttensor"}

// refused says why a flag that changes the memory makes it unknown; nil for one
// that does not.
func (f flag) refused(l *footprint.Launch) error {
	memory := fmt.Errorf("args has %s, and what that takes is not known: declare vram", f)
	switch {
	case f.name == "sc", strings.HasPrefix(f.name, "spec-"), strings.HasPrefix(f.name, "speculative-"):
		l.Drafter = true
		return nil
	case f.name == "enable-lora" && !f.off, f.name == "lora-modules":
		l.LoRA = true
		return nil
	case f.name == "load-format":
		if !slices.Contains(loadFormats, f.value()) {
			return memory
		}
		return nil
	case f.off:
		return nil // a switch that is off changes nothing
	case f.name == "O":
		if f.key != "" {
			return memory // the compilation's configuration in older versions
		}
		return nil
	case slices.Contains(unknownShort, f.name), slices.Contains(unknownMemory, f.name),
		slices.ContainsFunc(unknownFamilies, func(family string) bool { return strings.HasPrefix(f.name, family) && f.name != "mamba-backend" }):
		return memory
	}
	for _, full := range slices.Concat(understoodFlags, unknownMemory, unknownFamilies) {
		if len(f.name) >= 3 && strings.HasPrefix(full, f.name) && f.name+"-" != full {
			return fmt.Errorf("args has %s, which may be short for --%s: write it out", f, strings.TrimSuffix(full, "-"))
		}
	}
	return nil
}

// harmlessFlags are beginnings of names of flags that change no memory of the
// card, so that what was measured without them holds with them.
var harmlessFlags = []string{
	"chat-template", "reasoning-", "tool-", "enable-auto-tool-choice", "exclude-tools", "response-role", "return-tokens",
	"log-", "disable-log", "enable-log", "max-log-len", "uvicorn-", "disable-uvicorn", "enable-request-id", "enable-server-load", "enable-prompt-tokens",
	"enable-force-include-usage", "otlp-", "collect-detailed-traces", "show-hidden-metrics", "allowed-", "allow-credentials", "middleware",
	"root-path", "disable-fastapi-docs", "seed", "generation-config", "override-generation-config", "trust-remote-code", "tokenizer", "code-revision",
	"max-num-queued", "scheduling-policy", "stream-interval", "h11-", "api-server-count", "safetensors-load-strategy", "download-dir",
}

func (f flag) harmless() bool {
	return slices.ContainsFunc(harmlessFlags, func(beginning string) bool { return strings.HasPrefix(f.name, beginning) })
}

// plainVariables are beginnings of names of variables of vLLM that change no
// memory, or are the gateway's own.
var plainVariables = []string{
	"VLLM_API_KEY", "VLLM_HTTP_", "VLLM_ENGINE_", "VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "VLLM_SERVER_DEV_MODE", "VLLM_LOGGING_", "VLLM_LOG_",
	"VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "VLLM_ASSETS_", "VLLM_USAGE_", "VLLM_RPC_", "VLLM_HOST_IP", "VLLM_PORT", "VLLM_IMAGE_FETCH_", "VLLM_AUDIO_FETCH_", "VLLM_VIDEO_FETCH_",
}

// changesMemory says whether a variable, NAME=VALUE, may change what is measured.
func changesMemory(variable string) bool {
	if !strings.HasPrefix(variable, "VLLM_") && !strings.HasPrefix(variable, "PYTORCH_") {
		return false
	}
	return !slices.ContainsFunc(plainVariables, func(beginning string) bool { return strings.HasPrefix(variable, beginning) })
}
