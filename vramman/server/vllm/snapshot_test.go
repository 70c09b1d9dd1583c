package vllm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// cached makes a cache with one complete repository, org/name, made for 4096 tokens.
func cached(t *testing.T) string {
	t.Helper()
	cache := t.TempDir()
	root := filepath.Join(cache, "hub", "models--org--name")
	for name, text := range map[string]string{
		"refs/main":                       "abc",
		"snapshots/abc/config.json":       `{"max_position_embeddings": 4096}`,
		"snapshots/abc/tokenizer.json":    "{}",
		"snapshots/abc/model.safetensors": "weights",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cache
}

func TestLengthIsCappedToTheModels(t *testing.T) {
	cache := cached(t)
	for _, c := range []struct {
		repo, cache string
		asked, want int
	}{
		{"org/name", cache, 32768, 4096},
		{"org/name", cache, 2048, 2048},
		{"org/name", cache, 0, 0},
		{"org/other", cache, 32768, 32768},
		{"org/name", "", 32768, 32768},
	} {
		if got := maxModelLen(server.Model{Repo: c.repo, MaxModelLen: c.asked}, c.cache); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if got := maxModelLen(server.Model{Repo: "org/name", MaxModelLen: 9000, Args: []string{"--revision", "v2"}}, cache); got != 9000 {
		t.Errorf("another revision is capped to %d by the main branch", got)
	}
	args := Server{}.Args(server.Model{Repo: "org/name", MaxModelLen: 9000}, server.Place{Cache: cache}, engine.Listen{})
	if n := slices.Index(args, "--max-model-len"); n < 0 || args[n+1] != "4096" {
		t.Errorf("arguments: %q", args)
	}
}

func TestCompleteSnapshotIsLoadedOffline(t *testing.T) {
	cache := cached(t)
	offline := func(repo string) bool {
		return slices.Contains(Server{}.Env(server.Model{Repo: repo}, server.Place{Cache: cache}), "HF_HUB_OFFLINE=1")
	}
	if !offline("org/name") || offline("org/other") {
		t.Errorf("offline: complete %v, missing %v", offline("org/name"), offline("org/other"))
	}
}

// What is complete is the main branch of the repository, so a server that is told
// to load anything else may still have to ask the hub.
func TestArgumentsThatNeedTheHub(t *testing.T) {
	cache := cached(t)
	for args, offline := range map[string]bool{
		"":                                     true,
		"--enable-prefix-caching":              true,
		"--seed 7 --tokenizer-mode slow":       true,
		"--revision abc":                       false,
		"--revision=abc":                       false,
		"--revis abc":                          false,
		"--code_revision abc":                  false,
		"--tokenizer org/other":                false,
		"--trust-remote-code":                  false,
		"--speculative-config.model org/other": false,
		"-sc.model org/other":                  false,
	} {
		m := server.Model{Repo: "org/name", Args: strings.Fields(args)}
		if got := slices.Contains(Server{}.Env(m, server.Place{Cache: cache}), "HF_HUB_OFFLINE=1"); got != offline {
			t.Errorf("%q: offline %v", args, got)
		}
	}
}

func TestFetchCommand(t *testing.T) {
	for args, want := range map[string]string{
		"--seed 7":                     "",
		"--revision abc":               " --revision abc",
		"--revision a --revision=v1.2": " --revision v1.2",
		"--revision":                   "",
	} {
		got := Server{}.FetchCommand(server.Model{Repo: "org/name", Args: strings.Fields(args)})
		command, excluded, _ := strings.Cut(strings.Join(got, " "), " --exclude ")
		if command != "hf download org/name"+want {
			t.Errorf("%q: %q", args, command)
		}
		// One pattern behind each: a second would be taken for the name of a file.
		if !strings.HasSuffix(excluded, " --exclude original/*") || strings.Count(excluded, " ") != 2*strings.Count(excluded, "--exclude") {
			t.Errorf("left out: %q", excluded)
		}
	}
	for _, repo := range []string{"/models/m", "./m"} {
		if got := (Server{}).FetchCommand(server.Model{Repo: repo}); got != nil {
			t.Errorf("%s: %q", repo, got)
		}
	}
}
