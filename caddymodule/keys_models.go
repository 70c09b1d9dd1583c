// This file owns which models keys can be for: those that are configured, by the
// names that requests are resolved to.

package caddymodule

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// modelNames maps each name that a client may use to the model's own.
type modelNames map[string]string

// modelNamesOf are those of a configuration. Without models there are none: the
// handler may guard something else.
func modelNamesOf(ctx caddy.Context) (modelNames, error) {
	if _, err := ctx.AppIfConfigured("vramman"); errors.Is(err, caddy.ErrNotConfigured) {
		return nil, nil
	}
	app, err := appOf(ctx)
	if err != nil {
		return nil, err
	}
	return namesOf(app.Generation().Spec().Models), nil
}

func namesOf(models []vramman.ModelSpec) modelNames {
	names := make(modelNames)
	for i := range models {
		m := &models[i]
		names[m.Name] = m.Name
		for _, alias := range m.Aliases {
			names[alias] = m.Name
		}
		for _, adapter := range m.Launch.LoRA { // keys are for it by its own name
			names[adapter.Name] = adapter.Name
		}
	}
	return names
}

// check looks for models that do not exist.
func (n modelNames) check(section string, models []string) error {
	for _, model := range models {
		name, ok := n[model]
		switch {
		case !ok:
			return configErrorf(at(place{section, "models", model}), "%s: there is no model %s", section, model)
		case name != model:
			return configErrorf(at(place{section, "models", model}), "%s: %s is an alias: write %s, for which it stands", section, model, name)
		}
	}
	return nil
}

// warn tells the log of models that do not exist, or not under this name. In a file
// that lives by itself that is no error: models come and go with configurations.
func (n modelNames) warn(log *zap.Logger, ring keyring) {
	for i := range ring {
		c := ring[i].caller
		if err := n.check(keySection(c.Name), c.Models); err != nil {
			log.Warn("an API key is for a model that is not configured", zap.Error(err))
		}
	}
}
