// This file owns the values that come from outside of the configuration: secrets
// above all. What they resolve to is kept in unexported fields only, so that
// neither the admin API nor a log can show it.

package caddymodule

import (
	"fmt"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// resolveEnv returns an environment as KEY=VALUE, ordered by name, with all
// placeholders resolved. A variable that has an empty placeholder is left out: so
// one configuration serves with a secret and without. A placeholder that Caddy
// does not know is an error. A Hugging Face token is there under its older name, too.
func resolveEnv(env map[string]string, log *zap.Logger) ([]string, error) {
	repl := caddy.NewReplacer()
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if _, err := repl.ReplaceOrErr(env[name], false, true); err != nil {
			// Not err itself: it quotes the value, which may be a secret with a brace.
			return nil, fmt.Errorf("env %s: the value has a placeholder that Caddy does not know; write '\\{' for a brace that stands for itself", name)
		}
		value, err := repl.ReplaceOrErr(env[name], true, true)
		if err != nil {
			log.Info("a variable is left out because its placeholder is empty", zap.String("env", name))
			continue
		}
		list = append(list, name+"="+value)
		if _, set := env[oldTokenVariable]; name == tokenVariable && !set {
			list = append(list, oldTokenVariable+"="+value)
		}
	}
	return list, nil
}

// The variable for a token of the Hugging Face hub, and its name in older releases
// of the hub's client, which older images still have.
const (
	tokenVariable    = "HF_TOKEN"
	oldTokenVariable = "HUGGING_FACE_HUB_TOKEN" //nolint:gosec // a variable's name is no secret
)

// resolve returns a text with all placeholders resolved; they must not be empty.
func resolve(option, text string) (string, error) {
	s, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	return s, nil
}
