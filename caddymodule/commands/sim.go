// This file owns the subcommand vllm-sim.

package commands

import (
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "vllm-sim",
		Usage: "[serve] [<model>] [<vLLM's flags>]",
		Short: "Runs a stand-in for a vLLM server, without a model and without a GPU",
		Long: `
Behaves as 'vllm serve' does wherever a gateway can tell: it takes vLLM's flags,
refuses connections while it loads, answers chat, completions and embeddings,
and shuts down as vLLM does. The engine 'simulated' runs it; by hand it serves
to try a client out. 'caddy vllm-sim --help' lists the flags, and
docs/configuration.md the variables that set its pace and its faults.`,
		CobraFunc: func(cmd *cobra.Command) {
			// The flags are vLLM's, and vLLM's grammar reads them.
			cmd.DisableFlagParsing = true
			cmd.Run = func(_ *cobra.Command, args []string) {
				os.Exit(vllmsim.Main(args, os.Stdout, os.Stderr, os.Getenv))
			}
		},
	})
}
