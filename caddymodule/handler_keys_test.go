package caddymodule

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

const (
	aliceKey = "sk-alice-0123456789abcdef"
	bobKey   = "sk-bob-0123456789abcdefgh"
)

// keysOf is a handler with keys.
func keysOf(t *testing.T, keys ...*Key) *Keys {
	t.Helper()
	k := &Keys{own: ringOf(t, keys...), busy: new(callerCounts), log: zap.NewNop()}
	if err := k.use(nil); err != nil {
		t.Fatal(err)
	}
	return k
}

// knocking is a request as Caddy hands it to handlers, from a client of the
// internet, with headers as "Name: value".
func knocking(method, target string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "203.0.113.7")
	return r
}

// knock sends a request to the handler. The caller is who was let in; in says that
// somebody was.
func knock(t *testing.T, k *Keys, r *http.Request) (w *httptest.ResponseRecorder, caller *Caller, in bool) {
	t.Helper()
	w = serve(t, k, r, func(_ http.ResponseWriter, r *http.Request) error {
		caller, in = callerOf(r), true
		for _, header := range credentialHeaders {
			if r.Header.Get(header) != "" {
				t.Errorf("the next handler sees %s", header)
			}
		}
		return nil
	})
	return w, caller, in
}

func TestCredentials(t *testing.T) {
	k := keysOf(t, &Key{Name: "alice", Key: aliceKey}, &Key{Name: "bob", Key: hashed(bobKey)})
	for _, tt := range []struct {
		name    string
		headers []string
		who     string
	}{
		{"OpenAI", []string{"Authorization: Bearer " + aliceKey}, "alice"},
		{"Anthropic", []string{"X-Api-Key: " + aliceKey}, "alice"},
		{"Azure", []string{"Api-Key: " + bobKey}, "bob"},
		{"scheme in other letters", []string{"Authorization: bEARER  " + bobKey + " "}, "bob"},
		{"good beside another's", []string{"Authorization: Bearer of-another-program", "X-Api-Key: " + aliceKey}, "alice"},
		{"good beside another scheme", []string{"Authorization: Basic YTpi", "Api-Key: " + aliceKey}, "alice"},
		{"two that are good", []string{"X-Api-Key: " + bobKey, "Authorization: Bearer " + aliceKey}, "alice"},
		{"none", nil, ""},
		{"none, and cookies", []string{"Cookie: key=" + aliceKey}, ""},
		{"wrong", []string{"Authorization: Bearer " + aliceKey + "x"}, ""},
		{"beginning of one", []string{"Authorization: Bearer " + aliceKey[:len(aliceKey)-1]}, ""},
		{"empty", []string{"Authorization: Bearer "}, ""},
		{"scheme alone", []string{"Authorization: Bearer"}, ""},
		{"without a scheme", []string{"Authorization: " + aliceKey}, ""},
		{"other scheme", []string{"Authorization: Basic " + aliceKey}, ""},
		{"hash", []string{"Authorization: Bearer " + hashed(bobKey)}, ""},
		{"hash without its prefix", []string{"Authorization: Bearer " + hashed(bobKey)[len(hashPrefix):]}, ""},
		{"name", []string{"Authorization: Bearer alice"}, ""},
		{"twice", []string{"Authorization: Bearer " + aliceKey, "Authorization: Bearer " + aliceKey}, ""},
		{"too long", []string{"X-Api-Key: " + strings.Repeat("x", maxKeyLength+1)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := knocking(http.MethodPost, chatPath, tt.headers...)
			w, caller, in := knock(t, k, r)
			if tt.who == "" {
				if in || w.Code != http.StatusUnauthorized {
					t.Errorf("let in: %t, status %d", in, w.Code)
				}
				return
			}
			if !in || caller == nil || caller.Name != tt.who {
				t.Fatalf("let in: %t, as %+v, want %s", in, caller, tt.who)
			}
			repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
			if got := repl.ReplaceAll("{http.auth.user.id} {http.vllm.api_key_name} {http.request.header.Authorization}{http.request.header.X-Api-Key}", ""); got != tt.who+" "+tt.who+" " {
				t.Errorf("the placeholders are %q", got)
			}
		})
	}
	// In the query a key would stand in everybody's logs.
	if _, _, in := knock(t, k, knocking(http.MethodPost, chatPath+"?api_key="+aliceKey)); in {
		t.Error("a key in the query is accepted")
	}
}

