package house

import (
	"slices"
	"strings"
	"testing"
)

// pure are the folders that decide: the same input gives the same answer.
var pure = []string{"vramman/admission", "vramman/scheduler", "vramman/placement", "vramman/ledger"}

// outside is what pure folders may not take even from the standard library:
// whatever reaches files, the network, other processes or the log.
var outside = []string{"io/fs", "io/ioutil", "log", "net", "os", "path/filepath", "plugin", "syscall", "unsafe"}

// foreign are the modules of others that a folder and those below it may import.
// An entry that is added here needs its reason in docs/dependencies.md.
var foreign = map[string][]string{
	"vramman":                {"go.uber.org/zap"},
	"vramman/engine/docker":  {"github.com/moby/moby", "github.com/containerd/errdefs"},
	"vramman/engine/process": {"golang.org/x/sys"},
	"vramman/gpu/nvml":       {"github.com/NVIDIA/go-nvml"},
	"internal":               {"go.uber.org/zap"},
	"internal/dockertest":    {"github.com/moby/moby"},
}

// importFault says why a file must not import a package, or is empty.
func importFault(file source, imported string) string {
	folder := file.folder()
	own, isOurs := ours(imported)

	switch {
	case isOurs && within(own, "caddymodule") && folder != "." && !within(folder, "caddymodule"):
		return "only gateway.go plugs caddymodule in"
	case isOurs && own == "." && within(folder, "caddymodule") && !file.isTest():
		return "gateway.go imports caddymodule, not the other way round"
	}

	switch {
	case within(folder, "internal/e2e") && file.isTest():
		return "" // the whole gateway as a client sees it, Caddy included
	case isPure(folder):
		return pureFault(file, imported)
	case within(folder, "vramman"):
		if isOurs && !within(own, "vramman") && !within(own, "internal") {
			return "vramman imports its own folders and internal"
		}
		return foreignFault(folder, imported)
	case within(folder, "internal"):
		// Tests may hold a stand-in against what it stands in for.
		if isOurs && !within(own, "internal") && !(file.isTest() && within(own, "vramman")) {
			return "internal imports internal: it is below everything else"
		}
		return foreignFault(folder, imported)
	case within(folder, "cmd/vllm-sim"):
		if isOurs && !within(own, "internal") || !isOurs && !isStandard(imported) {
			return "vllm-sim is small and static: internal and the standard library"
		}
	}
	return ""
}

func pureFault(file source, imported string) string {
	if own, isOurs := ours(imported); isOurs {
		if !isPure(own) {
			return "pure folders import the standard library and each other"
		}
		return ""
	}
	if !isStandard(imported) {
		return "pure folders import the standard library and each other"
	}
	if file.isTest() {
		return "" // a test may read its table from a file
	}
	for _, p := range outside {
		if within(imported, p) && imported != "net/netip" {
			return "pure folders do no I/O"
		}
	}
	return ""
}

func foreignFault(folder, imported string) string {
	if _, isOurs := ours(imported); isOurs || isStandard(imported) {
		return ""
	}
	if within(imported, "github.com/caddyserver") {
		return "only caddymodule knows Caddy"
	}
	for place, modules := range foreign {
		if within(folder, place) && slices.ContainsFunc(modules, func(m string) bool { return within(imported, m) }) {
			return ""
		}
	}
	return "not among the modules of others that this folder may import"
}

// ours turns an import path of this module into a folder from the root.
func ours(imported string) (folder string, ok bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// within tells whether a slash-separated path is the folder or below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

func isPure(folder string) bool {
	return slices.ContainsFunc(pure, func(p string) bool { return within(folder, p) })
}

// isStandard tells the standard library by the missing dot in the first element,
// as the go command does.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	for _, file := range sources(t) {
		for _, imported := range file.imports {
			if why := importFault(file, imported); why != "" {
				t.Errorf("%s imports %q: %s", file.path, imported, why)
			}
		}
	}
}

