package vllm

import (
	"slices"
	"strings"
	"testing"
)

func TestManaged(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		// Not managed.
		{"", ""},
		{"--enable-prefix-caching", ""},
		{"--max-num-batched-tokens 8192 --kv-cache-dtype fp8 --trust-remote-code", ""},
		{"--model-impl transformers --model-loader-extra-config {}", ""},
		{"--config-format mistral --load-format mistral", ""},
		{"--reasoning-parser=qwen3 --chat-template=--model", ""},
		{"--decode-context-parallel-size 2 -dcp 2 -O3 -O 2 -cc {} -asc 2", ""},
		{"--hf-overrides.model x --compilation-config.port 1", ""},
		{"--no-enable-prefix-caching --no-async-scheduling", ""},
		{"--seed -1 --temperature -0.5", ""},
		{"--lora-modules a=b --middleware port", ""},
		{"--no-", ""},

		// Spellings of one flag.
		{"--tensor-parallel-size 2", "--tensor-parallel-size"},
		{"--tensor_parallel_size 2", "--tensor-parallel-size"},
		{"--tensor_parallel-size=2", "--tensor-parallel-size"},
		{"--tensor-parallel 2", "--tensor-parallel-size"},
		{"--tensor_par=2", "--tensor-parallel-size"},
		{"-tp 2", "--tensor-parallel-size"},
		{"-tp=2", "--tensor-parallel-size"},
		{"-t 2", "--tensor-parallel-size"},
		{"--enable-prefix-caching --seed 1 -tp 4", "--tensor-parallel-size"},

		// Each kind.
		{"--model a/b", "--model"},
		{"--mode a/b", "--model"},
		{"--served-model-name x", "--served-model-name"},
		{"--host 0.0.0.0", "--host"},
		{"--port=1", "--port"},
		{"--max-model-len 1", "--max-model-len"},
		{"--max_model 1", "--max-model-len"},
		{"--max-num-seqs 1", "--max-num-seqs"},
		{"--dtype half", "--dtype"},
		{"-q awq", "--quantization"},
		{"-qawq", "--quantization"},
		{"--enforce-eager", "--enforce-eager"},
		{"--no-enforce-eager", "--enforce-eager"},
		{"--no_enforce_eager", "--enforce-eager"},
		{"--no-enforce", "--enforce-eager"},
		{"--gpu-memory-utilization 0.9", "--gpu-memory-utilization"},
		{"--enable-sleep-mode", "--enable-sleep-mode"},
		{"--enable_sleep", "--enable-sleep-mode"},
		{"--kv-cache-memory 1", "--kv-cache-memory-bytes"},
		{"--api-key x", "--api-key"},
		{"--config x.yaml", "--config"},
		{"--config=x.yaml", "--config"},
		{"--uds /x", "--uds"},
		{"--ssl-keyfile x", "--ssl-keyfile"},
		{"--data-parallel-size 2", "--data-parallel-size"},
		{"--data-parallel-size-local 2", "--data-parallel-size-local"},
		{"-dp 2", "--data-parallel-size"},
		{"-dpn 2", "--data-parallel-rank"},
		{"-pp 2", "--pipeline-parallel-size"},
		{"-n 2", "--nnodes"},
		{"-n2", "--nnodes"},
		{"--shutdown-timeout 3", "--shutdown-timeout"},

		// A flag stands where a value is expected; argparse takes it as a flag.
		{"--chat-template --model x", "--model"},
		{"-asc -tp", "--tensor-parallel-size"},

		// The model as a positional argument.
		{"other/model", "--model"},
		{"--enable-prefix-caching -- other/model", "--model"},
	} {
		got := Server{}.Managed(strings.Fields(c.args))
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.args, got, c.want)
		}
		if got != "" && Instead(got) == "" {
			t.Errorf("%s: nothing to do instead", got)
		}
	}
	// An argument with a blank is a value, whatever it begins with.
	if got := (Server{}).Managed([]string{"--chat-template", "--model is the word"}); got != "" {
		t.Errorf("a text: got %q", got)
	}
	if Instead("--seed") != "" {
		t.Error("there is something to do instead of --seed")
	}
}

func TestManagedFlagsAreWellFormed(t *testing.T) {
	var shorts []string
	for i, f := range managedFlags {
		if f.name != strings.ToLower(f.name) || strings.ContainsAny(f.name, "_=. ") || strings.HasPrefix(f.name, "-") {
			t.Errorf("%q is no normalised name", f.name)
		}
		if slices.ContainsFunc(managedFlags[:i], func(g managedFlag) bool { return g.name == f.name }) {
			t.Errorf("%q stands twice", f.name)
		}
		shorts = append(shorts, f.short...)
	}
	slices.Sort(shorts)
	if len(slices.Compact(slices.Clone(shorts))) != len(shorts) {
		t.Errorf("a short form stands twice: %q", shorts)
	}
}

func FuzzManaged(f *testing.F) {
	for _, s := range []string{"", "--model x", "-tp=2", "--no-", "--", "-", "--=", "--.x", "x", "--ma", "-q\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		got := Server{}.Managed(args)
		if got == "" {
			// Adding a managed flag is always seen.
			if last := (Server{}).Managed(append(args, "--port=1")); last != "--port" {
				t.Errorf("%q hides --port: %q", args, last)
			}
			return
		}
		if Instead(got) == "" {
			t.Errorf("%q: %q is no managed flag", args, got)
		}
	})
}
