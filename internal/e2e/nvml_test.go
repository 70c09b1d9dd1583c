package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests the binary that reads real cards: built with cgo and NVML, and told to bind
// the driver's library lazily, with a stand-in for that library and without any.

// userEnv is the environment before TestMain changed it: where the go command has its
// caches.
var userEnv = os.Environ()

// cgoCaddy builds that binary. CI, which has built one already, names it in
// CADDY_WITH_CGO.
func cgoCaddy(t *testing.T) string {
	t.Helper()
	if built := os.Getenv("CADDY_WITH_CGO"); built != "" {
		return built
	}
	binary := filepath.Join(t.TempDir(), "caddy")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", binary, "-tags", "nvml", "-ldflags=-extldflags=-Wl,-z,lazy", "./cmd/caddy")
	cmd.Env = append(slices.Clone(userEnv), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// nvmlStandIn builds the stand-in library and returns the folder that it is in.
func nvmlStandIn(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	library := filepath.Join(folder, "libnvidia-ml.so.1")
	cmd := exec.CommandContext(t.Context(), "gcc", "-shared", "-fPIC", "-o", library, "../../vramman/gpu/nvml/testdata/nvml.c")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return folder
}

// runBinary runs a binary with cards as NVML tells them until the test ends, and
// returns the URL of its only site.
func runBinary(t *testing.T, binary string, env ...string) string {
	t.Helper()
	folder := t.TempDir()
	site := "http://" + address(t)
	file := filepath.Join(folder, "Caddyfile")
	text := fmt.Sprintf(`{
	admin off
	persist_config off
	storage file_system %q
	vramman {
		engine process {
			command true
		}
		gpus nvml
	}
}
%s {
	vllm_gateway
}
`, filepath.Join(folder, "storage"), site)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "run", "--config", file)
	cmd.Env = append(append(os.Environ(), "HOME="+folder, "XDG_DATA_HOME="+folder, "XDG_CONFIG_HOME="+folder), env...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the gateway's end: %v", err)
		}
	})
	eventually(t, "the gateway serves", func() bool {
		res, err := http.Get(site + "/health")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return site
}

// cardsOf asks a gateway for its status once it has tried to read its cards.
func cardsOf(t *testing.T, site string) (s vramman.Status) {
	t.Helper()
	eventually(t, "the cards have been asked for", func() bool {
		res, err := http.Get(site + "/gateway/status")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
			t.Fatal(err)
		}
		return s.Inventory != "" && s.Inventory != "opening"
	})
	return s
}

func TestCardsInTheBinary(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" {
		if os.Getenv("REQUIRE_DOCKER") == "1" {
			t.Fatalf("gcc on Linux is needed: %v", err)
		}
		t.Skipf("gcc on Linux is needed: %v", err)
	}
	binary := cgoCaddy(t)

	t.Run("with a driver", func(t *testing.T) {
		state := filepath.Join(t.TempDir(), "state")
		text := "driver 580.95.05\ncard GPU-1 85899345920 3221225472 NVIDIA H100 80GB HBM3\ncompute 1 2147483648\n" +
			"card GPU-2 85899345920 0 NVIDIA H100 80GB HBM3\nslice MIG-1 10737418240 1024 NVIDIA H100 80GB HBM3 MIG 1g.10gb\n"
		if err := os.WriteFile(state, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := cardsOf(t, runBinary(t, binary, "LD_LIBRARY_PATH="+nvmlStandIn(t), "NVML_STANDIN_STATE="+state))
		if s.Inventory != "ready" || len(s.GPUs) != 2 {
			t.Fatalf("inventory %q, cards %+v", s.Inventory, s.GPUs)
		}
		for n, want := range []vramman.GPUStatus{
			{UUID: "GPU-1", Name: "NVIDIA H100 80GB HBM3", Total: 80 << 30, Used: 3 << 30, Foreign: 3 << 30},
			{UUID: "MIG-1", Name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb", Total: 10 << 30, Used: 1024, Foreign: 1024},
		} {
			got := s.GPUs[n]
			if got.UUID != want.UUID || got.Name != want.Name || got.Total != want.Total || got.Used != want.Used ||
				got.Foreign != want.Foreign || got.Driver != "580.95.05" || got.Note != "" {
				t.Errorf("card %d is %+v, want %+v", n, got, want)
			}
		}
	})

	t.Run("without a driver", func(t *testing.T) {
		s := cardsOf(t, runBinary(t, binary, "LD_LIBRARY_PATH="+t.TempDir()))
		if !strings.Contains(s.Inventory, "libnvidia-ml.so.1") || !strings.Contains(s.Inventory, "comes with the driver") || len(s.GPUs) != 0 {
			t.Errorf("inventory %q, cards %+v", s.Inventory, s.GPUs)
		}
	})
}
