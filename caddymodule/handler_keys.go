// This file owns the handler vllm_keys: who may come in.

package caddymodule

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// codeClientLimit is the code of a refusal because the client has as many requests
// under way as it may have.
const codeClientLimit = "client_limit" // 429

// Keys lets in requests with an API key, and those that another handler of Caddy has
// authenticated already, if it is told to trust that. Everybody else is answered with
// status 401, as OpenAI's API does (Anthropic's on /v1/messages): a missing key, a
// wrong one and one that has expired are not told apart.
//
// A client presents its key as `Authorization: Bearer`, `X-Api-Key` (as Anthropic's
// SDKs do) or `Api-Key` (as Azure's do). The handlers that come next do not see
// these headers. It reads no body, and belongs before the other handlers of the
// gateway, but for vllm_health, which is open to everybody. A local client that
// presents no key gets through to /gateway/status, where vllm_status has a rule of its
// own.
//
// Placeholders:
//
// Placeholder | Description
// ------------|------------
// `{http.auth.user.id}` | The name of the key, or of who was authenticated otherwise; the access log has it as `user_id`
// `{http.vllm.api_key_name}` | The name of the key, never the key
//
// The access log has the name of the key as `api_key_name`; and for requests that
// are refused, as `api_key_refused`, whether the key was `missing`, `unknown` or
// `expired`.
type Keys struct {
	// The keys.
	Keys []*Key `json:"keys,omitempty"`

	// A file with further keys, which may be changed while Caddy runs: it is read
	// every 2 s. It is a JSON object with the list `keys`, whose members are like
	// those of `keys` here. Placeholders in its path are resolved. A file that cannot
	// be read, or has a mistake, leaves the keys as they were.
	File string `json:"file,omitempty"`

	// Lets requests in that were authenticated by another handler. Default: keys only.
	TrustAuth *TrustedAuth `json:"trust_auth,omitempty"`

	own  keyring // those that do not come from the file
	ring atomic.Pointer[keyring]
	busy *callerCounts
	log  *zap.Logger

	advise sync.Once
}

// TrustedAuth lets requests in that another handler has authenticated.
type TrustedAuth struct {
	// A placeholder that names who was authenticated; where it is empty or not
	// known, nobody was. Default: `{http.auth.user.id}`, which Caddy's `basic_auth` and
	// plugins for JWT and others set. It must be nothing that clients can set
	// themselves: a header only if a handler or a proxy before this one always sets or
	// removes it.
	User string `json:"user,omitempty"`

	// What those may do who come in this way, each.
	Grant
}

// standardUser is where Caddy's authentication says who it was.
const standardUser = "{http.auth.user.id}"

// CaddyModule returns the Caddy module information.
func (*Keys) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.vllm_keys",
		New: func() caddy.Module { return new(Keys) },
	}
}

// Provision makes the keyring. It reads the file of keys, if there is one, and the
// values of placeholders.
func (k *Keys) Provision(ctx caddy.Context) error {
	k.log, k.busy = ctx.Logger(), &callersBusy
	if err := k.check(); err != nil {
		return err
	}
	if k.TrustAuth != nil {
		k.TrustAuth.User = cmp.Or(k.TrustAuth.User, standardUser)
	}
	models, err := modelNamesOf(ctx)
	if err != nil {
		return err
	}
	if err := k.checkModels(models); err != nil {
		return err
	}
	if k.own, err = storedKeys(k.Keys, (*Key).resolved); err != nil {
		return err
	}
	for _, key := range k.Keys {
		if key.literal() {
			k.log.Warn("an API key stands in the configuration, where the admin API and the saved configuration show it; write its SHA-256 ('caddy vllm key' makes a new key with its own), or a placeholder such as {env.KEY}", zap.String("name", key.Name))
		}
	}
	k.own.warn(k.log, time.Now())
	if k.File == "" {
		return k.use(nil)
	}
	return k.open(ctx, models)
}

// open reads the file of keys for the first time and has it watched. Now a mistake
// in it is one of the configuration.
func (k *Keys) open(ctx caddy.Context, models modelNames) error {
	path, err := resolve("file", k.File)
	if err != nil {
		return err
	}
	file := &keyFile{path: path}
	ring, _, err := file.read()
	if err == nil {
		err = k.use(ring)
	}
	if err != nil {
		return fmt.Errorf("the file of API keys %s: %w", path, err)
	}
	tell := func(ring keyring) {
		ring.warn(k.log, time.Now())
		models.warn(k.log, ring)
	}
	tell(ring)
	go file.watch(ctx.Done(), k.log, func(ring keyring) error {
		if err := k.use(ring); err != nil {
			return err
		}
		tell(ring)
		return nil
	})
	return nil
}

// use puts the keys of the file in force, beside the handler's own.
func (k *Keys) use(further keyring) error {
	ring := slices.Concat(k.own, further)
	if first, second := ring.twice(); first != nil {
		if first.caller.Name == second.caller.Name {
			return fmt.Errorf("%s is already defined", keySection(first.caller.Name))
		}
		return fmt.Errorf("%s and %s are one and the same key", keySection(first.caller.Name), keySection(second.caller.Name))
	}
	k.ring.Store(&ring)
	return nil
}

