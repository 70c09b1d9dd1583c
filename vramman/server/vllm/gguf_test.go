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

// write puts small files below a folder.
func write(t *testing.T, folder string, names ...string) {
	t.Helper()
	for _, name := range names {
		at := filepath.Join(folder, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSplitRepo(t *testing.T) {
	for repo, want := range map[string][2]string{
		"org/name":                {"org/name", ""},
		"org/name:Q4_K_M":         {"org/name", "Q4_K_M"},
		"org/name:UD-Q4_K_XL":     {"org/name", "UD-Q4_K_XL"},
		"org/name:":               {"org/name:", ""},
		":Q4_0":                   {":Q4_0", ""},
		"/models/a:b":             {"/models/a:b", ""},
		"./a:b":                   {"./a:b", ""},
		"org/name:latest":         {"org/name:latest", ""}, // packs no weights
		"s3://bucket/a":           {"s3://bucket/a", ""},
		"org/name:iq2_xxs":        {"org/name", "iq2_xxs"},
		"/models/x.Q4_K_M.gguf:y": {"/models/x.Q4_K_M.gguf:y", ""},
		"":                        {"", ""},
	} {
		if name, quant := SplitRepo(repo); name != want[0] || quant != want[1] {
			t.Errorf("%q is %q and %q", repo, name, quant)
		}
	}
}

func TestModelReference(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "M-Q4_K_M.gguf", "M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf")
	for _, c := range []struct{ repo, file, want string }{
		{"org/name", "", "org/name"},
		{"org/name", "Q4_K_M", "org/name:Q4_K_M"},
		{"org/name", "q4_k_m", "org/name:Q4_K_M"},
		{"org/name", "M-Q4_K_M.gguf", "org/name/M-Q4_K_M.gguf"},
		{"org/name", "Q8_0/M-Q8_0-00002-of-00003.gguf", "org/name/Q8_0/M-Q8_0-00001-of-00003.gguf"},
		{"/models/m.gguf", "", "/models/m.gguf"},
		{"/nowhere/m", "Q4_K_M", "/nowhere/m:Q4_K_M"}, // which only the server sees
		{"/models/m/", "m.gguf", "/models/m/m.gguf"},
		{"./m", "m.gguf", "./m/m.gguf"},
		{folder, "q4_k_m", folder + "/M-Q4_K_M.gguf"},
		{folder, "Q8_0", folder + "/M-Q8_0-00001-of-00002.gguf"},
		{folder, "Q5_0", folder + ":Q5_0"}, // vLLM says that there is none
	} {
		m := server.Model{Name: "m", Repo: c.repo, File: c.file}
		args := Server{}.Args(m, server.Place{}, engine.Listen{})
		if args[0] != "--model" || args[1] != c.want {
			t.Errorf("%s and %q: %q", c.repo, c.file, args[1])
		}
	}
}

// fetched plays the hub's client: the files that its patterns let through.
// Python's fnmatch has "*" reach over slashes, so these become another byte.
func fetched(t *testing.T, command []string, files []string) []string {
	t.Helper()
	var include, exclude []string
	for i := 3; i < len(command); i += 2 {
		switch command[i] {
		case "--include":
			include = append(include, command[i+1])
		case "--exclude":
			exclude = append(exclude, command[i+1])
		default:
			t.Fatalf("%q", command)
		}
	}
	matches := func(patterns []string, file string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			p = strings.ReplaceAll(strings.ReplaceAll(p, "[-._/]", "[\\-._/]"), "/", "\x01")
			ok, err := filepath.Match(p, strings.ReplaceAll(file, "/", "\x01"))
			if err != nil {
				t.Fatalf("%q: %v", p, err)
			}
			return ok
		})
	}
	var got []string
	for _, f := range files {
		if matches(include, f) && !matches(exclude, f) {
			got = append(got, f)
		}
	}
	return got
}

