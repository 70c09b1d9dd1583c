// This file owns the handler vllm_admission: the door that lets a request in.

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
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

	// A request header that says who the client is, for clients without an API key.
	// Clients share a model fairly; without a key and this header, each address is
	// one. Trust it only where clients cannot set it as they like.
	ClientHeader string `json:"client_header,omitempty"`

	// How often a client that asked for a stream is sent a comment while it waits for
	// its turn or for the model to load. The first one commits the answer to status 200; what goes
	// wrong after it is told by an error event. Default: no comments.
	Keepalive caddy.Duration `json:"keepalive,omitempty"`

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
	case a.Keepalive < 0 || a.Keepalive > 0 && a.Keepalive < caddy.Duration(leastKeepalive):
		return fmt.Errorf("keepalive must be at least %v", leastKeepalive)
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (a *Admission) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	echoRequestID(w, r)
	route, err := routeOf(r)
	if err != nil {
		openai.WriteError(w, openai.DialectOpenAI, openai.AsError(err))
		return nil
	}
	x := &exchange{route: route, door: a, caller: callerOf(r)}
	timeout, err := requestTimeout(r.Header)
	if err != nil {
		return a.refuse(w, r, x, err)
	}
	var deadline time.Time
	if timeout > 0 {
		deadline = time.Now().Add(timeout)
		ctx, cancel := context.WithDeadline(r.Context(), deadline)
		defer cancel()
		r = r.WithContext(ctx)
	}
	model, err := a.prepare(w, r, x)
	if err != nil {
		return a.refuse(w, r, x, err)
	}
	defer x.body.drop()
	describe(r, x)
	x.ticket.Request = a.request(r, x, deadline)
	if a.Keepalive <= 0 || !x.stream {
		return a.admit(w, r, x, model, next)
	}
	k := newKeepalive(w, x.route.Dialect, &x.ticket)
	x.ticket.Request.Notify, x.ticket.Request.NotifyEvery = k.tell, duration(a.Keepalive)
	if err := a.admit(k, r, x, model, next); err != nil {
		return err
	}
	k.finish()
	return nil
}

// admit waits for a request's turn and has it served.
func (a *Admission) admit(w http.ResponseWriter, r *http.Request, x *exchange, model *vramman.Model, next caddyhttp.Handler) error {
	x.fallback = a.app.fallbackOf(x)
	err := model.Admit(r.Context(), time.Now(), &x.ticket)
	queueHeaders(w.Header(), &x.ticket)
	depth, most := x.ticket.Found()
	if err != nil && !x.fall(r.Context(), err) {
		if e, ok := errors.AsType[*vramman.Error](err); ok && e.Code == vramman.CodeQueueFull {
			a.full.note(a.log, model.Name(), depth, most)
		}
		return a.refuse(w, r, x, err)
	}
	defer func() {
		if x.outcome == outcomeGone || x.outcome == openai.CodeDeadline { // cut short: it would make Retry-After too short
			x.ticket.Unmeasured()
		}
		x.ticket.Return(time.Now())
	}()
	model = x.ticket.Model() // none where an outside server serves
	if c := a.log.Check(zap.DebugLevel, "left the queue"); c != nil && model != nil {
		q := model.Queue()
		c.Write(zap.String("model", x.model), zap.Int("depth", q.Depth),
			zap.Int("max_queue", q.MaxQueue), zap.Duration("wait", x.ticket.Queued()))
	}
	if x.slot == nil { // it did not fall back
		x.slot = slotOf(x)
	}
	return next.ServeHTTP(w, x.with(r))
}

// routeOf finds the inference route that a request is for. The error is an
// [openai.Error].
func routeOf(r *http.Request) (openai.Route, error) {
	route, ok := openai.Find(r.URL.EscapedPath())
	if !ok {
		return route, openai.RouteNotFound()
	}
	if r.Method != route.Method {
		return route, openai.MethodNotAllowed(route.Method)
	}
	return route, nil
}

// prepare reads the request's body, finds its model and makes the body the one
// that the model's server is to get.
func (a *Admission) prepare(w http.ResponseWriter, r *http.Request, x *exchange) (*vramman.Model, error) {
	switch x.route.ModelIn {
	case openai.ModelInForm:
		return a.prepareForm(w, r, x)
	case openai.ModelInQuery:
		return a.prepareSocket(r, x)
	case openai.ModelInStore:
		return a.prepareStored(r, x)
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
	model, served, err := a.find(ctx, fields.Model)
	if err != nil {
		return nil, err
	}
	x.model, x.served, x.stream = model.Name(), served, fields.Stream && x.route.Streams
	edit := openai.Edit{Model: served, Defaults: a.app.RequestDefaults(x.model), Limits: a.app.RequestLimits(x.model)}
	edited, err := edit.Apply(nil, x.body.bytes, &fields)
	if err != nil {
		return nil, err
	}
	x.body.replace(edited)
	return model, nil
}

// find finds the model that a request names, or that requests go to which name
// none, and the name by which its server knows it: the model's own, or one of its
// adapters'.
func (a *Admission) find(ctx context.Context, name []byte) (model *vramman.Model, served string, _ error) {
	asked := string(name)
	if asked == "" {
		if asked = a.app.DefaultModel; asked == "" {
			return nil, "", openai.ModelRequired()
		}
	}
	model, err := a.generation.Find(ctx, asked)
	if e, ok := errors.AsType[*vramman.Error](err); ok && e.Code == vramman.CodeUnknownModel {
		return nil, "", openai.ModelNotFound([]byte(asked))
	}
	if err != nil {
		return nil, "", err
	}
	if served = model.Name(); asked != served && a.generation.Adapter(asked) {
		served = asked
	}
	if !callerIn(ctx).May(served) {
		return nil, "", openai.ModelNotFound([]byte(asked)) // who may not use it is not told of it
	}
	return model, served, nil
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
