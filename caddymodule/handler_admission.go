// This file owns the handler vllm_admission: the door that lets a request in.

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

const (
	// standardMaxBody is how large a request body may be, in bytes.
	standardMaxBody = 64 << 20
	// standardBodyMemory is how much memory all request bodies may take, in bytes.
	standardBodyMemory = 1 << 30
)

// Admission is the door to the models: it knows the inference routes of vLLM and
// lets nothing else pass, reads the request's body, finds the model that it
// names, and waits for the request's turn in the model's queue. Then it calls the
// next handler, for whose whole duration the request has one of the model's slots.
//
// The next handler finds the body as the model's server is to get it: with the
// model's own name in the place of an alias, with the model's request defaults,
// and without `priority`. A form, which requests with audio have, gets the name
// alone; it is kept in memory up to 1 MiB, and in a temporary file beyond. The next
// handler is usually vllm_upstream; any other that proxies to a server of the model
// will do.
//
// Refusals are answered in the shape of OpenAI's errors (Anthropic's on
// /v1/messages): 400 for a body that cannot be read, 404 for an unknown route or
// model, 405, 408, 413, 429 when the model's queue is full, 503 and 504. Those
// that are worth trying again have `Retry-After`, from 1 to 60 s.
//
// Placeholder:
//
// Placeholder | Description
// ------------|------------
// `{http.vllm.model}` | The name of the model, as configured
//
// The access log has, as `vllm`, the model, what became of the request, and how
// long it queued, waited for the model to load, waited for the first byte, and
// streamed.
type Admission struct {
	// How large a request body may be, in bytes; larger ones are refused with
	// status 413. Default: 64 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// How much memory the bodies of all requests of the process may take, in bytes,
	// from their arrival to the first byte of their answers; forms on disk take none. A request that would
	// make it more is refused with status 503. Default: 1 GiB.
	BodyMemory int64 `json:"body_memory,omitempty"`

	app        *App
	generation *vramman.Generation
	limits     bodyLimits
	full       *refusals
	log        *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Admission) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_admission",
		New: func() caddy.Module { return new(Admission) },
	}
}

// Provision prepares the handler. It does no I/O.
func (a *Admission) Provision(ctx caddy.Context) error {
	app, err := appOf(ctx)
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return err
	}
	a.MaxBody, a.BodyMemory = a.bodyLimits()
	a.app, a.generation, a.log = app, app.Generation(), ctx.Logger()
	a.full = &queueFull
	a.limits = bodyLimits{max: a.MaxBody, memory: a.BodyMemory, budget: &bodyMemory}
	return nil
}

// bodyLimits are the limits with the defaults where nothing is configured.
func (a *Admission) bodyLimits() (maxBody, memory int64) {
	maxBody = cmp.Or(a.MaxBody, standardMaxBody)
	return maxBody, cmp.Or(a.BodyMemory, max(standardBodyMemory, maxBody))
}