// TestKeyRefusals shows that whatever is wrong with a key, the answer is the same to
// the byte, and is the one that clients know.
func TestKeyRefusals(t *testing.T) {
	k := keysOf(t, &Key{Name: "alice", Key: aliceKey, Expires: time.Now().Add(-time.Second)})
	const openAI = `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`
	const anthropic = `{"type":"error","error":{"type":"authentication_error","message":"Incorrect API key provided"}}`
	for path, want := range map[string]string{
		chatPath: openAI, "/v1/models": openAI, "/gateway/status": openAI, "/none": openAI,
		"/v1/messages": anthropic, "/v1/messages/count_tokens": anthropic,
	} {
		for _, headers := range [][]string{nil, {"Authorization: Bearer " + bobKey}, {"Authorization: Bearer " + aliceKey}, {"X-Api-Key: " + aliceKey}} {
			w, _, in := knock(t, k, knocking(http.MethodPost, path, headers...))
			if in || w.Code != http.StatusUnauthorized || w.Body.String() != want {
				t.Errorf("%s, %q: let in: %t, status %d, %s", path, headers, in, w.Code, w.Body)
			}
			if h := w.Header(); h.Get("Www-Authenticate") != "Bearer" || h.Get("Content-Type") != "application/json" || h.Get("Retry-After") != "" {
				t.Errorf("%s, %q: headers %v", path, headers, h)
			}
		}
	}
}

func TestKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keysOf(t, &Key{Name: "alice", Key: aliceKey, Expires: time.Now().Add(time.Hour)})
		request := func() *http.Request {
			return knocking(http.MethodPost, chatPath, "Authorization: Bearer "+aliceKey)
		}
		time.Sleep(time.Hour - time.Nanosecond)
		if _, _, in := knock(t, k, request()); !in {
			t.Error("refused before it has expired")
		}
		time.Sleep(time.Nanosecond)
		if _, _, in := knock(t, k, request()); in {
			t.Error("let in after it has expired")
		}
	})
}

func TestTrustedAuth(t *testing.T) {
	bearer := "Authorization: Bearer " + aliceKey
	for _, tt := range []struct {
		name    string
		user    string // the option
		set     string // what Caddy's authentication says
		headers []string
		who     string
	}{
		{"authenticated", "", "carol", nil, "carol"},
		{"authenticated, with some key", "", "carol", []string{"Authorization: Bearer unused"}, "carol"},
		{"authenticated, with a good key", "", "carol", []string{bearer}, "alice"},
		{"not authenticated", "", "", nil, ""},
		{"not authenticated, with a good key", "", "", []string{bearer}, "alice"},
		{"authenticated as nobody", "", " ", nil, ""},
		{"long name", "", strings.Repeat("x", maxUserName+1), nil, ""},
		{"header", "{http.request.header.Remote-User}", "", []string{"Remote-User: dave"}, "dave"},
		{"header that is missing", "{http.request.header.Remote-User}", "carol", nil, ""},
		{"unknown placeholder", "{http.auth.nobody}", "carol", nil, ""},
		{"header with a key", "{http.request.header.Authorization}", "", []string{"Authorization: Bearer s3cr3t"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := keysOf(t, &Key{Name: "alice", Key: aliceKey})
			k.TrustAuth = &TrustedAuth{User: tt.user, Grant: Grant{Models: []string{"a"}, Class: 3}}
			if tt.user == "" {
				k.TrustAuth.User = standardUser
			}
			r := knocking(http.MethodPost, chatPath, tt.headers...)
			if tt.set != "" {
				setPlaceholder(r, "http.auth.user.id", tt.set)
			}
			_, caller, in := knock(t, k, r)
			if in != (tt.who != "") || in && (caller == nil || caller.Name != tt.who) {
				t.Fatalf("let in: %t, as %+v, want %q", in, caller, tt.who)
			}
			if in && tt.who != "alice" && (caller.Class != 3 || caller.May("b")) {
				t.Errorf("%s is %+v", tt.who, caller)
			}
		})
	}
}

