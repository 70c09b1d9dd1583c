// This file owns the options of models that only containers have.

package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/docker"
)

// containerEngines are the engines that run images.
var containerEngines = []string{"docker"}

// ContainerOptions are what a model can be told where servers are containers.
type ContainerOptions struct {
	// The image that serves the model. Default: the engine's.
	Image string `json:"image,omitempty"`

	// Further folders for the model's servers, beside the engine's.
	Mounts []Mount `json:"mounts,omitempty"`
}

// over returns the options with those that are missing taken from base. Mounts
// of the base come first.
func (o ContainerOptions) over(base ContainerOptions) ContainerOptions {
	return ContainerOptions{Image: cmp.Or(o.Image, base.Image), Mounts: slices.Concat(base.Mounts, o.Mounts)}
}

// option reads one option, if it is one of these.
func (o *ContainerOptions) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "image":
		return true, r.text(&o.Image)
	case "mount":
		return true, readMount(r, &o.Mounts)
	}
	return false, nil
}

// check looks for what is wrong with options by themselves, and with an engine
// that has no use for them.
func (o *ContainerOptions) check(section, engineName string) error {
	if !slices.Contains(containerEngines, engineName) {
		if o.Image != "" {
			return configErrorf(at(place{section, "image", ""}), "%s: image is for containers, and the engine is '%s'", section, engineName)
		}
		if len(o.Mounts) > 0 {
			return configErrorf(at(place{section, "mount", ""}), "%s: mount is for containers, and the engine is '%s'", section, engineName)
		}
		return nil
	}
	if o.Image != "" {
		if err := checkWord(section, "image", o.Image); err != nil {
			return err
		}
	}
	// A source with a placeholder may become anything.
	mounts, err := engineMounts(o.Mounts, func(_, text string) (string, error) {
		if slices.Contains([]byte(text), '{') {
			return "/unknown", nil
		}
		return text, nil
	})
	if err == nil {
		err = docker.CheckMounts(mounts)
	}
	if err != nil {
		return configErrorf(at(place{section, "mount", ""}), "%s: %w", section, err)
	}
	return nil
}

// mounts are the folders with all placeholders resolved.
func (o *ContainerOptions) mounts() ([]engine.Mount, error) {
	mounts, err := engineMounts(o.Mounts, resolve)
	return mounts, errors.Join(err, docker.CheckMounts(mounts))
}

// checkContainers looks for what is wrong with these options anywhere.
func (a *App) checkContainers() error {
	var name struct {
		Engine string `json:"engine"`
	}
	if err := json.Unmarshal(a.EngineRaw, &name); err != nil {
		return configErrorf(at(place{"", "engine", ""}), "engine: %w", err)
	}
	if err := a.Defaults.ContainerOptions.check(defaultsSection, name.Engine); err != nil {
		return err
	}
	for _, m := range a.Models {
		if err := m.ContainerOptions.check(modelSection(m.Name), name.Engine); err != nil {
			return err
		}
	}
	return nil
}
