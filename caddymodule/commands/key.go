package commands

// This file owns the subcommand key, which makes API keys. It asks no gateway.

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/spf13/cobra"
)

func keyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "key [NAME]",
		Short: "Makes an API key",
		Long: `
Prints a new random key, which is for the client and is not kept anywhere, and the
line for the Caddyfile, which has only its SHA-256. NAME is the key's name there; in the
place of a name that is left out, put one in.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "NAME"
			if len(args) == 1 {
				name = args[0]
			}
			key := newKey()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\nkey %s sha256:%x\n", key, name, sha256.Sum256([]byte(key)))
			return err
		},
	}
}

// newKey makes a key of more than 256 random bits, which begins as OpenAI's do: there
// are clients that look at that.
func newKey() string { return "sk-" + rand.Text() + rand.Text() }
