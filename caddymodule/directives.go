// This file owns the directives of the HTTP handlers: their registration, their
// order, and their syntax.

package caddymodule

import (
	"errors"
	"fmt"
	"math"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	caddy.RegisterModule(Health{})
	caddy.RegisterModule(new(Keys))
	caddy.RegisterModule(new(Catalog))
	caddy.RegisterModule(new(Status))
	caddy.RegisterModule(new(Admission))
	caddy.RegisterModule(new(Upstream))

	httpcaddyfile.RegisterHandlerDirective("vllm_health", parseHandler[Health])
	httpcaddyfile.RegisterHandlerDirective("vllm_keys", parseHandler[Keys])
	httpcaddyfile.RegisterHandlerDirective("vllm_catalog", parseHandler[Catalog])
	httpcaddyfile.RegisterHandlerDirective("vllm_status", parseHandler[Status])
	httpcaddyfile.RegisterHandlerDirective("vllm_admission", parseHandler[Admission])
	httpcaddyfile.RegisterHandlerDirective("vllm_upstream", parseHandler[Upstream])
	httpcaddyfile.RegisterDirective("vllm_gateway", parseGateway)

	// Each is put right before reverse_proxy, so after those put there earlier: this
	// is the order in which they handle a request. All of it must stand in one init,
	// since the order of the files' own is nobody's promise.
	for _, directive := range []string{
		"vllm_health", "vllm_keys", "vllm_catalog", "vllm_status", "vllm_admission", "vllm_upstream", "vllm_gateway",
	} {
		httpcaddyfile.RegisterDirectiveOrder(directive, httpcaddyfile.Before, "reverse_proxy")
	}
}

// appOf returns the app that a handler's configuration has.
func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("vramman")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, errors.New("no models are configured: add the global option 'vramman' at the top of the Caddyfile, or the app 'vramman' to the JSON")
	}
	if err != nil {
		return nil, fmt.Errorf("getting the app vramman: %w", err)
	}
	return app.(*App), nil
}

// parseHandler reads the directive of a handler.
func parseHandler[T any, H interface {
	*T
	caddyfile.Unmarshaler
	caddyhttp.MiddlewareHandler
}](h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := H(new(T))
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// parseGateway reads the directive that is short for all handlers, one after the
// other. Syntax:
//
//	vllm_gateway [<matcher>] {
//		keys {
//			<options of vllm_keys...>
//		}
//		status      local|public|off
//		max_body    <size>
//		body_memory <size>
//		client_header <name>
//		keepalive     <time>
//		connect_timeout     <duration>
//		request_timeout     <duration>
//		stream_idle_timeout <duration>
//	}
func parseGateway(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive
	matcher, err := h.ExtractMatcherSet()
	if err != nil {
		return nil, err
	}
	h.Next()
	if h.NextArg() {
		return nil, h.ArgErr()
	}
	status, admission, upstream, withStatus := new(Status), new(Admission), new(Upstream), true
	var keys *Keys
	r := newReader(h.Dispenser)
	err = r.block("", nil, func(word string) error {
		if word == "status" {
			if err := status.readAudience(r); err != nil {
				return err
			}
			if withStatus = status.Audience != statusOff; !withStatus {
				status.Audience = ""
			}
			return nil
		}
		if word == "keys" {
			keys = new(Keys)
			return keys.read(r)
		}
		if known, err := admission.option(r, word); known {
			return err
		}
		if known, err := upstream.option(r, word); known {
			return err
		}
		return r.unknown("vllm_gateway")
	})
	if err != nil {
		return nil, err
	}
	if err := admission.check(); err != nil {
		return nil, h.WrapErr(err)
	}
	route := caddyhttp.Route{}
	if matcher != nil {
		route.MatcherSetsRaw = []caddy.ModuleMap{matcher}
	}
	add := func(name string, handler any) {
		route.HandlersRaw = append(route.HandlersRaw, caddyconfig.JSONModuleObject(handler, "handler", name, nil))
	}
	add("vllm_health", Health{})
	if keys != nil {
		if withStatus && status.Audience == statusPublic { // told to everybody: no key is asked for
			add("vllm_status", status)
			withStatus = false
		}
		add("vllm_keys", keys)
	}
	add("vllm_catalog", new(Catalog))
	if withStatus {
		add("vllm_status", status)
	}
	add("vllm_admission", admission)
	add("vllm_upstream", upstream)
	return []httpcaddyfile.ConfigValue{{Class: "route", Value: route}}, nil
}

// bare reads a directive that has no arguments and no options.
func bare(d *caddyfile.Dispenser) error {
	d.Next()
	name := d.Val()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(0) {
		return d.Errf("%s has no options", name)
	}
	return nil
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_health [<matcher>]
func (*Health) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return bare(d) }

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_catalog [<matcher>]
func (*Catalog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return bare(d) }

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_upstream [<matcher>] {
//		connect_timeout     <duration>
//		request_timeout     <duration>
//		stream_idle_timeout <duration>
//	}
func (u *Upstream) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	r := newReader(d)
	return r.block("", nil, func(word string) error {
		if known, err := u.option(r, word); known {
			return err
		}
		return r.unknown("vllm_upstream")
	})
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_status [<matcher>] [local|public]
func (s *Status) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.CountRemainingArgs() == 0 {
		if d.NextBlock(0) {
			return d.Err("vllm_status has no options")
		}
		return nil
	}
	if err := s.readAudience(newReader(d)); err != nil {
		return err
	}
	if s.Audience == statusOff {
		return d.Errf("'vllm_status off' does nothing: remove it")
	}
	return nil
}

// statusOff means, for vllm_gateway, that there is no status.
const statusOff = "off"

// readAudience reads who is told the status, after the option's word.
func (s *Status) readAudience(r *reader) error {
	option := r.Val()
	if err := r.text(&s.Audience); err != nil {
		return err
	}
	switch s.Audience {
	case statusLocal, statusPublic, statusOff:
		return nil
	}
	return r.Errf("%s is '%s', but must be 'local' or 'public'", option, s.Audience)
}

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_admission [<matcher>] {
//		max_body    <size>
//		body_memory <size>
//		client_header <name>
//		keepalive     <time>
//	}
func (a *Admission) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	r := newReader(d)
	err := r.block("", nil, func(word string) error {
		if known, err := a.option(r, word); known {
			return err
		}
		return r.unknown("vllm_admission")
	})
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

// option reads one of the handler's options, if word is one.
func (a *Admission) option(r *reader, word string) (known bool, err error) {
	switch word {
	case "max_body":
		return true, readBytes(r, &a.MaxBody)
	case "body_memory":
		return true, readBytes(r, &a.BodyMemory)
	case "client_header":
		return true, r.text(&a.ClientHeader)
	case "keepalive":
		return true, r.duration(&a.Keepalive)
	}
	return false, nil
}

// readBytes reads a number of bytes with its unit.
func readBytes(r *reader, n *int64) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	v, err := humanize.ParseBytes(s)
	if err != nil || v > math.MaxInt64 {
		return r.Errf("%s: '%s' is not a size, such as '64MiB'", option, s)
	}
	if v == 0 {
		return r.Errf("%s must be above 0", option)
	}
	*n = int64(v)
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*Health)(nil)
	_ caddyfile.Unmarshaler = (*Catalog)(nil)
	_ caddyfile.Unmarshaler = (*Status)(nil)
	_ caddyfile.Unmarshaler = (*Admission)(nil)
	_ caddyfile.Unmarshaler = (*Upstream)(nil)
)
