package house

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/version"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const caddyModule = "github.com/caddyserver/caddy/v2"

// gomod is what the rules look at of a go.mod, in the form that
// `go mod edit -json` prints.
type gomod struct {
	Module  struct{ Path string }
	Go      string
	Require []requirement
	Replace []json.RawMessage
	Exclude []json.RawMessage
}

type requirement struct {
	Path     string
	Version  string
	Indirect bool
}

// goCommand runs the go command in the root and returns what it printed.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	var problem bytes.Buffer
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &problem)
	}
	return out
}

// readGomod reads a go.mod: a file of the repository, or one with a full path.
func readGomod(t *testing.T, path string) gomod {
	t.Helper()
	if !filepath.IsAbs(path) {
		text(t, path) // the go command caches a test's result by the files that the test itself opens
	}
	var m gomod
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json", path), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// newerFaults compares a go.mod with that of the Caddy it requires. The go
// command builds with the highest version that anybody asks for, so what our
// go.mod records is never older than what Caddy's does: where the two differ,
// ours is newer, and would be forced on everybody who builds the gateway into
// a Caddy of their own.
func newerFaults(our, caddy gomod) []string {
	var faults []string
	if version.Compare("go"+our.Go, "go"+caddy.Go) > 0 {
		faults = append(faults, fmt.Sprintf("go %s is newer than Caddy's %s", our.Go, caddy.Go))
	}
	for _, theirs := range caddy.Require {
		i := slices.IndexFunc(our.Require, func(r requirement) bool { return r.Path == theirs.Path })
		if i >= 0 && our.Require[i].Version != theirs.Version {
			faults = append(faults, fmt.Sprintf("%s %s is not Caddy's %s", theirs.Path, our.Require[i].Version, theirs.Version))
		}
	}
	if len(our.Replace)+len(our.Exclude) > 0 {
		faults = append(faults, "replace and exclude hold only in this module: they vanish when others build it")
	}
	return faults
}

func TestGomodAgreesWithCaddys(t *testing.T) {
	their := strings.TrimSpace(string(goCommand(t, "list", "-m", "-f", "{{.GoMod}}", caddyModule)))
	our := readGomod(t, "go.mod")
	if our.Module.Path != module {
		t.Fatalf("go.mod is of %s, want %s", our.Module.Path, module)
	}
	for _, fault := range newerFaults(our, readGomod(t, their)) {
		t.Errorf("go.mod: %s", fault)
	}
}

func TestNewerFaults(t *testing.T) {
	caddy := gomod{Go: "1.26.0", Require: []requirement{{Path: "a", Version: "v1.0.0"}, {Path: "b", Version: "v1.1.0"}}}
	for _, c := range []struct {
		name string
		our  gomod
		want int
	}{
		{"the same", gomod{Go: "1.26.0", Require: []requirement{{Path: "a", Version: "v1.0.0"}, {Path: "c", Version: "v9.0.0"}}}, 0},
		{"a newer module", gomod{Go: "1.26.0", Require: []requirement{{Path: "a", Version: "v1.0.1"}}}, 1},
		{"a newer Go", gomod{Go: "1.26.1"}, 1},
		{"a replacement", gomod{Go: "1.26", Replace: []json.RawMessage{nil}}, 1},
	} {
		if got := newerFaults(c.our, caddy); len(got) != c.want {
			t.Errorf("%s: faults %q, want %d", c.name, got, c.want)
		}
	}
}

// TestDependenciesHaveReasons holds go.mod's direct requirements against the
// page that gives the reason for each, both ways.
func TestDependenciesHaveReasons(t *testing.T) {
	page := text(t, "docs/dependencies.md")
	var direct []string
	for _, r := range readGomod(t, "go.mod").Require {
		if r.Indirect {
			continue
		}
		direct = append(direct, r.Path)
		if !strings.Contains(page, "| `"+r.Path+"` |") {
			t.Errorf("docs/dependencies.md has no row for %s", r.Path)
		}
	}
	for line := range strings.Lines(page) {
		rest, isRow := strings.CutPrefix(line, "| `")
		path, _, _ := strings.Cut(rest, "`")
		if isRow && !slices.Contains(direct, path) {
			t.Errorf("docs/dependencies.md has a row for %s, which go.mod does not require directly", path)
		}
	}
}