// check looks for limits out of range.
func (a *Admission) check() error {
	maxBody, memory := a.bodyLimits()
	switch {
	case maxBody < 1 || maxBody > math.MaxInt32:
		return fmt.Errorf("max_body must be from 1 byte to 2 GiB, not %d bytes", maxBody)
	case memory < maxBody:
		return fmt.Errorf("body_memory (%d bytes) must not be less than max_body (%d bytes)", memory, maxBody)
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (a *Admission) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	route, err := routeOf(r)
	if err != nil {
		openai.WriteError(w, openai.DialectOpenAI, openai.AsError(err))
		return nil
	}
	x := &exchange{route: route}
	model, err := a.prepare(w, r, x)
	if err != nil {
		return a.refuse(w, r, x, err)
	}
	defer x.body.drop()
	describe(r, x)

	if err := model.Admit(r.Context(), time.Now(), &x.ticket); err != nil {
		if e, ok := errors.AsType[*vramman.Error](err); ok && e.Code == vramman.CodeQueueFull {
			a.tellQueue(w, model)
		}
		return a.refuse(w, r, x, err)
	}
	defer func() {
		if x.outcome == outcomeGone { // cut short: it would make Retry-After too short
			x.ticket.Unmeasured()
		}
		x.ticket.Return(time.Now())
	}()
	if c := a.log.Check(zap.DebugLevel, "left the queue"); c != nil {
		q := model.Queue()
		c.Write(zap.String("model", x.model), zap.Int("depth", q.Depth),
			zap.Int("max_queue", q.MaxQueue), zap.Duration("wait", x.ticket.Queued()))
	}
	x.slot = ticketSlot{&x.ticket}
	return next.ServeHTTP(w, x.with(r))
}

// routeOf finds the inference route that a request is for. The error is an
// [openai.Error].
func routeOf(r *http.Request) (openai.Route, error) {
	route, ok := openai.Find(r.URL.EscapedPath())
	if !ok || route.Socket { // vllm_upstream does not pass WebSockets
		return route, openai.RouteNotFound()
	}
	if r.Method != route.Method {
		return route, openai.MethodNotAllowed(route.Method)
	}
	if route.ModelIn == openai.ModelInStore { // nobody notes which instance keeps what
		return route, openai.ResponseNotFound()
	}
	return route, nil
}

// prepare reads the request's body, finds its model and makes the body the one
// that the model's server is to get.
func (a *Admission) prepare(w http.ResponseWriter, r *http.Request, x *exchange) (*vramman.Model, error) {
	if x.route.ModelIn == openai.ModelInForm {
		return a.prepareForm(w, r, x)
	}
	if err := openai.CheckContent(r.Header); err != nil {
		return nil, err
	}
	body, err := a.limits.read(w, r)
	if err != nil {
		return nil, err
	}
	x.body = body
	model, err := a.resolve(r.Context(), x)
	if err != nil {
		body.drop()
		return nil, err
	}
	return model, nil
}

// resolve finds the model in the body, and edits the body for its server.
func (a *Admission) resolve(ctx context.Context, x *exchange) (*vramman.Model, error) {
	fields, err := openai.Scan(x.body.bytes)
	if err != nil {
		return nil, err
	}
	model, err := a.find(ctx, fields.Model)
	if err != nil {
		return nil, err
	}
	x.model, x.stream = model.Name(), fields.Stream && x.route.Streams
	edit := openai.Edit{Model: x.model, Defaults: a.app.RequestDefaults(x.model)}
	edited, err := edit.Apply(nil, x.body.bytes, &fields)
	if err != nil {
		return nil, err
	}
	x.body.replace(edited)
	return model, nil
}

// find finds the model that a request names.
func (a *Admission) find(ctx context.Context, name []byte) (*vramman.Model, error) {
	if len(name) == 0 {
		return nil, openai.ModelRequired()
	}
	model, err := a.generation.Find(ctx, string(name))
	if e, ok := errors.AsType[*vramman.Error](err); ok && e.Code == vramman.CodeUnknownModel {
		return nil, openai.ModelNotFound(name)
	}
	return model, err
}

// refuse answers a request that is not let in.
func (a *Admission) refuse(w http.ResponseWriter, r *http.Request, x *exchange, err error) error {
	if gone(r.Context()) || errors.Is(err, errClientLeft) {
		x.outcome = outcomeGone
		w.WriteHeader(statusClientGone)
		return nil
	}
	e := refusal(err)
	x.outcome = e.Code
	if x.model != "" {
		w.Header().Set("Server-Timing", x.serverTiming())
	}
	if e.Status >= http.StatusInternalServerError {
		if c := a.log.Check(zap.DebugLevel, "refused"); c != nil {
			c.Write(zap.String("model", x.model), zap.Int("status", e.Status), zap.Error(err))
		}
	}
	openai.WriteError(w, x.route.Dialect, e)
	return nil
}

// tellQueue tells a client, and the log, how full the queue is that has no place
// left.
func (a *Admission) tellQueue(w http.ResponseWriter, model *vramman.Model) {
	q := model.Queue()
	h := w.Header()
	h.Set("X-Queue-Depth", strconv.Itoa(q.Depth))
	h.Set("X-Queue-Max-Size", strconv.Itoa(q.MaxQueue))
	a.full.note(a.log, model.Name(), q.Depth, q.MaxQueue)
}

// describe makes the exchange known to the access log and to placeholders.
func describe(r *http.Request, x *exchange) {
	ctx := r.Context()
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("vllm", x))
	}
	if repl, ok := ctx.Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.vllm.model", x.model)
	}
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Admission)(nil)
	_ caddyhttp.MiddlewareHandler = (*Admission)(nil)
)