// check looks for what is wrong with the configuration.
func (k *Keys) check() error {
	if len(k.Keys) == 0 && k.File == "" && k.TrustAuth == nil {
		return configErrorf(at(place{}), "there is no API key, so nobody could come in: add 'key', 'file' or 'trust_auth', or leave keys out to let everybody in")
	}
	if t := k.TrustAuth; t != nil {
		if t.User != "" && !strings.Contains(t.User, "{") {
			return configErrorf(at(place{keysSection, "trust_auth", ""}), "trust_auth: '%s' is no placeholder, so it would let everybody in", t.User)
		}
		if err := t.check(trustSection); err != nil {
			return err
		}
	}
	return checkKeys(k.Keys)
}

// checkModels looks for models that do not exist.
func (k *Keys) checkModels(models modelNames) error {
	if t := k.TrustAuth; t != nil {
		if err := models.check(trustSection, t.Models); err != nil {
			return err
		}
	}
	for _, key := range k.Keys {
		if err := models.check(keySection(key.Name), key.Models); err != nil {
			return err
		}
	}
	return nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (k *Keys) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	presented, open := takeCredentials(r)
	caller, why := k.whose(presented)
	if caller != nil {
		if open {
			k.adviseOn(r)
		}
		setPlaceholder(r, "http.vllm.api_key_name", caller.Name)
		addLogField(r, zap.String("api_key_name", caller.Name))
	} else if caller = k.trusted(r); caller == nil {
		if len(presented) == 0 && r.URL.EscapedPath() == statusPath && isLocal(r) {
			return next.ServeHTTP(w, r)
		}
		addLogField(r, zap.String("api_key_refused", why))
		refuseKey(w, r)
		return nil
	}
	setPlaceholder(r, "http.auth.user.id", caller.Name)

	if caller.MaxConcurrent > 0 && isWork(r) {
		again, ok := k.busy.enter(caller.Name, caller.MaxConcurrent)
		if !ok {
			refuseBusy(w, r, caller, again)
			return nil
		}
		began := time.Now()
		defer func() { k.busy.leave(caller.Name, time.Since(began)) }()
	}
	return next.ServeHTTP(w, withCaller(r, caller))
}

// adviseOn tells the log, once, that the access log may show keys. The log's own
// configuration is out of reach here, so it may be that it does not.
func (k *Keys) adviseOn(r *http.Request) {
	if s, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || s == nil || s.Logs == nil {
		return
	}
	k.advise.Do(func() {
		k.log.Info("a client sends its key as X-Api-Key or Api-Key, which Caddy's access log shows: see to it that its format deletes request>headers>X-Api-Key and request>headers>Api-Key, as in Caddyfile.example")
	})
}

// whose returns the caller whose key was presented; nil: nobody's, and why.
func (k *Keys) whose(presented []string) (caller *Caller, why string) {
	why = "missing"
	ring := *k.ring.Load()
	for _, p := range presented {
		switch s := ring.find(p); {
		case s == nil:
			why = "unknown"
		case s.expired(time.Now()):
			why = "expired"
		default:
			return s.caller, ""
		}
	}
	return nil, why
}

// trusted returns the caller that another handler has authenticated, or nil.
func (k *Keys) trusted(r *http.Request) *Caller {
	if k.TrustAuth == nil {
		return nil
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return nil
	}
	name, err := repl.ReplaceOrErr(k.TrustAuth.User, true, true)
	name = strings.TrimSpace(name)
	if err != nil || name == "" || len(name) > maxUserName {
		return nil
	}
	return k.TrustAuth.caller(name)
}

// maxUserName is how long the name of somebody may be whom another handler has
// authenticated, in bytes; it is kept as long as requests are.
const maxUserName = 256

// isWork says whether a request counts towards its caller's limit: all do, but for
// those that the gateway itself answers at once.
func isWork(r *http.Request) bool {
	path := r.URL.EscapedPath()
	_, one := openai.ModelID(path)
	return !one && path != openai.ModelsPath && path != statusPath
}

// dialectOf is the shape of the errors that a request's client understands.
func dialectOf(r *http.Request) openai.Dialect {
	route, _ := openai.Find(r.URL.EscapedPath())
	return route.Dialect
}

// refuseKey answers a request without a key that is good. It says the same whatever
// is wrong: who tries keys must learn nothing.
func refuseKey(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	openai.WriteError(w, dialectOf(r), openai.Error{
		Status:  http.StatusUnauthorized,
		Code:    openai.CodeInvalidAPIKey,
		Message: "Incorrect API key provided",
	})
}

// refuseBusy answers a request over its caller's limit.
func refuseBusy(w http.ResponseWriter, r *http.Request, caller *Caller, again time.Duration) {
	addLogField(r, zap.String("api_key_refused", codeClientLimit))
	openai.WriteError(w, dialectOf(r), openai.Error{
		Status:     http.StatusTooManyRequests,
		Code:       codeClientLimit,
		Message:    fmt.Sprintf("this client may have %d requests under way at once and has them; retry when one has ended", caller.MaxConcurrent),
		RetryAfter: cmp.Or(again, unknownRetryAfter),
	})
}

// addLogField adds a field to the request's line in the access log.
func addLogField(r *http.Request, field zapcore.Field) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(field)
	}
}

// setPlaceholder makes a value known to other handlers.
func setPlaceholder(r *http.Request, name, value string) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(name, value)
	}
}

// MarshalLogObject tells logs of the handler without its keys: Caddy can be made to
// log the configuration of each handler that a request meets.
func (k *Keys) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddInt("keys", len(k.Keys))
	enc.AddBool("file", k.File != "")
	enc.AddBool("trust_auth", k.TrustAuth != nil)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Keys)(nil)
	_ caddyhttp.MiddlewareHandler = (*Keys)(nil)
	_ zapcore.ObjectMarshaler     = (*Keys)(nil)
)
