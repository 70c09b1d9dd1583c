// This file owns the handler vllm_catalog: the list of models.

package caddymodule

import (
	"net/http"
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
// model that it stands for. Other requests go to the next handler.
type Catalog struct {
	models []openai.Model // in the order of the configuration
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

// catalogOf lists models and their aliases.
func catalogOf(models []vramman.ModelSpec, created time.Time) []openai.Model {
	var list []openai.Model
	for i := range models {
		m := &models[i]
		entry := openai.Model{
			ID:          m.Name,
			Created:     created,
			OwnedBy:     catalogOwner,
			Root:        m.Launch.Repo,
			MaxModelLen: m.Launch.MaxModelLen,
		}
		list = append(list, entry)
		entry.Parent = m.Name
		for _, alias := range m.Aliases {
			entry.ID = alias
			list = append(list, entry)
		}
	}
	return list
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
		c.serveOne(w, name)
	default:
		openai.WriteModels(w, c.models)
	}
	return nil
}

func (c *Catalog) serveOne(w http.ResponseWriter, name string) {
	for i := range c.models {
		if c.models[i].ID == name {
			openai.WriteModel(w, c.models[i])
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
