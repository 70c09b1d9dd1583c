package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const (
	aliceKey = "sk-AliceM4NV7Q2XKTZ5D3HWB6R"
	bobKey   = "sk-BobY2LJ6G5TSWXQ7K4ZR3NDP"
	staleKey = "sk-StaleH3XW7BQ5MZK2N6VTR4C"
	wrongKey = "sk-WrongP9CJ4RY6TXD2LQ8KVNS"
)

// keyLine is the line of a Caddyfile for a key.
func keyLine(name, key string) string {
	return fmt.Sprintf("key %s sha256:%x", name, sha256.Sum256([]byte(key)))
}

// bearer sends a key with each request.
type bearer struct {
	header, value string
	http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(b.header, b.value)
	return b.RoundTripper.RoundTrip(r)
}

// as is the gateway at another site, as who sends a header sees it.
func (g *gateway) as(site, header, value string) *gateway {
	return &gateway{plain: site, client: &http.Client{Transport: bearer{header, value, g.client.Transport}}}
}

// The official OpenAI SDK with keys that are good and wrong, and a reload that
// withdraws a key whose request is under way.
func TestKeys(t *testing.T) {
	const models = "model keyed {\n repo org/keyed\n env VLLM_SIM_REPLY_TOKENS 40\n env VLLM_SIM_TOKENS_PER_SECOND 40\n}\nmodel hidden {\n repo org/hidden\n}\n"
	g := start(t, models)
	site := "http://" + address(t)
	with := func(keys ...string) {
		t.Helper()
		g.extra = site + " {\n vllm_gateway {\n keys {\n" + strings.Join(keys, "\n") + "\n}\n}\n}\n"
		if err := g.load(models); err != nil {
			t.Fatal(err)
		}
	}
	alice, bob := keyLine("alice", aliceKey)+" {\n models keyed\n}", keyLine("bob", bobKey)
	with(alice, bob)

	// A connection that is made while Caddy closes the old configuration's sockets
	// may be reset; the SDK tries such again, and no refusal that is expected here.
	sdk := func(key string) *openai.Client {
		client := openai.NewClient(option.WithBaseURL(site+"/v1/"), option.WithAPIKey(key), option.WithHTTPClient(g.client), option.WithMaxRetries(3))
		return &client
	}
	fails := func(err error, status int, code string) {
		t.Helper()
		e, ok := errors.AsType[*openai.Error](err)
		if !ok || e.StatusCode != status || e.Code != code || e.Type != "invalid_request_error" || strings.Contains(e.Message, "sk-") {
			t.Errorf("the error is %v, want %d %s", err, status, code)
		}
	}
	if _, err := sdk(aliceKey).Chat.Completions.New(t.Context(), ask("keyed")); err != nil {
		t.Error(err)
	}
	list, err := sdk(aliceKey).Models.List(t.Context())
	if err != nil || len(list.Data) != 1 || list.Data[0].ID != "keyed" {
		t.Errorf("alice sees %+v, %v", list, err)
	}
	_, err = sdk(aliceKey).Chat.Completions.New(t.Context(), ask("hidden"))
	fails(err, 404, "model_not_found")
	_, err = sdk(aliceKey).Models.Get(t.Context(), "hidden")
	fails(err, 404, "model_not_found")
	_, err = sdk(wrongKey).Chat.Completions.New(t.Context(), ask("keyed"))
	fails(err, 401, "invalid_api_key")
	_, err = sdk("").Models.List(t.Context())
	fails(err, 401, "invalid_api_key")

	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- g.as(site, "Authorization", "Bearer "+aliceKey).stream(t.Context(), "keyed", func() { close(began) })
	}()
	<-began
	with(bob)
	select {
	case err := <-ended:
		t.Errorf("the stream ended before the reload did: %v", err)
	default:
	}
	_, err = sdk(aliceKey).Models.List(t.Context())
	fails(err, 401, "invalid_api_key")
	if _, err := sdk(bobKey).Models.List(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("a request whose key was withdrawn meanwhile: %v", err)
	}
}

