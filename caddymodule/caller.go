// This file owns what is known of who sends a request.

package caddymodule

import (
	"context"
	"net/http"
	"slices"
)

// Caller is who sends a request, as an API key told it. Nothing of it is secret.
type Caller struct {
	// Name is the key's name, for logs, metrics and fairness; never the key.
	Name string
	// Models are the models that the key may use, by their configured names;
	// nil: all.
	Models []string
	// Class is the priority class: requests of a higher one go first.
	Class int
	// Admin says that the key may steer the gateway.
	Admin bool
	// MaxConcurrent bounds the key's requests that are waiting or served at once,
	// over all models; 0: no bound.
	MaxConcurrent int
}

// May says whether the caller may use a model. A nil Caller is one whom no key was
// asked of, and may use all.
func (c *Caller) May(model string) bool {
	return c == nil || c.Models == nil || slices.Contains(c.Models, model)
}

// callerKey is the context key of the caller.
type callerKey struct{}

// withCaller notes who sends a request.
func withCaller(r *http.Request, c *Caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

// callerOf is who sends a request; nil: no key was asked for.
func callerOf(r *http.Request) *Caller { return callerIn(r.Context()) }

// callerIn is callerOf the request that a context belongs to.
func callerIn(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}
