package footprint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/internal/hfcache"
)

// repository is the files of a model in two shards, with things beside them
// that are not its weights.
func repository() map[string][]byte {
	all := tinyTensors()
	index := map[string]string{}
	for i, t := range all {
		index[t.Name] = fmt.Sprintf("model-0000%d-of-00002.safetensors", min(i/10, 1)+1)
	}
	text, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": 1}, "weight_map": index})
	if err != nil {
		panic(err)
	}
	return map[string][]byte{
		"config.json":                      []byte(tiny),
		"model.safetensors.index.json":     text,
		"model-00001-of-00002.safetensors": file(all[:10]...),
		"model-00002-of-00002.safetensors": file(all[10:]...),
		"consolidated.safetensors":         file(all...),
		"original/model.safetensors":       file(all...),
		"README.md":                        []byte("words"),
		"gguf/T-Q4_K_M.gguf":               ggufBytes(3, ggufFacts, ggufTensors()),
	}
}

// folder writes files into a folder.
func folder(t testing.TB, path string, files map[string][]byte) string {
	t.Helper()
	for name, b := range files {
		at := filepath.Join(path, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestLoadFromAFolder(t *testing.T) {
	src, err := FromCache("", folder(t, t.TempDir(), repository()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Load(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if want := tinyWeights(t); m.Weights.Bytes() != want.Bytes() || fmt.Sprint(m.Weights) != fmt.Sprint(want) || len(m.Files) != 2 || m.Config.Depth != 2 {
		t.Errorf("%+v", m)
	}
	g, err := LoadGGUF(t.Context(), src, "Q4_K_M")
	if err != nil || g.Config.Type != "qwen3" || len(g.Weights.Tensors) != len(ggufTensors()) {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := LoadGGUF(t.Context(), src, "Q8_0"); !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), "gguf/T-Q4_K_M.gguf") {
		t.Errorf("%v", err)
	}
}

func TestLoadGGUFInParts(t *testing.T) {
	parts := func(count uint16, tensors int32) map[string][]byte {
		facts := append(append([]any{}, ggufFacts...), "split.count", count, "split.tensors.count", tensors)
		all := ggufTensors()
		return map[string][]byte{
			"m-Q4_K_M-00001-of-00002.gguf": ggufBytes(3, facts, all[:2]),
			"m-Q4_K_M-00002-of-00002.gguf": ggufBytes(3, []any{"split.count", count}, all[2:]),
		}
	}
	m, err := LoadGGUF(t.Context(), NewFolder(folder(t, t.TempDir(), parts(2, 5)), ""), "Q4_K_M")
	if err != nil || len(m.Weights.Tensors) != 5 || len(m.Files) != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	for name, files := range map[string]map[string][]byte{"another count": parts(3, 5), "tensors that lack": parts(2, 6)} {
		if m, err := LoadGGUF(t.Context(), NewFolder(folder(t, t.TempDir(), files), ""), ""); !errors.Is(err, ErrCannot) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	// An architecture that the header alone does not tell needs a config.json.
	strange := map[string][]byte{"m.gguf": ggufBytes(3, []any{"general.architecture", "strange"}, ggufTensors()[:1])}
	if m, err := LoadGGUF(t.Context(), NewFolder(folder(t, t.TempDir(), strange), ""), ""); !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), "strange") {
		t.Errorf("%+v, %v", m, err)
	}
	strange["config.json"] = []byte(tiny)
	if m, err := LoadGGUF(t.Context(), NewFolder(folder(t, t.TempDir(), strange), ""), ""); err != nil || m.Config.Type != "llama" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestLoadFromACache(t *testing.T) {
	cache := t.TempDir()
	if _, err := FromCache(cache, "org/name"); !errors.Is(err, hfcache.ErrMissing) {
		t.Errorf("%v", err)
	}
	root := filepath.Join(cache, "hub", "models--org--name")
	folder(t, root, map[string][]byte{"refs/main": []byte("abc")})
	blobs := folder(t, filepath.Join(root, "blobs"), map[string][]byte{})
	snapshot := filepath.Join(root, "snapshots", "abc")
	if err := os.MkdirAll(snapshot, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range repository() { // as links into blobs
		if strings.Contains(name, "/") {
			continue
		}
		folder(t, blobs, map[string][]byte{name + ".blob": b})
		if err := os.Symlink(filepath.Join("..", "..", "blobs", name+".blob"), filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	src, err := FromCache(cache, "org/name")
	if err != nil {
		t.Fatal(err)
	}
	if m, err := Load(t.Context(), src); err != nil || m.Revision != "abc" || m.Weights.Bytes() != tinyWeights(t).Bytes() {
		t.Errorf("%+v, %v", m, err)
	}
	// A shard that is being fetched is a link to nothing.
	if err := os.Remove(filepath.Join(blobs, "model-00002-of-00002.safetensors.blob")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), src); !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), "not downloaded whole") {
		t.Errorf("%v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(map[string][]byte)
		reason string
	}{
		"no config":       {func(f map[string][]byte) { delete(f, "config.json") }, "config.json"},
		"a broken config": {func(f map[string][]byte) { f["config.json"] = []byte("{") }, "JSON"},
		"a missing shard": {func(f map[string][]byte) { delete(f, "model-00001-of-00002.safetensors") }, "model-00001"},
		"a cut shard": {func(f map[string][]byte) {
			f["model-00001-of-00002.safetensors"] = f["model-00001-of-00002.safetensors"][:900]
		}, "model-00001"},
		"an empty shard":   {func(f map[string][]byte) { f["model-00001-of-00002.safetensors"] = nil }, "model-00001"},
		"a broken index":   {func(f map[string][]byte) { f["model.safetensors.index.json"] = []byte(`{`) }, "index"},
		"a tensor too few": {func(f map[string][]byte) { f["model-00002-of-00002.safetensors"] = file(tensor("x", "U8", 1)) }, "in no file"},
		"no weights":       {func(f map[string][]byte) { clear(f); f["config.json"] = []byte(tiny) }, "no safetensors"},
		"a tensor in two": {func(f map[string][]byte) {
			delete(f, "model.safetensors.index.json")
			f["a.safetensors"] = file(tinyTensors()...)
		}, "twice"},
		"a link to elsewhere": {func(f map[string][]byte) {
			f["model.safetensors.index.json"] = []byte(`{"weight_map": {"a": "../x.safetensors"}}`)
		}, "index"},
	} {
		files := repository()
		c.spoil(files)
		m, err := Load(t.Context(), NewFolder(folder(t, t.TempDir(), files), ""))
		if !errors.Is(err, ErrCannot) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
		if err != nil && strings.Contains(err.Error(), os.TempDir()) {
			t.Errorf("%s: the error tells the path: %v", name, err)
		}
	}
	if _, err := Load(t.Context(), NewFolder(filepath.Join(t.TempDir(), "none"), "")); !errors.Is(err, ErrCannot) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Load(ctx, NewFolder(folder(t, t.TempDir(), repository()), "")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Also of a model that is not understood, what was read is told.
func TestLoadTellsWhatItRead(t *testing.T) {
	for text, want := range map[string]int{
		strings.Replace(tiny, `{`, `{"max_position_embeddings": 4096, `, 1): 4096,
		`{"model_type": "novel", "max_position_embeddings": 8192}`:          8192,
		`{"model_type": "novel"}`:                                           0,
	} {
		files := repository()
		files["config.json"] = []byte(text)
		m, err := Load(t.Context(), NewFolder(folder(t, t.TempDir(), files), "abc"))
		if m.Native != want || m.Revision != "abc" || (err != nil) != strings.Contains(text, "novel") {
			t.Errorf("%s: %d tokens of %s, %v", text, m.Native, m.Revision, err)
		}
	}
}

func TestFolderReadsWithinItself(t *testing.T) {
	f := NewFolder(folder(t, t.TempDir(), map[string][]byte{"in/a": []byte("0123456789"), "b": []byte("x")}), "")
	if b, err := f.Read(t.Context(), "in/a", 2, 3); err != nil || string(b) != "234" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []struct {
		name           string
		offset, length int64
	}{{"../b", 0, 1}, {"/etc/hostname", 0, 1}, {"in/../b", 0, 1}, {"in/a", 8, 3}, {"in/a", -1, 1}, {"in/a", 0, -1}, {"in/a", 1, 1 << 62}, {"none", 0, 1}} {
		if b, err := f.Read(t.Context(), bad.name, bad.offset, bad.length); err == nil {
			t.Errorf("%v: %q", bad, b)
		}
	}
	files, err := f.Files(t.Context())
	if err != nil || fmt.Sprint(files) != "[{b 1} {in/a 10}]" {
		t.Errorf("%v, %v", files, err)
	}
}
