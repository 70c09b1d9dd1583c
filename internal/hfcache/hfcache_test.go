package hfcache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// put writes files below a folder; a name that ends in "/" is a folder.
func put(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

const root = "hub/models--org--name/"

func whole() map[string]string {
	return map[string]string{
		root + "refs/main":                                  "abc\n",
		root + "snapshots/abc/config.json":                  `{"max_position_embeddings": 40960}`,
		root + "snapshots/abc/tokenizer.json":               "{}",
		root + "snapshots/abc/model.safetensors.index.json": `{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}`,
		root + "snapshots/abc/one.safetensors":              "1",
		root + "snapshots/abc/two.safetensors":              "2",
		root + "blobs/0123":                                 "x",
	}
}

func TestSnapshotIsFound(t *testing.T) {
	folder := t.TempDir()
	if _, err := Find(folder, "org/name"); !errors.Is(err, ErrMissing) {
		t.Errorf("an empty cache gives %v", err)
	}
	put(t, folder, whole())
	s, err := Find(folder, "org/name")
	if err != nil || !s.Complete() || s.NativeLength() != 40960 {
		t.Errorf("%+v, %v, complete %v, length %d", s, err, s.Complete(), s.NativeLength())
	}
	put(t, folder, map[string]string{root + "refs/main": "other"})
	if _, err := Find(folder, "org/name"); !errors.Is(err, ErrMissing) {
		t.Errorf("a branch without its snapshot gives %v", err)
	}
	for _, bad := range []string{"../..", "a/b/c", "org/..", "", "org/na me"} {
		if _, err := Find(folder, bad); err == nil {
			t.Errorf("%q is found", bad)
		}
	}
	put(t, folder, map[string]string{root + "refs/main": "../../../etc"})
	if _, err := Find(folder, "org/name"); err == nil {
		t.Error("a branch leads out of the cache")
	}
}

func TestRevisions(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	folder, files := t.TempDir(), whole()
	files[root+"refs/v2"] = hash
	files[root+"refs/pr/1"] = "abc"
	files[root+"snapshots/"+hash+"/config.json"] = `{"n_positions": 77}`
	put(t, folder, files)
	for revision, want := range map[string]int{"main": 40960, "v2": 77, hash: 77, "pr/1": 40960} {
		if s, err := FindRevision(folder, "org/name", revision); err != nil || s.NativeLength() != want {
			t.Errorf("%s: %+v, %v", revision, s, err)
		}
	}
	for _, missing := range []string{"v3", "fedcba9876543210fedcba9876543210fedcba98"} {
		if s, err := FindRevision(folder, "org/name", missing); !errors.Is(err, ErrMissing) {
			t.Errorf("%s: %+v, %v", missing, s, err)
		}
	}
	for _, bad := range []string{"", "../refs/main", "/etc/hostname", ".."} {
		if s, err := FindRevision(folder, "org/name", bad); err == nil {
			t.Errorf("%q: %+v", bad, s)
		}
	}
}

func TestDescribedWithoutWeights(t *testing.T) {
	folder, files := t.TempDir(), whole()
	delete(files, root+"snapshots/abc/model.safetensors.index.json")
	put(t, folder, files)
	s, err := Find(folder, "org/name")
	if err != nil || !s.Described() || s.Complete() {
		t.Errorf("%+v, %v", s, err)
	}
	put(t, folder, map[string]string{root + "blobs/0123.incomplete": "x"})
	if s.Described() {
		t.Error("described while something is being fetched")
	}
}

func TestFolderIsItsOwnSnapshot(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, map[string]string{"config.json": `{"n_positions": 1024}`, "tokenizer.json": "{}", "model.safetensors": "1"})
	s, err := Find("", folder)
	if err != nil || !s.Complete() || s.NativeLength() != 1024 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWhatIsMissingMakesASnapshotIncomplete(t *testing.T) {
	for name, spoil := range map[string]func(map[string]string){
		"a shard":        func(f map[string]string) { delete(f, root+"snapshots/abc/two.safetensors") },
		"the tokenizer":  func(f map[string]string) { delete(f, root+"snapshots/abc/tokenizer.json") },
		"the config":     func(f map[string]string) { delete(f, root+"snapshots/abc/config.json") },
		"an empty shard": func(f map[string]string) { f[root+"snapshots/abc/one.safetensors"] = "" },
		"all weights":    func(f map[string]string) { delete(f, root+"snapshots/abc/model.safetensors.index.json") },
		"a broken index": func(f map[string]string) { f[root+"snapshots/abc/model.safetensors.index.json"] = "{" },
		"a way out": func(f map[string]string) {
			f[root+"snapshots/abc/model.safetensors.index.json"] = `{"weight_map": {"a": "../../x"}}`
		},
		"an open download": func(f map[string]string) { f[root+"blobs/0123.incomplete"] = "x" },
	} {
		t.Run(name, func(t *testing.T) {
			folder, files := t.TempDir(), whole()
			spoil(files)
			put(t, folder, files)
			if s, err := Find(folder, "org/name"); err == nil && s.Complete() {
				t.Error("taken for complete")
			}
		})
	}
}

func TestNativeLength(t *testing.T) {
	for _, c := range []struct {
		config string
		want   int
	}{
		{`{"max_position_embeddings": 32768}`, 32768},                       // Mixtral-8x7B
		{`{"max_position_embeddings": 40960, "rope_scaling": null}`, 40960}, // Qwen3-8B
		{`{"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}}`, 131072},
		{`{"max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}}`, 163840},
		{`{"text_config": {"max_position_embeddings": 262144, "rope_parameters": {"rope_type": "default", "rope_theta": 1e7}}}`, 262144},
		{`{"text_config": {"max_position_embeddings": 262144, "rope_parameters": {"full_attention": {"rope_type": "proportional"}, "sliding_attention": {"rope_type": "default"}}}}`, 262144},
		{`{"max_position_embeddings": 4096, "rope_parameters": {"rope_theta": 10000}}`, 4096},
		{`{"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2}}`, 0},
		{`{"max_position_embeddings": 4096, "rope_scaling": {"factor": 2}}`, 0},
		{`{"max_position_embeddings": 4096, "seq_length": 2048}`, 2048},
		{`{"max_position_embeddings": "many"}`, 0},
		{`{"max_position_embeddings": -5}`, 0},
		{`{"text_config": 3, "max_position_embeddings": 5}`, 0},
		{`{`, 0},
		{`null`, 0},
	} {
		if got := NativeLength([]byte(c.config)); got != c.want {
			t.Errorf("%s: %d, want %d", c.config, got, c.want)
		}
	}
}

func FuzzNativeLength(f *testing.F) {
	f.Add([]byte(`{"max_position_embeddings": 163840, "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}}`))
	f.Add([]byte(`{"text_config": {"rope_parameters": {"a": {"b": {"c": 1}}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := NativeLength(b); n < 0 {
			t.Errorf("%q: %d", b, n)
		}
	})
}
