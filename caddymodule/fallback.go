// This file owns the way of a request to its model's fallback.

package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// headerFallback names, in an answer, the model that gave it in another's place.
const headerFallback = "X-Fallback-Model"

// fallsBack says whether an error means that the model cannot serve: it cannot be
// placed or started, or its queue is full.
func fallsBack(err error) bool {
	e, ok := errors.AsType[*vramman.Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case vramman.CodeQueueFull, vramman.CodeUnplaceable, vramman.CodeStartFailed, vramman.CodeNoEngine:
		return true
	}
	return false
}

// fallbackOf is where a request may go if its model cannot serve it. Forms, which
// may be on disk, WebSockets, which last, and stored responses, which are nowhere
// else, stay.
func (a *App) fallbackOf(x *exchange) *fallback {
	if x.route.ModelIn != openai.ModelInJSON {
		return nil
	}
	return a.fallbacks[x.model]
}

// fall moves the exchange to its model's fallback after an error, if it has one and
// the error is of the kind. It gives the ticket back and takes one at the other
// model. False means that the error stands, whatever the fallback said.
func (x *exchange) fall(ctx context.Context, err error) bool {
	f := x.fallback
	if f == nil || !fallsBack(err) {
		return false
	}
	x.fallback = nil // one hop
	x.ticket.Return(time.Now())
	if f.outside != nil {
		if x.edit(openai.Edit{Model: f.outside.model}) != nil {
			return false
		}
		x.slot, x.outside, x.answerer = outsideSlot{f.outside}, f.outside.told, f.outside.model
		return true
	}
	model, served, err := x.door.find(ctx, []byte(f.model))
	if err != nil || model.Name() == x.model {
		return false
	}
	app := x.door.app
	edit := openai.Edit{Model: served, Defaults: app.RequestDefaults(model.Name()), Limits: app.RequestLimits(model.Name())}
	if x.edit(edit) != nil || model.Admit(ctx, time.Now(), &x.ticket) != nil {
		return false
	}
	x.asked, x.model, x.served, x.answerer = x.model, model.Name(), served, served
	x.slot = ticketSlot{&x.ticket}
	return true
}

// edit makes the body one for another model. What was added for the model before
// stays.
func (x *exchange) edit(edit openai.Edit) error {
	fields, err := openai.Scan(x.body.bytes)
	if err != nil {
		return err
	}
	edited, err := edit.Apply(nil, x.body.bytes, &fields)
	if err != nil {
		return err
	}
	x.body.replace(edited)
	return nil
}

// outside is a server of somebody else's with OpenAI's API. For attempts it is an
// instance that is always ready.
type outside struct {
	base          *url.URL // a route's path follows
	model         string   // as the server knows it
	told          string   // the URL as configured, for the log
	authorization string   // a secret; empty: none
}

// outsideTransport has the connections to all outside servers. It is the process's:
// a reload changes nothing of them.
var outsideTransport = &http.Transport{
	Proxy:               http.ProxyFromEnvironment,
	ForceAttemptHTTP2:   true,
	MaxIdleConnsPerHost: 64,
	IdleConnTimeout:     30 * time.Second,
	TLSHandshakeTimeout: 10 * time.Second,
	DisableCompression:  true,
}

// shownToOutside are the headers of a request that an outside server sees. Any other
// may say who the client is, or where: proxies before the gateway and handlers that
// authenticate have many names for that.
var shownToOutside = map[string]bool{
	"Accept":            true,
	"Accept-Encoding":   true, // the gateway's own
	"Anthropic-Beta":    true,
	"Anthropic-Version": true,
	"Authorization":     true, // that of the outside server
	"Content-Type":      true,
	"Openai-Beta":       true,
	"User-Agent":        true,
	"X-Request-Id":      true,
}

// ID implements instance.
func (*outside) ID() string { return "outside" }

// Authorization implements instance.
func (o *outside) Authorization() string { return o.authorization }

// Transport implements instance.
func (o *outside) Transport() http.RoundTripper { return o }

// RoundTrip implements http.RoundTripper. The request is the attempt's own, and may
// be changed.
func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	u := *o.base
	u.Path += r.URL.Path
	r.URL, r.Host = &u, ""
	for name := range r.Header {
		if !shownToOutside[name] {
			delete(r.Header, name)
		}
	}
	return outsideTransport.RoundTrip(r)
}

// outsideSlot gives leases on an outside server, which need no ending.
type outsideSlot struct{ server *outside }

func (s outsideSlot) acquire(ctx context.Context, _ instance) (hold, error) {
	return outsideHold(s), ctx.Err()
}

type outsideHold struct{ server *outside }

func (h outsideHold) instance() instance { return h.server }

// Release implements hold.
func (outsideHold) Release(time.Time) {}

// Interface guards
var (
	_ instance          = (*outside)(nil)
	_ http.RoundTripper = (*outside)(nil)
	_ slot              = outsideSlot{}
	_ hold              = outsideHold{}
)
