// This file owns what a model's configuration says of requests: which adapters they
// may name, and how much they may ask for.

package caddymodule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// RequestOptions bound what a request may ask of a model.
type RequestOptions struct {
	// The most tokens that a request may ask for: what is more is lowered to it
	// (`max_tokens`, `max_completion_tokens`, `max_output_tokens`). Requests that do
	// not say are left as they are. Default: no limit.
	MaxTokensLimit int `json:"max_tokens_limit,omitempty"`

	// The most answers to one request: more are lowered to it (`n`, `best_of`).
	// Default: no limit.
	NLimit int `json:"n_limit,omitempty"`
}

// over returns the options with those that are missing taken from base.
func (o RequestOptions) over(base RequestOptions) RequestOptions {
	return RequestOptions{
		MaxTokensLimit: cmp.Or(o.MaxTokensLimit, base.MaxTokensLimit),
		NLimit:         cmp.Or(o.NLimit, base.NLimit),
	}
}

// option reads one of the options, if word is one.
func (o *RequestOptions) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "max_tokens_limit":
		return true, r.count(&o.MaxTokensLimit)
	case "n_limit":
		return true, r.count(&o.NLimit)
	}
	return false, nil
}

// check looks for values out of range.
func (o *RequestOptions) check(section string) error {
	for _, n := range []struct {
		option string
		value  int
	}{{"max_tokens_limit", o.MaxTokensLimit}, {"n_limit", o.NLimit}} {
		if n.value < 0 {
			return configErrorf(at(place{section, n.option, ""}), "%s: %s must be at least 1", section, n.option)
		}
	}
	return nil
}

// limits are the options as bodies are edited by them.
func (o RequestOptions) limits() openai.Limits {
	return openai.Limits{MaxTokens: o.MaxTokensLimit, N: o.NLimit}
}

// Adapter is a LoRA adapter of a model, which clients name as if it was a model. It
// shares the model's queue, its limits and its server.
type Adapter struct {
	// The name that clients use. Required.
	Name string `json:"name,omitempty"`

	// The Hugging Face repository, or a folder where the server runs, that holds the
	// adapter. Required.
	Path string `json:"path,omitempty"`
}

// readAdapter reads a name and a path, and adds them.
func (m *Model) readAdapter(r *reader) error {
	option := r.Val()
	var text string
	if err := r.text(&text); err != nil {
		return err
	}
	name, path, ok := strings.Cut(text, "=")
	if !ok || name == "" || path == "" {
		return r.Errf("%s: '%s' is not an adapter: write '%s <name>=<repository or folder>'", option, text, option)
	}
	r.tokens[place{r.section, option, name}] = r.Token()
	m.LoRA = append(m.LoRA, Adapter{Name: name, Path: path})
	return nil
}

// checkAdapters looks for adapters that could not be served, or whose names are
// others' already. owner has the models of all names so far.
func (m *Model) checkAdapters(section string, owner map[string]string) error {
	for _, a := range m.LoRA {
		here := at(place{section, "lora", a.Name}, place{section, "lora", ""}, place{section, "", ""})
		if err := checkServedName(a.Name, section+": lora", here); err != nil {
			return err
		}
		if other, taken := owner[a.Name]; taken {
			return configErrorf(here, "%s: the adapter %s has a name of model %s", section, a.Name, other)
		}
		owner[a.Name] = m.Name
		switch {
		case strings.ContainsAny(a.Name, "=,"):
			return configErrorf(here, "%s: the adapter %s has '=' or ',' in its name, which servers would take for something else", section, a.Name)
		case a.Path == "":
			return configErrorf(here, "%s: the adapter %s is without a path", section, a.Name)
		case strings.ContainsAny(a.Path, "=, \t\n\x00") || strings.HasPrefix(a.Path, "-"):
			return configErrorf(here, "%s: %q cannot be where the adapter %s is", section, a.Path, a.Name)
		}
	}
	if len(m.LoRA) == 0 {
		return nil
	}
	for _, arg := range m.Args {
		if flag, _, _ := strings.Cut(strings.ReplaceAll(arg, "_", "-"), "="); flag == "--lora-modules" {
			return configErrorf(at(place{section, "args", arg}, place{section, "", ""}),
				"%s: --lora-modules cannot stand in args beside lora: give each adapter a lora", section)
		}
	}
	return nil
}

// adapters are the model's adapters as its server is launched with them.
func (m *Model) adapters() []server.LoRA {
	var all []server.LoRA
	for _, a := range m.LoRA {
		all = append(all, server.LoRA(a))
	}
	return slices.Clip(all)
}