// TestClientLimit shows that a client's requests are counted over routes and
// configurations, and that each comes back, whatever becomes of it.
func TestClientLimit(t *testing.T) {
	key := &Key{Name: "alice", Key: aliceKey, Grant: Grant{MaxConcurrent: 2}}
	k, reloaded := keysOf(t, key, &Key{Name: "bob", Key: bobKey}), keysOf(t, key)
	reloaded.busy = k.busy
	request := func(path string) *http.Request {
		return knocking(http.MethodPost, path, "Authorization: Bearer "+aliceKey)
	}
	enter, leave := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	for range 2 {
		go func() {
			defer func() {
				_ = recover()
				ended <- struct{}{}
			}()
			_ = k.ServeHTTP(httptest.NewRecorder(), request(chatPath), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
				enter <- struct{}{}
				<-leave
				panic(http.ErrAbortHandler)
			}))
		}()
		<-enter
	}
	for _, k := range []*Keys{k, reloaded} {
		for path, want := range map[string]string{
			chatPath:       `"type":"rate_limit_error","param":null,"code":"client_limit"`,
			"/v1/messages": `"type":"rate_limit_error"`,
		} {
			w, _, in := knock(t, k, request(path))
			if in || w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), want) || w.Header().Get("Retry-After") != "30" {
				t.Errorf("%s: let in: %t, status %d, Retry-After %s, %s", path, in, w.Code, w.Header().Get("Retry-After"), w.Body)
			}
		}
	}
	for _, path := range []string{"/v1/models", "/v1/models/a", statusPath} {
		if _, _, in := knock(t, k, request(path)); !in {
			t.Errorf("%s is refused over a limit that is for work", path)
		}
	}
	if _, _, in := knock(t, k, knocking(http.MethodPost, chatPath, "Authorization: Bearer "+bobKey)); !in {
		t.Error("bob is refused for what alice does")
	}
	close(leave)
	<-ended
	<-ended
	for range 5 {
		if _, _, in := knock(t, reloaded, request(chatPath)); !in {
			t.Error("a place did not come back")
		}
	}
}

// TestStatusAndKeys shows who is told the status where keys are asked for.
func TestStatusAndKeys(t *testing.T) {
	k := keysOf(t, &Key{Name: "alice", Key: aliceKey}, &Key{Name: "root", Key: bobKey, Grant: Grant{Admin: true}})
	app := appWith(t, new(fakeEngine), nil)
	status := &Status{Audience: statusLocal, app: app, log: zap.NewNop()}
	for _, tt := range []struct {
		client, key string
		want        int
	}{
		{"127.0.0.1", "", 200},
		{"127.0.0.1", aliceKey, 200},
		{"127.0.0.1", "sk-wrong", 401},
		{"203.0.113.7", "", 401},
		{"203.0.113.7", "sk-wrong", 401},
		{"203.0.113.7", aliceKey, 403},
		{"203.0.113.7", bobKey, 200},
	} {
		r := knocking(http.MethodGet, statusPath)
		caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, tt.client)
		if tt.key != "" {
			r.Header.Set("Authorization", "Bearer "+tt.key)
		}
		w := serve(t, k, r, func(w http.ResponseWriter, r *http.Request) error { return status.ServeHTTP(w, r, nil) })
		if w.Code != tt.want {
			t.Errorf("%s with %q: status %d, want %d", tt.client, tt.key, w.Code, tt.want)
		}
	}
	r := knocking(http.MethodPost, chatPath)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, "127.0.0.1")
	if w, _, in := knock(t, k, r); in {
		t.Errorf("a local client may do more than read the status: %d", w.Code)
	}
}

// TestModelsOfKeys shows that for a key there are no models but its own, and that
// those it may not use look like those that do not exist.
func TestModelsOfKeys(t *testing.T) {
	catalog := &Catalog{models: catalogOf([]vramman.ModelSpec{{Name: "tiny", Aliases: []string{"tiny-alias"}}, {Name: "other"}}, time.Time{})}
	admission := admissionTo(appWith(t, new(fakeEngine), nil), zap.NewNop().Core())
	for _, tt := range []struct {
		caller *Caller
		list   string
		status int // of requests for tiny
	}{
		{nil, "tiny tiny-alias other", 200},
		{&Caller{Name: "all"}, "tiny tiny-alias other", 200},
		{&Caller{Name: "some", Models: []string{"tiny"}}, "tiny tiny-alias", 200},
		{&Caller{Name: "alias", Models: []string{"tiny-alias"}}, "", 404},
		{&Caller{Name: "others", Models: []string{"other"}}, "other", 404},
	} {
		as := func(r *http.Request) *http.Request {
			if tt.caller == nil {
				return r
			}
			return withCaller(r, tt.caller)
		}
		w := serve(t, catalog, as(knocking(http.MethodGet, "/v1/models")), nil)
		var list struct{ Data []struct{ ID string } }
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range list.Data {
			names = append(names, m.ID)
		}
		if got := strings.Join(names, " "); got != tt.list {
			t.Errorf("%+v sees %q, want %q", tt.caller, got, tt.list)
		}
		for _, name := range []string{"tiny", "tiny-alias"} {
			one := serve(t, catalog, as(knocking(http.MethodGet, "/v1/models/"+name)), nil)
			chatted := serve(t, admission, as(chat(`{"model":"`+name+`"}`)), func(http.ResponseWriter, *http.Request) error { return nil })
			if one.Code != tt.status || chatted.Code != tt.status {
				t.Errorf("%+v gets status %d and %d for %s, want %d", tt.caller, one.Code, chatted.Code, name, tt.status)
			}
			if tt.status == 404 {
				none := serve(t, admission, as(chat(`{"model":"none"}`)), nil)
				want := strings.ReplaceAll(none.Body.String(), "none", name)
				if one.Body.String() != want || chatted.Body.String() != want {
					t.Errorf("%s is told as %s and %s, one that does not exist as %s", name, one.Body, chatted.Body, want)
				}
			}
		}
	}
}