func TestFetchOfGGUF(t *testing.T) {
	files := []string{
		"README.md", "config.json", "tokenizer.json", "M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-Q4_K.gguf", "M-UD-Q4_K_XL.gguf", "M-Q4_K_XL.gguf", "M-IQ4_XS.gguf",
		"M-Q8_0-00001-of-00002.gguf", "M-Q8_0-00002-of-00002.gguf", "M-F16.gguf", "mmproj-M-F16.gguf", "BF16/M-BF16-00001-of-00002.gguf", "BF16/M-BF16-00002-of-00002.gguf",
		"low-q5_k_m.gguf", "Q6_K/model.gguf", "M.imatrix.gguf", "a[1]-Q2_K.gguf",
	}
	for file, want := range map[string]string{
		"Q4_K_M":                          "M-Q4_K_M.gguf",
		"q4_k_m":                          "M-Q4_K_M.gguf",
		"Q4_K":                            "M-Q4_K.gguf",
		"Q4_K_XL":                         "M-Q4_K_XL.gguf",
		"UD-Q4_K_XL":                      "M-UD-Q4_K_XL.gguf",
		"IQ4_XS":                          "M-IQ4_XS.gguf",
		"Q8_0":                            "M-Q8_0-00001-of-00002.gguf M-Q8_0-00002-of-00002.gguf",
		"F16":                             "M-F16.gguf",
		"BF16":                            "BF16/M-BF16-00001-of-00002.gguf BF16/M-BF16-00002-of-00002.gguf",
		"Q5_K_M":                          "low-q5_k_m.gguf",
		"Q6_K":                            "Q6_K/model.gguf",
		"M-Q8_0-00002-of-00002.gguf":      "M-Q8_0-00001-of-00002.gguf M-Q8_0-00002-of-00002.gguf",
		"M-Q4_K_M.gguf":                   "M-Q4_K_M.gguf",
		"BF16/M-BF16-00001-of-00002.gguf": "BF16/M-BF16-00001-of-00002.gguf BF16/M-BF16-00002-of-00002.gguf",
		"a[1]-Q2_K.gguf":                  "a[1]-Q2_K.gguf",
	} {
		command := Server{}.FetchCommand(server.Model{Repo: "org/name", File: file})
		got := fetched(t, command, files)
		if strings.Join(got, " ") != "config.json tokenizer.json "+want {
			t.Errorf("%s brings %q", file, got)
		}
	}
	command := Server{}.FetchCommand(server.Model{Repo: "org/name", File: "Q4_0", Args: []string{"--revision=v2"}})
	if !strings.HasPrefix(strings.Join(command, " "), "hf download org/name --revision v2 --include ") {
		t.Errorf("%q", command)
	}
	if got := (Server{}).FetchCommand(server.Model{Repo: "/models/m", File: "Q4_0"}); got != nil {
		t.Errorf("a local model is fetched: %q", got)
	}
}

// A snapshot of a GGUF repository is whole when what is served is, with its
// configuration and tokenizer: the file alone leaves vLLM to ask for these.
func TestGGUFIsLoadedOffline(t *testing.T) {
	const snapshot = "hub/models--org--name/snapshots/abc/"
	for name, c := range map[string]struct {
		files   []string
		file    string
		offline bool
	}{
		"the file alone":         {[]string{"M-Q4_K_M.gguf"}, "Q4_K_M", false},
		"all":                    {[]string{"M-Q4_K_M.gguf", "config.json", "tokenizer.json"}, "Q4_K_M", true},
		"by name":                {[]string{"M-Q4_K_M.gguf", "config.json", "tokenizer.json"}, "M-Q4_K_M.gguf", true},
		"another quantization":   {[]string{"M-Q4_K_M.gguf", "config.json", "tokenizer.json"}, "Q8_0", false},
		"a part":                 {[]string{"M-Q4_K_M-00001-of-00002.gguf", "config.json", "tokenizer.json"}, "Q4_K_M", false},
		"all parts":              {[]string{"M-Q4_K_M-00001-of-00002.gguf", "M-Q4_K_M-00002-of-00002.gguf", "config.json", "tokenizer.json"}, "Q4_K_M", true},
		"weights of the other":   {[]string{"model.safetensors", "config.json", "tokenizer.json"}, "Q4_K_M", false},
		"the other beside it":    {[]string{"M-Q4_K_M.gguf", "config.json", "tokenizer.json"}, "", false},
		"a download in progress": {[]string{"M-Q4_K_M.gguf", "config.json", "tokenizer.json", "../../blobs/1.incomplete"}, "Q4_K_M", false},
	} {
		cache := t.TempDir()
		write(t, cache, "hub/models--org--name/refs/other")
		if err := os.WriteFile(filepath.Join(cache, "hub/models--org--name/refs/main"), []byte("abc"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, f := range c.files {
			write(t, cache, snapshot+f)
		}
		env := Server{}.Env(server.Model{Repo: "org/name", File: c.file}, server.Place{Cache: cache})
		if got := slices.Contains(env, "HF_HUB_OFFLINE=1"); got != c.offline {
			t.Errorf("%s: offline %v", name, got)
		}
	}
}

func FuzzSplitRepo(f *testing.F) {
	for _, repo := range []string{"org/name:Q4_K_M", "", ":", "a:", "/a:b", "a:b:c"} {
		f.Add(repo)
	}
	f.Fuzz(func(t *testing.T, repo string) {
		name, quant := SplitRepo(repo)
		if quant == "" && name != repo || quant != "" && (name+":"+quant != repo || name == "" || local(repo)) {
			t.Errorf("%q is %q and %q", repo, name, quant)
		}
	})
}
