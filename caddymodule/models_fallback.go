// This file owns where requests go whose model cannot serve them: its
// configuration, and what the handlers get of it.

package caddymodule

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// FallbackOptions say where a model's requests go while it cannot be placed or
// started, and when its queue is full. They go together: a model that has its own
// fallback takes nothing of the defaults'.
type FallbackOptions struct {
	// Another model's name or alias, or the URL of an outside server with OpenAI's
	// API, up to its `/v1`: `https://api.example.com/v1`. A request goes there once,
	// and not on to that model's own fallback. Default: nowhere.
	Fallback string `json:"fallback,omitempty"`

	// The key that the outside server asks for. May have placeholders such as
	// `{env.OPENAI_API_KEY}`; an empty one means that no key is sent.
	FallbackKey string `json:"fallback_key,omitempty"`

	// The model that the outside server is asked for. Default: the model's own name.
	FallbackModel string `json:"fallback_model,omitempty"`
}

// over returns the options, or base where there are none.
func (f FallbackOptions) over(base FallbackOptions) FallbackOptions {
	if f == (FallbackOptions{}) {
		return base
	}
	return f
}

// option reads one of the options, if word is one.
func (f *FallbackOptions) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "fallback":
		return true, r.text(&f.Fallback)
	case "fallback_key":
		return true, r.text(&f.FallbackKey)
	case "fallback_model":
		return true, r.text(&f.FallbackModel)
	}
	return false, nil
}

// outside says whether the fallback is the URL of an outside server.
func (f *FallbackOptions) outside() bool { return strings.Contains(f.Fallback, "://") }

// check looks for what is wrong with the options by themselves.
func (f *FallbackOptions) check(section string) error {
	switch {
	case f.outside():
		if _, err := f.base(); err != nil {
			return configErrorf(at(place{section, "fallback", ""}), "%s: %w", section, err)
		}
	case f.FallbackKey != "":
		return configErrorf(at(place{section, "fallback_key", ""}), "%s: fallback_key goes with a fallback that is a URL", section)
	case f.FallbackModel != "":
		return configErrorf(at(place{section, "fallback_model", ""}), "%s: fallback_model goes with a fallback that is a URL", section)
	}
	return nil
}

// base is the URL of an outside server, up to what routes begin with.
func (f *FallbackOptions) base() (*url.URL, error) {
	u, err := url.Parse(f.Fallback)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not the URL itself: somebody may have put a password there.
		return nil, fmt.Errorf("the fallback must be a model, or a URL such as 'https://api.example.com/v1' without user, query and fragment")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1")
	u.RawPath = ""
	return u, nil
}

// checkFallbacks looks for fallbacks that are no model. owner has the model of each
// name and alias.
func (a *App) checkFallbacks(owner map[string]string) error {
	for _, m := range a.Models {
		o := m.FallbackOptions.over(a.Defaults.FallbackOptions)
		if o.Fallback == "" || o.outside() {
			continue
		}
		section := modelSection(m.Name)
		here := at(place{section, "fallback", ""}, place{defaultsSection, "fallback", ""}, place{section, "", ""})
		switch to, known := owner[o.Fallback]; {
		case !known:
			return configErrorf(here, "%s: the fallback %s is no model", section, o.Fallback)
		case to == m.Name && m.Fallback != "":
			return configErrorf(here, "%s: the fallback %s is the model itself", section, o.Fallback)
		}
	}
	return nil
}

// fallback is where a model's requests go if it cannot serve them.
type fallback struct {
	model   string   // another model's name or alias; empty: outside
	outside *outside // nil: a model
}

// readFallback keeps a model's fallback for the handlers. o are the model's options,
// complete.
func (a *App) readFallback(m *Model, o ModelOptions) error {
	switch {
	case o.Fallback == "":
		return nil
	case !o.outside():
		if o.Fallback != m.Name { // the defaults' may be this one
			a.fallbacks[m.Name] = &fallback{model: o.Fallback}
		}
		return nil
	}
	base, err := o.base()
	if err != nil {
		return err
	}
	out := &outside{base: base, model: cmp.Or(o.FallbackModel, m.Name), told: o.Fallback}
	if o.FallbackKey != "" {
		repl := caddy.NewReplacer()
		if _, err := repl.ReplaceOrErr(o.FallbackKey, false, true); err != nil {
			// Not err itself: it quotes the value, which may be a secret with a brace.
			return fmt.Errorf("fallback_key has a placeholder that Caddy does not know")
		}
		key, err := repl.ReplaceOrErr(o.FallbackKey, true, true)
		if err != nil {
			a.log.Info("no key is sent to the fallback because its placeholder is empty", zap.String("model", m.Name))
		} else {
			out.authorization = "Bearer " + key
		}
	}
	a.fallbacks[m.Name] = &fallback{outside: out}
	return nil
}