func TestImportFault(t *testing.T) {
	const caddy = "github.com/caddyserver/caddy/v2"
	for _, c := range []struct {
		file, imported string
		fault          bool
	}{
		{"gateway.go", module + "/caddymodule", false},
		{"cmd/caddy/main.go", module, false},
		{"cmd/caddy/main.go", caddy + "/cmd", false},
		{"cmd/caddy/main.go", module + "/caddymodule", true},
		{"bench/main_test.go", module + "/caddymodule", true},
		{"bench/main_test.go", module, false},

		{"caddymodule/app.go", caddy, false},
		{"caddymodule/app.go", module + "/vramman", false},
		{"caddymodule/app.go", module + "/internal/openai", false},
		{"caddymodule/app.go", module, true},
		{"caddymodule/app_test.go", module, false},
		{"caddymodule/console/page.go", module + "/caddymodule", false},

		{"vramman/manager.go", "go.uber.org/zap", false},
		{"vramman/manager.go", "os/exec", false},
		{"vramman/manager.go", module + "/vramman/ledger", false},
		{"vramman/gpu/simulated/simulated.go", module + "/internal/simcard", false},
		{"vramman/manager.go", caddy, true},
		{"vramman/manager_test.go", caddy, true},
		{"vramman/manager.go", "github.com/caddyserver/certmagic", true},
		{"vramman/manager.go", module + "/caddymodule", true},
		{"vramman/manager.go", module, true},
		{"vramman/manager.go", "github.com/dustin/go-humanize", true},
		{"vramman/engine/process/process.go", caddy + "/caddyconfig", true},
		{"vramman/engine/process/process.go", "golang.org/x/sys/unix", false},
		{"vramman/manager.go", "golang.org/x/sys/unix", true},

		{"vramman/ledger/ledger.go", "slices", false},
		{"vramman/ledger/ledger.go", "net/netip", false},
		{"vramman/placement/placement.go", module + "/vramman/ledger", false},
		{"vramman/ledger/ledger.go", "os", true},
		{"vramman/ledger/ledger.go", "net/http", true},
		{"vramman/ledger/ledger.go", "log/slog", true},
		{"vramman/ledger/ledger.go", "go.uber.org/zap", true},
		{"vramman/ledger/ledger.go", module + "/vramman", true},
		{"vramman/scheduler/decide.go", module + "/vramman/server", true},
		{"vramman/scheduler/decide.go", module + "/internal/openai", true},
		{"vramman/scheduler/decide_test.go", "os", false},
		{"vramman/scheduler/decide_test.go", module + "/vramman", true},
		// A name that only begins alike is another folder.
		{"vramman/ledgers/ledger.go", "os", false},

		{"internal/vllmsim/server.go", module + "/internal/simcard", false},
		{"internal/vllmsim/server.go", module + "/vramman/server", true},
		{"internal/vllmsim/server_test.go", module + "/vramman/server", false},
		{"internal/vllmsim/server_test.go", module + "/caddymodule", true},
		{"internal/openai/scan.go", caddy, true},
		{"internal/openai/scan_test.go", "github.com/stretchr/testify/assert", true},

		{"internal/e2e/sdk_test.go", caddy, false},
		{"internal/e2e/sdk_test.go", module, false},
		{"internal/e2e/sdk_test.go", module + "/caddymodule", true},
		{"internal/e2e/e2e.go", caddy, true},

		{"cmd/vllm-sim/main.go", module + "/internal/vllmsim", false},
		{"cmd/vllm-sim/main.go", "os", false},
		{"cmd/vllm-sim/main.go", module, true},
		{"cmd/vllm-sim/main.go", "go.uber.org/zap", true},
	} {
		why := importFault(source{path: c.file}, c.imported)
		if (why != "") != c.fault {
			t.Errorf("%s imports %q: fault %q, want a fault: %t", c.file, c.imported, why, c.fault)
		}
	}
}
