// Package e2e tests the gateway as its users meet it: real Caddy in this process,
// configured by a Caddyfile, with stand-in servers that are processes of their own.
//
// Most tests share one manager, as reloads do, so they run one after the other;
// each has models of names of its own. Those with a gateway apart from this process
// run beside one another.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

// TestMain is also the program of the stand-in servers: the engine "simulated"
// runs its own program's subcommand vllm-sim, and here that program is this test.
// And it is Caddy, for gateways that are processes of their own, and a server of
// WebSockets.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "vllm-sim":
			os.Exit(vllmsim.Main(os.Args[2:], os.Stdout, os.Stderr, os.Getenv))
		case "run", "vllm":
			caddyMain()
			os.Exit(0)
		}
	}
	if len(os.Args) > 1 && os.Args[1] == realtimeCommand {
		os.Exit(realtime(os.Args[2:]))
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
	widen()
	for _, name := range []string{"HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"} {
		if err := os.Setenv(name, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	defer func() { _ = caddy.Stop() }()
	return dockertest.Run(m)
}

// widen has more tests run at a time than the machine has cores, unless it was said
// how many: those that run in parallel wait more than they compute.
func widen() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", "8") // the testing package has it
	}
}

// home is the folder of all that Caddy and the stand-ins write.
var home string
