package vllm

import (
	"reflect"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

func TestLaunch(t *testing.T) {
	full := server.Model{
		Repo: "org/name", TensorParallel: 2, MaxModelLen: 8192, MaxNumSeqs: 16, ReservedSeqs: 3, Sleep: true,
		DType: "bfloat16", Quantization: "fp8", EnforceEager: true,
	}
	got, err := launch(full, nil)
	if want := (footprint.Launch{MaxModelLen: 8192, MaxNumSeqs: 16, Reserved: 3, Fixed: true, DType: "bfloat16", Quantization: "fp8", EnforceEager: true, Sleep: true}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for args, want := range map[string]footprint.Launch{
		"":                                     {},
		"--max-num-batched-tokens 16K":         {MaxNumBatchedTokens: 16384},
		"--max_num_batched_tokens=8k":          {MaxNumBatchedTokens: 8000},
		"--kv-cache-dtype fp8 --block-size=32": {KVCacheDType: "fp8", BlockSize: 32},
		"--mamba-cache-mode=all":               {MambaCacheMode: "all"},
		"--no-enable-prefix-caching":           {MambaCacheMode: "none"},
		"--enable-prefix-caching":              {},
		"--mamba-cache-mode align --no-enable-prefix-caching":      {MambaCacheMode: "align"},
		"--no-async-scheduling":                                    {SyncScheduling: true},
		"--no-async-scheduling --async_scheduling":                 {},
		"--disable-hybrid-kv-cache-manager":                        {WholeWindows: true},
		"--no-disable-hybrid-kv-cache-manager":                     {},
		"--language-model-only":                                    {LanguageOnly: true},
		`--limit-mm-per-prompt {"image":0,"video":0,"audio":0}`:    {LanguageOnly: true},
		"--limit-mm-per-prompt image=0,video=0,audio=0":            {LanguageOnly: true},
		`--limit-mm-per-prompt {"image":0,"video":0}`:              {Other: []string{"--limit-mm-per-prompt\x00\x00" + `{"image":0,"video":0}`}},
		`--speculative-config {"model":"a/b"}`:                     {Drafter: true, Other: []string{"--speculative-config\x00\x00" + `{"model":"a/b"}`}},
		"--speculative_config.model a/b":                           {Drafter: true, Other: []string{"--speculative-config\x00model\x00a/b"}},
		"-sc {}":                                                   {Drafter: true, Other: []string{"-sc\x00\x00{}"}},
		"--spec-model=a/b":                                         {Drafter: true, Other: []string{"--spec-model\x00\x00a/b"}},
		"--enable-lora":                                            {LoRA: true, Other: []string{"--enable-lora\x00"}},
		"--no-enable-lora":                                         {Other: []string{"--no-enable-lora\x00"}},
		"--revision abc":                                           {},
		"--reasoning-parser qwen3 --tool-call-parser=x --seed -1":  {},
		"--load-format=safetensors":                                {Other: []string{"--load-format\x00\x00safetensors"}},
		"--z 1 --attention-backend FLASH_ATTN -O3":                 {Other: []string{"--attention-backend\x00\x00FLASH_ATTN", "-O3\x00", "-z\x00\x001"}},
		"--mamba-backend triton":                                   {Other: []string{"--mamba-backend\x00\x00triton"}},
		"--no-enable-expert-parallel":                              {Other: []string{"--no-enable-expert-parallel\x00"}},
		"--max-num-partial-prefills 2 --performance-mode balanced": {Other: []string{"--max-num-partial-prefills\x00\x002", "--performance-mode\x00\x00balanced"}},
	} {
		got, err := launch(server.Model{Args: strings.Fields(args)}, nil)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", args, got, err)
		}
	}
}

func TestArgumentsThatCannotBeEstimated(t *testing.T) {
	for args, named := range map[string]string{
		"--cpu-offload-gb 4":                        "--cpu-offload-gb",
		"--cpu_offload_gb=4":                        "--cpu-offload-gb",
		"--offload-group-size 2":                    "--offload-group-size",
		"--enable-expert-parallel":                  "--enable-expert-parallel",
		"-ep":                                       "-ep",
		"--load-format dummy":                       "--load-format",
		"--load-format=bitsandbytes":                "--load-format",
		"--hf-overrides {}":                         "--hf-overrides",
		"--hf-overrides.num_hidden_layers 3":        "--hf-overrides",
		"--max-cudagraph-capture-size 8192":         "--max-cudagraph-capture-size",
		"--cudagraph-capture-sizes 1 2 4":           "--cudagraph-capture-sizes",
		"-cc.mode 3":                                "-cc",
		"-O.mode=3":                                 "-O",
		"--mamba-ssm-cache-dtype float32":           "--mamba-ssm-cache-dtype",
		"--decode-context-parallel-size 2":          "--decode-context-parallel-size",
		"-dcp 2":                                    "-dcp",
		"--kv-offloading-size 5":                    "--kv-offloading-size",
		"--kv-transfer-config {}":                   "--kv-transfer-config",
		"--max-num-batched-tokens lots":             "--max-num-batched-tokens",
		"--max-num-batched-tokens":                  "--max-num-batched-tokens",
		"--block-size 1 2":                          "--block-size",
		"--kv-cache-dtype":                          "--kv-cache-dtype",
		"--kv-cache-dt fp8":                         "--kv-cache-dtype",
		"--max-num-b 8":                             "--max-num-batched-tokens",
		"--hf-over {}":                              "--hf-overrides",
		"--cpu-off 3":                               "--cpu-offload",
		"--revis abc":                               "--revision",
		"--reasoning-parser x --cpu-offload-gb 4 y": "--cpu-offload-gb",
	} {
		l, err := launch(server.Model{Args: strings.Fields(args)}, nil)
		if err == nil || !strings.Contains(err.Error(), named) || len(l.Other) == 0 {
			t.Errorf("%q: %+v, %v", args, l, err)
		}
	}
}

// Variables that could change what is measured are told apart, and nothing else is.
func TestVariablesOfALaunch(t *testing.T) {
	m := server.Model{Env: []string{"VLLM_ATTENTION_BACKEND=x", "HF_TOKEN=hf_secret", "VLLM_API_KEY=sk", "VLLM_LOGGING_LEVEL=DEBUG"}}
	l, err := launch(m, []string{"PYTORCH_CUDA_ALLOC_CONF=y", "PATH=/bin", "VLLM_ENGINE_READY_TIMEOUT_S=5"})
	if want := []string{"PYTORCH_CUDA_ALLOC_CONF=y", "VLLM_ATTENTION_BACKEND=x"}; err != nil || !reflect.DeepEqual(l.Other, want) {
		t.Errorf("%q, %v", l.Other, err)
	}
}

func FuzzLaunch(f *testing.F) {
	for _, s := range []string{"--max-num-batched-tokens 8k", "--limit-mm-per-prompt image=0", "--limit-mm-per-prompt {\"image\":0}", "-ep", "--no-", "--c", "--=", "-O.x", "--kv-cache-dtype"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		l, err := launch(server.Model{Args: args}, nil)
		again, err2 := launch(server.Model{Args: args}, nil)
		if !reflect.DeepEqual(l, again) || (err == nil) != (err2 == nil) {
			t.Errorf("%q: %+v, then %+v", args, l, again)
		}
		if l.MaxNumBatchedTokens < 0 || l.BlockSize < 0 {
			t.Errorf("%q: %+v", args, l)
		}
	})
}