// TestKeysOfAConfiguration shows what is found out only when a configuration is
// loaded, and how.
func TestKeysOfAConfiguration(t *testing.T) {
	t.Setenv("VLLM_GATEWAY_TEST_KEY", aliceKey)
	dir := t.TempDir()
	write(t, dir+"/good.json", `{"keys": [{"name": "bob", "key": "`+hashed(bobKey)+`", "models": ["gone"]}]}`)
	write(t, dir+"/bad.json", `{"keys": [{"name": "bob", "key": 1}]}`)
	write(t, dir+"/alice.json", `{"keys": [{"name": "alice", "key": "`+hashed(bobKey)+`"}]}`)
	for options, want := range map[string]string{
		`"keys": [{"name": "alice", "key": "{env.VLLM_GATEWAY_TEST_KEY}", "models": ["a"]}]`:                 "",
		`"keys": [{"name": "alice", "key": "{env.VLLM_GATEWAY_TEST_KEY}"}], "file": "` + dir + `/good.json"`: "",
		`"trust_auth": {}`: "",
		``:                 "there is no API key",
		`"keys": [{"name": "alice", "key": "{env.VLLM_GATEWAY_TEST_KEY}", "models": ["b"]}]`:       "key alice: there is no model b",
		`"keys": [{"name": "alice", "key": "{env.VLLM_GATEWAY_TEST_KEY}", "models": ["a-alias"]}]`: "key alice: a-alias is an alias: write a",
		`"trust_auth": {"models": ["b"]}`: "trust_auth: there is no model b",
		`"file": "` + dir + `/none.json"`: "the file of API keys " + dir + "/none.json: ",
		`"file": "` + dir + `/bad.json"`:  "bad.json: key 1: key must be a text",
		`"keys": [{"name": "alice", "key": "{env.VLLM_GATEWAY_TEST_KEY}"}], "file": "` + dir + `/alice.json"`:             "alice.json: key alice is already defined",
		`"keys": [{"name": "a", "key": "{env.VLLM_GATEWAY_TEST_KEY}"}, {"name": "b", "key": "` + hashed(aliceKey) + `"}]`: "key a and key b are one and the same key",
		`"file": "{env.VLLM_GATEWAY_TEST_NONE}/keys.json"`:                                                                "file: ",
	} {
		if options != "" {
			options = ", " + options
		}
		config := fmt.Appendf(nil, `{
			"admin": {"disabled": true, "config": {"persist": false}},
			"logging": {"logs": {"default": {"level": "FATAL"}}},
			"apps": {
				"vramman": {%s, "models": [{"name": "a", "repo": "r", "aliases": ["a-alias"]}]},
				"http": {"servers": {"s": {"routes": [{"handle": [{"handler": "vllm_keys"%s}]}]}}}
			}
		}`, guests, options)
		err := validate(t, config)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", options, err, want)
		}
	}
}

// newKeyByCommand runs 'caddy vllm key'.
func newKeyByCommand(t *testing.T, name string) (key, line string) {
	t.Helper()
	var out strings.Builder
	cmd := new(cobra.Command)
	caddycmd.Commands()["vllm"].CobraFunc(cmd)
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"key", name})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	key, line, _ = strings.Cut(out.String(), "\n")
	return key, line
}

// TestCommandMakesKeys shows that what 'caddy vllm key' prints is a key, and the line
// of a Caddyfile for it.
func TestCommandMakesKeys(t *testing.T) {
	key, line := newKeyByCommand(t, "alice")
	got, err := handlersOf(t, "vllm_keys {\n"+line+"\n}")
	if err != nil {
		t.Fatal(err)
	}
	k := new(Keys)
	if err := json.Unmarshal([]byte(got[0]), k); err != nil || len(k.Keys) != 1 {
		t.Fatal(err, got)
	}
	if s := ringOf(t, k.Keys...).find(key); s == nil || s.caller.Name != "alice" {
		t.Errorf("%s is not let in by %s", key, line)
	}
	if again, _ := newKeyByCommand(t, "alice"); again == key || len(key) < 40 || !strings.HasPrefix(key, "sk-") {
		t.Errorf("got keys %s and %s", key, again)
	}
}
