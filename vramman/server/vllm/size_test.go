package vllm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

var (
	small24 = server.Setting{Card: server.Card{Name: "NVIDIA GeForce RTX 4090", Total: 24 << 30}, Degree: 1}
	large80 = server.Setting{Card: server.Card{Name: "NVIDIA H100", Total: 80 << 30}, Degree: 1}
	two24   = server.Setting{Card: small24.Card, Degree: 2}
)

// sized asks for one setting.
func sized(t *testing.T, m server.Model, f server.Files) server.Sizing {
	t.Helper()
	all := Server{}.Size(t.Context(), m, f, []server.Setting{small24})
	if len(all) != 1 {
		t.Fatalf("%d sizings", len(all))
	}
	if s := all[0]; s.Err != nil && (!errors.Is(s.Err, footprint.ErrCannot) || !strings.HasPrefix(s.Err.Error(), "cannot estimate, because ") || strings.Contains(s.Err.Error(), token)) {
		t.Errorf("not fit for users: %v", s.Err)
	}
	return all[0]
}

func TestSizeFromTheCache(t *testing.T) {
	hub := newFakeHub(t, nil)
	cache := t.TempDir()
	inCache(t, cache, "org/name", sha, repository(small))
	files := server.Files{Cache: cache, Env: hub.env(), Image: "vllm/vllm-openai:v1"}
	m := server.Model{Name: "m", Repo: "org/name", MaxModelLen: 1024, MaxNumSeqs: 4}
	all := Server{}.Size(t.Context(), m, files, []server.Setting{small24, large80, two24, {Card: small24.Card, Degree: 3}})
	one, large, two, three := all[0], all[1], all[2], all[3]
	if one.Err != nil || one.Weights != smallWeights || one.MaxModelLen != 1024 || one.Reserved != 4 || one.Fixed || one.KVBytes != 256*(4*1024+16) {
		t.Errorf("%+v", one)
	}
	if large.Err != nil || large.Activation < one.Activation || large.Signatures.Weights == one.Signatures.Weights {
		t.Errorf("on a larger card: %+v", large)
	}
	if two.Err != nil || two.Weights >= one.Weights || two.KVBytes != one.KVBytes/2 {
		t.Errorf("on two cards: %+v", two)
	}
	if three.Err == nil || !strings.Contains(three.Err.Error(), "8 attention heads do not divide by 3 cards") || three.Signatures == (footprint.Signatures{}) || three.MaxModelLen != 1024 {
		t.Errorf("on three: %+v", three)
	}
	if asked := hub.requests(); len(asked) != 0 {
		t.Errorf("the hub was asked for what is in the cache: %q", asked)
	}
	files.Image = "vllm/vllm-openai:v2"
	if again := sized(t, m, files); again.Signatures.Weights == one.Signatures.Weights || again.Total() != one.Total() {
		t.Errorf("another image: %+v", again)
	}
}

func TestLengthAndReservationOfSizes(t *testing.T) {
	cache := t.TempDir()
	inCache(t, cache, "org/name", sha, repository(small))
	files := server.Files{Cache: cache}
	for _, c := range []struct {
		m                server.Model
		length, reserved int
		fixed            bool
	}{
		{server.Model{}, 4096, footprint.DefaultReserved, false},
		{server.Model{MaxModelLen: 100000, MaxNumSeqs: 3}, 4096, 3, false},
		{server.Model{MaxModelLen: 100, MaxNumSeqs: 300, ReservedSeqs: 2}, 100, 2, true},
	} {
		c.m.Repo = "org/name"
		got := sized(t, c.m, files)
		if got.Err != nil || got.MaxModelLen != c.length || got.Reserved != c.reserved || got.Fixed != c.fixed || got.KVBytes != 256*int64(c.length*c.reserved+16+(16-c.length%16)%16*c.reserved) {
			t.Errorf("%+v: %+v", c.m, got)
		}
	}
	inCache(t, cache, "org/endless", sha, repository(strings.Replace(small, `, "max_position_embeddings": 4096`, "", 1)))
	if got := sized(t, server.Model{Repo: "org/endless"}, files); got.Err == nil || !strings.Contains(got.Err.Error(), "set max_model_len") {
		t.Errorf("%+v", got)
	}
	if got := sized(t, server.Model{Repo: "org/endless", MaxModelLen: 512}, files); got.Err != nil || got.MaxModelLen != 512 {
		t.Errorf("%+v", got)
	}
}

