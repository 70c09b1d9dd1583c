// Package commands is the subcommands that Caddy gets: 'caddy vllm …', which asks
// the gateway in a Caddy that runs, and 'caddy vllm-sim'.
package commands

// This file owns the subcommand vllm: what its own subcommands have in common.

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "vllm",
		Usage: "key|plan|status",
		Short: "Serves those who run a vllm-gateway",
		Long: `
All but 'key' ask the gateway in a Caddy that runs, by its admin API. By default that is at
'` + caddy.DefaultAdminListen + `'; say --address for another, or --config to take the address
from a configuration.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Args = cobra.NoArgs
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.AddCommand(keyCommand(), planCommand(), statusCommand())
		},
	})
}

// question is what a subcommand asks the admin API, and how it shows the answer.
type question[T any] struct {
	uri  func(args []string) string
	show func(w io.Writer, answer *T) error
	// verdict makes an answer the command's failure, which is not told beyond its
	// exit status; nil: every answer is a success.
	verdict func(*T) error
}

// on has a command ask the question.
func (q question[T]) on(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("address", "", "Address of the admin API, such as localhost:2019 or unix//run/caddy.sock")
	cmd.Flags().StringP("config", "c", "", "Configuration file that tells the address (if --address is not used)")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply (if --config is used)")
	cmd.Flags().Bool("json", false, "Print the answer as it is, as JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return q.ask(cmd, args) }
	return cmd
}

func (q question[T]) ask(cmd *cobra.Command, args []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), nil, flags.String("config"), flags.String("adapter"))
	if err != nil {
		return fmt.Errorf("finding the admin API's address: %w", err)
	}
	response, err := caddycmd.AdminAPIRequest(address, http.MethodGet, q.uri(args), nil, nil)
	if err != nil {
		return fmt.Errorf("asking the gateway at %s: %w", address, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("reading the gateway's answer: %w", err)
	}
	answer := new(T)
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("reading the gateway's answer: %w", err)
	}
	if flags.Bool("json") {
		_, err = cmd.OutOrStdout().Write(body)
	} else {
		err = q.show(cmd.OutOrStdout(), answer)
	}
	if err != nil || q.verdict == nil {
		return err
	}
	cmd.SilenceErrors = true
	return q.verdict(answer)
}
