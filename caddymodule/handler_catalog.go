// This file owns the handler vllm_catalog: the list of models.

package caddymodule

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// catalogOwner is the owner that the list names for each model.
const catalogOwner = "vllm-gateway"

// Catalog answers GET /v1/models and GET /v1/models/{name} with the configured
// models, running or not. An alias is an entry of its own, whose `parent` is the
// model that it stands for. A client with an API key sees the models that the key
// may use, and no others. Other requests go to the next handler.
type Catalog struct {
	models []catalogEntry // in the order of the configuration
}

// catalogEntry is one name in the list.
type catalogEntry struct {
	openai.Model
	name string // by which keys know the model: its own, whatever alias this is
}

// CaddyModule returns the Caddy module information.
func (*Catalog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_catalog",
		New: func() caddy.Module { return new(Catalog) },
	}
}

// Provision prepares the list.
func (c *Catalog) Provision(ctx caddy.Context) error {
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	c.models = catalogOf(app.Generation().Spec().Models, time.Now())
	return nil
}

// catalogOf lists models, their aliases and their adapters.
func catalogOf(models []vramman.ModelSpec, created time.Time) []catalogEntry {
	var list []catalogEntry
	for i := range models {
		m := &models[i]
		entry := catalogEntry{name: m.Name, Model: openai.Model{
			ID:          m.Name,
			Created:     created,
			OwnedBy:     catalogOwner,
			Root:        published(m.Launch.Repo),
			MaxModelLen: m.Launch.MaxModelLen,
		}}
		list = append(list, entry)
		entry.Parent = m.Name
		for _, alias := range m.Aliases {
			entry.ID = alias
			list = append(list, entry)
		}
		for _, adapter := range m.Launch.LoRA {
			entry.name, entry.ID, entry.Root = adapter.Name, adapter.Name, published(adapter.Path)
			list = append(list, entry)
		}
	}
	return list
}

// published is where a model or an adapter comes from, as far as it is anybody's
// business: a repository, and not a folder of the machine.
func published(path string) string {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return ""
	}
	return path
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (c *Catalog) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	path := r.URL.EscapedPath()
	name, one := openai.ModelID(path)
	switch {
	case !one && path != openai.ModelsPath:
		return next.ServeHTTP(w, r)
	case !reads(r):
		openai.WriteError(w, openai.DialectOpenAI, openai.MethodNotAllowed(http.MethodGet))
	case one:
		c.serveOne(w, callerOf(r), name)
	default:
		c.serveList(w, callerOf(r))
	}
	return nil
}

func (c *Catalog) serveList(w http.ResponseWriter, caller *Caller) {
	list := make([]openai.Model, 0, len(c.models))
	for i := range c.models {
		if caller.May(c.models[i].name) {
			list = append(list, c.models[i].Model)
		}
	}
	openai.WriteModels(w, list)
}

func (c *Catalog) serveOne(w http.ResponseWriter, caller *Caller, name string) {
	for i := range c.models {
		if c.models[i].ID == name && caller.May(c.models[i].name) {
			openai.WriteModel(w, c.models[i].Model)
			return
		}
	}
	openai.WriteError(w, openai.DialectOpenAI, openai.ModelNotFound([]byte(name)))
}

// reads says whether a request only reads.
func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Catalog)(nil)
	_ caddyhttp.MiddlewareHandler = (*Catalog)(nil)
)