func TestSizeFromTheHub(t *testing.T) {
	hub := newFakeHub(t, repository(small))
	keep := footprint.NewFolderCache(filepath.Join(t.TempDir(), "kept"))
	files := server.Files{Cache: t.TempDir(), Env: hub.env(), Keep: keep}
	m := server.Model{Name: "m", Repo: "org/name"}
	first := Server{}.Size(t.Context(), m, files, []server.Setting{small24, large80, two24})
	if first[0].Err != nil || first[0].Weights != smallWeights || first[0].MaxModelLen != 4096 || first[2].Err != nil {
		t.Errorf("%+v", first)
	}
	// A list, the configuration and a header, once for all cards, and but for
	// the list in pieces.
	asked := hub.requests()
	if len(asked) != 3 {
		t.Errorf("%q", asked)
	}
	for _, request := range asked {
		if !strings.HasPrefix(request, "/api/") && !strings.Contains(request, " bytes=") {
			t.Errorf("a whole file is read: %s", request)
		}
	}
	for name, env := range map[string][]string{
		"offline":              hub.env("HF_HUB_OFFLINE=1"),
		"offline in its words": hub.env("TRANSFORMERS_OFFLINE=yes"),
		"not to be asked":      nil,
	} {
		files.Env = env
		if got := sized(t, m, files); name != "not to be asked" && (got.Err != nil || got.Signatures != first[0].Signatures) {
			t.Errorf("%s: %+v", name, got)
		}
		if asked := hub.requests(); len(asked) != 0 {
			t.Errorf("%s: the hub was asked for %q", name, asked)
		}
	}
	// The model's own variables go before, and what was read serves when the hub is away.
	files.Env = []string{"HF_ENDPOINT=" + hub.URL, "HF_TOKEN=old"}
	m.Env = []string{"HF_TOKEN=" + token}
	if got := sized(t, m, files); got.Err != nil {
		t.Errorf("with a token of its own: %+v", got)
	}
	older := server.Files{Env: []string{"HF_ENDPOINT=" + hub.URL, "HUGGING_FACE_HUB_TOKEN=" + token}}
	if got := sized(t, server.Model{Repo: "org/name"}, older); got.Err != nil {
		t.Errorf("with the token's older name: %+v", got)
	}
	hub.Close()
	if got := sized(t, m, files); got.Err != nil || got.Signatures != first[0].Signatures {
		t.Errorf("without the hub: %+v", got)
	}
	files.Keep = nil
	if got := sized(t, m, files); got.Err == nil || !strings.Contains(got.Err.Error(), "cannot be reached") {
		t.Errorf("without the hub and what was kept: %+v", got)
	}
}

