package house

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// manifest is xcaddy.json: the fields of xcaddy.Builder that we use.
type manifest struct {
	CaddyVersion string        `json:"caddy_version"`
	Plugins      []plugin      `json:"plugins"`
	Replacements []replacement `json:"replacements"`
	Cgo          bool          `json:"cgo"`
	BuildFlags   string        `json:"build_flags"`
}

type plugin struct {
	ModulePath string `json:"module_path"`
	Version    string `json:"version,omitempty"`
}

type replacement struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// neededFlags are what a build of the gateway may not go without: NVML has a tag and
// must be bound lazily, and xcaddy's own flags vanish as soon as others are given.
var neededFlags = []string{"-trimpath", "-tags nobadger,nomysql,nopgx,nvml", "-w -s", "-extldflags=-Wl,-z,lazy"}

// manifestFaults holds xcaddy.json against go.mod: the Caddy that people build with
// is the one that the tests ran with, and the plugin is the checkout.
func manifestFaults(m manifest, our gomod) []string {
	var faults []string
	caddy := slices.IndexFunc(our.Require, func(r requirement) bool { return r.Path == caddyModule })
	switch {
	case caddy < 0:
		faults = append(faults, "go.mod does not require Caddy")
	case our.Require[caddy].Version != m.CaddyVersion:
		faults = append(faults, fmt.Sprintf("builds with Caddy %s, go.mod with %s", m.CaddyVersion, our.Require[caddy].Version))
	}
	// Any version will do for what is replaced; with one, the go command need not
	// ask which there are.
	if !slices.Equal(m.Plugins, []plugin{{ModulePath: our.Module.Path, Version: "v0.0.0"}}) {
		faults = append(faults, fmt.Sprintf("plugs in %v, not this module alone", m.Plugins))
	}
	if !slices.Equal(m.Replacements, []replacement{{Old: our.Module.Path, New: "."}}) {
		faults = append(faults, fmt.Sprintf("replaces %v, not this module by the checkout", m.Replacements))
	}
	if !m.Cgo {
		faults = append(faults, "builds without cgo, and so without NVML")
	}
	for _, flag := range neededFlags {
		if !strings.Contains(m.BuildFlags, flag) {
			faults = append(faults, "builds without "+flag)
		}
	}
	return faults
}

func TestManifest(t *testing.T) {
	var m manifest
	d := json.NewDecoder(strings.NewReader(text(t, "xcaddy.json")))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("xcaddy.json: %v", err)
	}
	for _, fault := range manifestFaults(m, readGomod(t, "go.mod")) {
		t.Errorf("xcaddy.json: %s", fault)
	}
	// The page that people type the command from has the same flags.
	if page := text(t, "docs/building.md"); !strings.Contains(page, m.BuildFlags) {
		t.Errorf("docs/building.md does not show xcaddy.json's flags: %s", m.BuildFlags)
	}
}

func TestManifestFaults(t *testing.T) {
	our := gomod{Require: []requirement{{Path: caddyModule, Version: "v2.11.9"}}}
	our.Module.Path = module
	right := func() manifest {
		return manifest{
			CaddyVersion: "v2.11.9",
			Plugins:      []plugin{{module, "v0.0.0"}},
			Replacements: []replacement{{module, "."}},
			Cgo:          true,
			BuildFlags:   strings.Join(neededFlags, " "),
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*manifest)
		want  int
	}{
		{"as it must be", func(*manifest) {}, 0},
		{"another Caddy", func(m *manifest) { m.CaddyVersion = "v2.11.8" }, 1},
		{"no plugin", func(m *manifest) { m.Plugins = nil }, 1},
		{"a second plugin", func(m *manifest) { m.Plugins = append(m.Plugins, plugin{"example.org/x", "v1.0.0"}) }, 1},
		{"a plugin whose versions must be asked for", func(m *manifest) { m.Plugins[0].Version = "" }, 1},
		{"what is published instead of the checkout", func(m *manifest) { m.Replacements = nil }, 1},
		{"no cgo", func(m *manifest) { m.Cgo = false }, 1},
		{"no flags", func(m *manifest) { m.BuildFlags = "" }, len(neededFlags)},
		{"immediate binding", func(m *manifest) { m.BuildFlags = strings.Replace(m.BuildFlags, ",lazy", ",now", 1) }, 1},
	} {
		m := right()
		c.spoil(&m)
		if got := manifestFaults(m, our); len(got) != c.want {
			t.Errorf("%s: faults %q, want %d", c.name, got, c.want)
		}
	}
}

// baseImage is a default for the Dockerfile's base images: a tag that names an exact
// version, down to the last number.
var baseImage = regexp.MustCompile(`(?m)^ARG (BUILD|RUNTIME)_IMAGE=(golang:\d+\.\d+\.\d+|debian:\d+\.\d+)-(\w+)$`)

// buildKitOnly are Dockerfile features that Docker's classic builder does not know.
var buildKitOnly = []string{"# syntax=", "--mount", "--chmod", "--link", "--parents", "--security", "<<", "TARGETARCH", "BUILDPLATFORM"}

// TestDockerfile holds the Dockerfile to what lets others build it: base images can
// be passed in, have pinned defaults, and any builder will do.
func TestDockerfile(t *testing.T) {
	dockerfile := text(t, "Dockerfile")
	var froms []string
	for line := range strings.Lines(dockerfile) {
		if image, isFrom := strings.CutPrefix(strings.TrimSpace(line), "FROM "); isFrom {
			froms = append(froms, image)
		}
	}
	if want := []string{"${BUILD_IMAGE} AS build", "${RUNTIME_IMAGE} AS gateway"}; !slices.Equal(froms, want) {
		t.Errorf("the Dockerfile builds from %q, want %q", froms, want)
	}
	defaults := baseImage.FindAllStringSubmatch(dockerfile, -1)
	if len(defaults) != 2 {
		t.Errorf("the Dockerfile has the pinned base images %q, want two", defaults)
	}
	for _, feature := range buildKitOnly {
		if strings.Contains(dockerfile, feature) {
			t.Errorf("the Dockerfile has %q, which needs BuildKit", feature)
		}
	}
	if !strings.Contains(dockerfile, "xcaddy.json") {
		t.Error("the Dockerfile does not build from xcaddy.json")
	}
}
