package docker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// fetch is a launch whose fetch command is the probe with the given flags.
func fetch(t *testing.T, r *rig, id string, flags ...string) *engine.Launch {
	l := launch(t, r, id)
	l.FetchCommand = append([]string{"/probe"}, flags...)
	return l
}

// Weights are fetched into the servers' cache, without a card, once for each
// image and command; what is printed is handed on.
func TestFetch(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Cache, spec.Env = t.TempDir(), []string{"HF_TOKEN=hf_secret"}
	e := open(t, spec)
	l := fetch(t, r, "m-1", "-leave", "weights", "-env", "-errors", "model.bin:   0%|  |\rmodel.bin:  34%|##|\rmodel.bin: 100%|##|\ndone\n", "-exit", "0")
	var lines, stages []string
	l.Output = func(line string) { lines = append(lines, line) }
	l.Progress = func(stage string) { stages = append(stages, stage) }
	for range 2 {
		if err := e.Fetch(t.Context(), l); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(spec.Cache, "weights")); err != nil || string(b) != "x" {
		t.Errorf("the cache holds %q: %v", b, err)
	}
	if want := []string{
		"fetching weights", "fetching weights: model.bin, 0 %", "fetching weights: model.bin, 34 %", "fetching weights: model.bin, 100 %",
	}; !slices.Equal(stages, want) {
		t.Errorf("the stages are %q, want %q", stages, want)
	}
	for _, want := range []string{"env HF_TOKEN=hf_secret", "env NVIDIA_VISIBLE_DEVICES=void", "env CUDA_VISIBLE_DEVICES=", "done"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the lines %q are without %q", lines, want)
		}
	}
	l.FetchCommand = []string{"/probe", "-leave", "weights", "-exit", "0"}
	if err := e.Fetch(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(spec.Cache, "weights")); err != nil || string(b) != "xx" {
		t.Errorf("after another command the cache holds %q: %v", b, err)
	}
}

// A fetch that fails says why and is tried again; one that is given up leaves no
// container.
func TestFetchFails(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Cache = t.TempDir()
	e := open(t, spec)
	l := fetch(t, r, "m-1", "-leave", "tries", "-errors", "Traceback\nGatedRepoError: 401 Client Error.\n", "-exit", "1")
	for range 2 {
		if err := e.Fetch(t.Context(), l); err == nil || !strings.Contains(err.Error(), "accept its licence") {
			t.Errorf("fetch: %v", err)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(spec.Cache, "tries")); string(b) != "xx" {
		t.Errorf("it was tried %d times", len(b))
	}

	ctx, cancel := context.WithCancel(t.Context())
	l = fetch(t, r, "m-2", "-hang")
	l.Output = func(string) { cancel() } // "ready"
	if err := e.Fetch(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("a fetch that is given up: %v", err)
	}
	if found, err := e.daemon.list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// An image without the fetch program serves all the same, which is said once.
func TestFetchProgramMissing(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Cache = t.TempDir()
	core, logs := observer.New(zap.InfoLevel)
	opened, err := spec.Open(t.Context(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	e := opened.(*Engine)
	t.Cleanup(func() { _ = e.Close(context.Background()) })
	for _, command := range [][]string{{"hf", "download", "a/b"}, {"hf", "download", "a/c"}, {"/nowhere/hf"}} {
		l := launch(t, r, "m-1")
		l.FetchCommand = command
		if err := e.Fetch(t.Context(), l); err != nil {
			t.Errorf("%q: %v", command, err)
		}
	}
	if n := logs.FilterMessageSnippet("lacks the program that fetches weights").Len(); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}

func TestFetchFailure(t *testing.T) {
	for last, want := range map[string]string{
		"huggingface_hub.errors.GatedRepoError: 403 Client Error.": "accept its licence",
		"Repository Not Found for url: https://huggingface.co/x.":  "correct 'repo'",
		"OSError: [Errno 28] No space left on device":              "the disk of Docker's host is full",
		"httpx.ConnectError: [Errno -3] Temporary failure":         "cannot be reached",
		"Error: something else":                                    "its last line: Error: something else",
		"":                                                         "is the disk full?",
		"exec /usr/bin/hf: exec format error":                      "another processor",
	} {
		if err := fetchFailure("hf", 1, last); !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", last, err, want)
		}
	}
	if err := fetchFailure("hf", 137, ""); !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}

func FuzzFetchStage(f *testing.F) {
	for _, s := range []string{"", "Fetching 12 files:  50%|█████     | 6/12 [00:01<00:01]", "  3%|x", "model.bin: 34%|", "100%", "a: 1000%|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		stage := fetchStage(line)
		if len(stage) > 600 || stage != "" && !strings.HasSuffix(stage, " %") {
			t.Errorf("%q makes %q", line, stage)
		}
	})
}