func TestHubThatRefuses(t *testing.T) {
	hub := newFakeHub(t, repository(small))
	m := server.Model{Repo: "org/name", MaxModelLen: 2048}
	for _, env := range [][]string{{"HF_ENDPOINT=" + hub.URL}, {"HF_ENDPOINT=" + hub.URL + "/", "HUGGING_FACE_HUB_TOKEN=wrong"}} {
		got := sized(t, m, server.Files{Env: env})
		if got.Err == nil || !strings.Contains(got.Err.Error(), "HF_TOKEN") || got.Signatures == (footprint.Signatures{}) || got.MaxModelLen != 2048 {
			t.Errorf("%+v", got)
		}
	}
	hub.requests()
	got := sized(t, m, server.Files{})
	if got.Err == nil || !strings.Contains(got.Err.Error(), "not in the cache") || len(hub.requests()) != 0 {
		t.Errorf("%+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := (Server{}).Size(ctx, m, server.Files{Env: hub.env()}, []server.Setting{small24})[0]; !errors.Is(got.Err, footprint.ErrCannot) {
		t.Errorf("%+v", got)
	}
	if got := sized(t, server.Model{Repo: "../up"}, server.Files{Env: hub.env(), Cache: t.TempDir()}); got.Err == nil {
		t.Errorf("%+v", got)
	}
}

// A snapshot that is not whole yet is read from the hub, and where that is away
// from what there is.
func TestSizeWhileTheModelIsFetched(t *testing.T) {
	hub := newFakeHub(t, repository(small))
	cache := t.TempDir()
	half := repository(small)
	delete(half, "tokenizer.json")
	inCache(t, cache, "org/name", sha, half)
	files := server.Files{Cache: cache, Env: hub.env()}
	m := server.Model{Repo: "org/name"}
	if got := sized(t, m, files); got.Err != nil || len(hub.requests()) != 3 {
		t.Errorf("%+v", got)
	}
	hub.Close()
	if got := sized(t, m, files); got.Err != nil || got.Weights != smallWeights {
		t.Errorf("without the hub: %+v", got)
	}
}

// A model that cannot be estimated has the same signatures before it is fetched
// and after, and others than another version of it.
func TestUnknownModelsAreIdentified(t *testing.T) {
	hub := newFakeHub(t, repository(novel))
	cache := t.TempDir()
	files := server.Files{Cache: cache, Env: hub.env(), Image: "i"}
	m := server.Model{Repo: "org/name", MaxNumSeqs: 2}
	before := sized(t, m, files)
	if before.Err == nil || !strings.Contains(before.Err.Error(), `"novel" is not known`) || before.MaxModelLen != 4096 || before.Reserved != 2 || before.Total() != 0 {
		t.Errorf("%+v", before)
	}
	inCache(t, cache, "org/name", sha, repository(novel))
	after := sized(t, m, files)
	if after.Err == nil || after.Signatures != before.Signatures {
		t.Errorf("%+v\n%+v", after, before)
	}
	inCache(t, cache, "org/name", strings.Repeat("a", 40), repository(novel))
	if other := sized(t, m, files); other.Signatures.Weights == before.Signatures.Weights {
		t.Errorf("another version: %+v", other)
	}
	// So does one whose arguments make it unknown.
	inCache(t, cache, "org/name", sha, repository(small))
	seen := map[footprint.Signature]string{sized(t, m, files).Signatures.Weights: "none"}
	for _, args := range []string{"--cpu-offload-gb 4", "--cpu-offload-gb 5", "--enable-lora", "--enable-lora --max-loras 2"} {
		m.Args = strings.Fields(args)
		got := sized(t, m, files)
		if got.Err == nil || seen[got.Signatures.Weights] != "" {
			t.Errorf("%s is like %q: %+v", args, seen[got.Signatures.Weights], got)
		}
		seen[got.Signatures.Weights] = args
		if again := sized(t, m, files); again.Signatures != got.Signatures {
			t.Errorf("%s: %+v, then %+v", args, got, again)
		}
	}
	// A folder has no version: its files tell.
	folder := t.TempDir()
	for name, b := range repository(novel) {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one := sized(t, server.Model{Repo: folder}, server.Files{})
	write(t, folder, "more.safetensors")
	if two := sized(t, server.Model{Repo: folder}, server.Files{}); one.Err == nil || one.Signatures.Weights == two.Signatures.Weights {
		t.Errorf("%+v\n%+v", one, two)
	}
}

func TestSizeOfGGUF(t *testing.T) {
	const weights = 256 * 64 * 2 // served in 16 bits
	repo := map[string][]byte{"M-Q4_K_M.gguf": gguf(), "M-Q8_0.gguf": gguf(), "README.md": nil}
	hub := newFakeHub(t, repo)
	cache, folder := t.TempDir(), t.TempDir()
	inCache(t, cache, "org/cached", sha, repo)
	for name, b := range repo {
		if err := os.WriteFile(filepath.Join(folder, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := server.Files{Cache: cache, Env: hub.env()}
	for _, m := range []server.Model{
		{Repo: "org/name", File: "Q4_K_M"},
		{Repo: "org/cached", File: "q4_k_m"},
		{Repo: "org/cached", File: "M-Q8_0.gguf"},
		{Repo: folder, File: "Q8_0"},
		{Repo: folder, File: "M-Q8_0.gguf"},
		{Repo: folder + "/M-Q8_0.gguf"},
	} {
		got := sized(t, m, files)
		if got.Err != nil || got.Weights != weights || got.MaxModelLen != 2048 {
			t.Errorf("%+v: %+v", m, got)
		}
		if asked := hub.requests(); (len(asked) > 0) != (m.Repo == "org/name") {
			t.Errorf("%+v: the hub was asked for %q", m, asked)
		}
	}
	for _, m := range []server.Model{{Repo: "org/name", File: "Q4_K"}, {Repo: folder, File: "Q4_K"}, {Repo: folder, File: "M.gguf"}} {
		if got := sized(t, m, files); got.Err == nil || !strings.Contains(got.Err.Error(), "Q4_K_M (M-Q4_K_M.gguf)") {
			t.Errorf("%+v: the candidates are not listed: %v", m, got.Err)
		}
	}
}

func TestSizeOfARevision(t *testing.T) {
	cache := t.TempDir()
	inCache(t, cache, "org/name", sha, repository(small))
	other := strings.Repeat("b", 40)
	larger := repository(strings.Replace(small, `"max_position_embeddings": 4096`, `"max_position_embeddings": 512`, 1))
	inCache(t, cache, "org/name", other, larger)
	for args, want := range map[string]int{"--revision " + sha: 4096, "--revision=" + other: 512, "": 512} {
		got := sized(t, server.Model{Repo: "org/name", Args: strings.Fields(args)}, server.Files{Cache: cache})
		if got.Err != nil || got.MaxModelLen != want {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if got := sized(t, server.Model{Repo: "org/name", Args: []string{"--revision", "v9"}}, server.Files{Cache: cache}); got.Err == nil {
		t.Errorf("%+v", got)
	}
}

// A model that cannot be read is started as it is, measured, and known from then on.
func TestUnknownModelIsKnownAfterItsFirstRun(t *testing.T) {
	m := server.Model{Name: "m", Repo: "org/name", MaxModelLen: 1024, MaxNumSeqs: 4}
	first := sized(t, m, server.Files{})
	var facts footprint.Facts
	for _, line := range []string{
		"INFO Model loading took 3.0 GiB memory and 8.2 seconds",
		"INFO Available KV cache memory: 8.0 GiB",
		"INFO GPU KV cache size: 8,192 tokens, Maximum concurrency for 1,024 tokens per request: 8.00x",
		"INFO Graph capturing finished in 4 secs, took 0.5 GiB",
	} {
		facts = facts.Join(Server{}.Line(line).Facts)
	}
	measured := footprint.Measured{}
	for _, r := range first.Records("m", footprint.Observation{Used: 13 << 30, Facts: facts}, time.Unix(1, 0)) {
		var err error
		if measured, err = measured.With(r); err != nil {
			t.Fatal(err)
		}
	}
	second := sized(t, m, server.Files{})
	b, ok := footprint.Remember(second.Parts, measured)
	if !ok || b.Total() != 9<<30 || fmt.Sprint(b) != "weights 3.00 GiB (measured), kv cache 4.00 GiB for 4 x 1024 tokens (measured), activation, graphs and context 2.00 GiB (measured)" {
		t.Errorf("%v, %s", ok, b)
	}
}
