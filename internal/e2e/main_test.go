// Package e2e tests the gateway as its users meet it: real Caddy in this process,
// configured by a Caddyfile, with stand-in servers that are processes of their own.
//
// The tests share one manager, as reloads do, so they run one after the other;
// each has models of names of its own.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

// TestMain is also the program of the stand-in servers: the engine "simulated"
// runs its own program's subcommand vllm-sim, and here that program is this test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "vllm-sim" {
		os.Exit(vllmsim.Main(os.Args[2:], os.Stdout, os.Stderr, os.Getenv))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "vllm-gateway-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	home = dir
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	defer func() { _ = caddy.Stop() }()
	return dockertest.Run(m)
}

// home is the folder of all that Caddy and the stand-ins write.
var home string