// What Caddy logs at its most talkative, and what it answers, shows no part of a key:
// of none that is good, and of none that is presented.
func TestNoKeyIsShown(t *testing.T) {
	g := start(t, "model quiet {\n repo org/quiet\n}\n")
	dir := t.TempDir()
	logged, file := filepath.Join(dir, "log"), filepath.Join(dir, "keys.json")
	write := func(content string) {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf(`{"keys": [{"name": "stale", "key": %q, "expires": "2020-01-01T00:00:00Z"}]}`, staleKey))
	t.Setenv("VLLM_GATEWAY_TEST_KEY", bobKey)
	site, shown := "http://"+address(t), "http://"+address(t)
	access := fmt.Sprintf(`
	log {
		output file %q
		format filter {
			request>headers>X-Api-Key delete
			request>headers>Api-Key delete
		}
	}`, logged)
	keys := fmt.Sprintf("key alice %s\n key bob {env.VLLM_GATEWAY_TEST_KEY}\n file %s", aliceKey, file)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
	admin off
	persist_config off
	auto_https off
	default_bind 127.0.0.1
	storage file_system %q
	log {
		output file %q
		level DEBUG
	}
	servers {
		trace
	}
	vramman {
		%s
		model quiet {
			repo org/quiet
		}
	}
}
%s {
	%s
	vllm_gateway {
		keys {
			%s
		}
	}
}
%s {
	%s
	route {
		vllm_keys {
			%s
		}
		respond "{http.auth.user.id} {http.vllm.api_key_name} {http.request.header.Authorization} {http.request.header.X-Api-Key} {http.request.header.Api-Key}"
	}
}`, filepath.Join(home, "storage"), logged, g.house, site, access, keys, shown, access, keys), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}

	var seen strings.Builder
	for _, key := range []string{aliceKey, bobKey, staleKey, wrongKey} {
		for _, header := range []string{"Authorization", "X-Api-Key", "Api-Key"} {
			value := key
			if header == "Authorization" {
				value = "Bearer " + key
			}
			code, headers, body := g.as(site, header, value).chat(t, "quiet")
			if want := key == aliceKey || key == bobKey; want != (code == 200) || !want && code != 401 {
				t.Errorf("%s %s: status %d", header, key, code)
			}
			fmt.Fprint(&seen, headers, body)
			res, err := g.as(shown, header, value).client.Get(shown)
			if err != nil {
				t.Fatal(err)
			}
			placeholders, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode == 200 && !strings.HasPrefix(string(placeholders), "alice alice ") && !strings.HasPrefix(string(placeholders), "bob bob ") {
				t.Errorf("%s %s: %s, %v", header, key, placeholders, err)
			}
			fmt.Fprint(&seen, res.Header, string(placeholders))
		}
	}
	text := func() string {
		b, err := os.ReadFile(logged)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write(fmt.Sprintf(`{"keys": [{%q: 1, "expires": %q}]}`, wrongKey, staleKey))
	eventually(t, "the log tells of the mistake in the file", func() bool { return strings.Contains(text(), "cannot be used") })

	all := text() + seen.String()
	for _, want := range []string{`"api_key_name":"alice"`, `"user_id":"bob"`, `"api_key_refused":"expired"`, `"api_key_refused":"unknown"`, "an API key stands in the configuration", "a client sends its key as X-Api-Key"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not in the log", want)
		}
	}
	const part = 6
	for _, key := range []string{aliceKey, bobKey, staleKey, wrongKey} {
		secret := strings.TrimLeft(strings.TrimPrefix(key, "sk-"), "abcdefghijklmnopqrstuvwxyz")
		for i := range len(secret) - part + 1 {
			if at := strings.Index(all, secret[i:i+part]); at >= 0 {
				t.Errorf("a part of %s is shown: %s", key, all[max(0, at-300):min(len(all), at+100)])
				break
			}
		}
	}
}
