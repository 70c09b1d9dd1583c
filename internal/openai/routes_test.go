package openai

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	const post, get = http.MethodPost, http.MethodGet
	for _, want := range []Route{
		{Path: "/v1/chat/completions", Method: post, Generates: true, Streams: true},
		{Path: "/v1/chat/completions/batch", Method: post, Generates: true},
		{Path: "/v1/chat/completions/derender", Method: post},
		{Path: "/v1/completions", Method: post, Generates: true, Streams: true},
		{Path: "/v1/responses", Method: post, Generates: true, Streams: true, Stores: true},
		{Path: "/v1/responses/resp_0a-Z_9", Method: get, ModelIn: ModelInStore, Streams: true},
		{Path: "/v1/responses/resp_0a-Z_9/cancel", Method: post, ModelIn: ModelInStore},
		{Path: "/v1/messages", Method: post, Dialect: DialectAnthropic, Generates: true, Streams: true},
		{Path: "/v1/messages/count_tokens", Method: post, Dialect: DialectAnthropic},
		{Path: "/v1/audio/transcriptions", Method: post, ModelIn: ModelInForm, Generates: true, Streams: true},
		{Path: "/v1/audio/translations", Method: post, ModelIn: ModelInForm, Generates: true, Streams: true},
		{Path: "/v1/realtime", Method: get, ModelIn: ModelInQuery, Generates: true, Socket: true},
		{Path: "/v1/embeddings", Method: post},
		{Path: "/v2/rerank", Method: post},
		{Path: "/tokenize", Method: post},
	} {
		if r, ok := Find(want.Path); !ok || r != want {
			t.Errorf("Find(%q) = %+v, %v; want %+v", want.Path, r, ok, want)
		}
	}
}

// control are the routes of vLLM that a client must never reach: those for
// development and control, and those that tell of the server.
var control = []string{
	"/health", "/metrics", "/version", "/load", "/ping", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc",
	"/tokenizer_info", "/server_info", "/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/pause", "/resume",
	"/is_paused", "/abort_requests", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache",
	"/scale_elastic_ep", "/is_scaling_elastic_ep", "/fault_tolerance/apply", "/fault_tolerance/status",
	"/start_profile", "/stop_profile", "/init_weight_transfer_engine", "/update_weights", "/get_world_size",
	"/start_weight_update", "/finish_weight_update", "/start_draft_weight_update", "/update_weight_version", "/weight_info", "/load_lora_adapter", "/unload_lora_adapter",
	"/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters", "/adapters/a", "/v1/models",
}

// spellings are ways to write a path that some reader takes for the same.
var spellings = []func(path string, r *rand.Rand) string{
	func(p string, _ *rand.Rand) string { return strings.ToUpper(p) },
	func(p string, _ *rand.Rand) string { return p + "/" },
	func(p string, _ *rand.Rand) string { return "/" + p },
	func(p string, _ *rand.Rand) string { return p + "/." },
	func(p string, _ *rand.Rand) string { return "/." + p },
	func(p string, _ *rand.Rand) string { return "/v1/.." + p },
	func(p string, _ *rand.Rand) string { return "/v1/chat/completions/../../.." + p },
	func(p string, _ *rand.Rand) string { return "/v1/responses/resp_1/../../.." + p },
	func(p string, _ *rand.Rand) string { return "/v1/responses/resp_1" + p },
	func(p string, _ *rand.Rand) string { return "/v1/chat/completions" + p },
	func(p string, _ *rand.Rand) string { return p + "/../v1/chat/completions" },
	func(p string, _ *rand.Rand) string { return p + "?x=/v1/chat/completions" },
	func(p string, _ *rand.Rand) string { return p + "#/v1/chat/completions" },
	func(p string, _ *rand.Rand) string { return p + ";a=b" },
	func(p string, _ *rand.Rand) string { return p + "%00" },
	func(p string, _ *rand.Rand) string { return p + "\x00" },
	func(p string, _ *rand.Rand) string { return p + " " },
	func(p string, _ *rand.Rand) string { return " " + p },
	func(p string, _ *rand.Rand) string { return p + "\n" },
	func(p string, _ *rand.Rand) string { return strings.ReplaceAll(p, "/", "\\") },
	func(p string, _ *rand.Rand) string { return strings.ReplaceAll(p, "/", "%2f") },
	func(p string, _ *rand.Rand) string { return strings.ReplaceAll(p, "/", "/;a/") },
	func(p string, _ *rand.Rand) string { return strings.ReplaceAll(p, "%", "%25") },
	func(p string, _ *rand.Rand) string { return strings.ReplaceAll(p, "e", "\u0435") },
	func(p string, _ *rand.Rand) string { return strings.TrimPrefix(p, "/") },
	func(p string, _ *rand.Rand) string { return "http://h.example" + p },
	func(p string, r *rand.Rand) string { // one character by its number
		if p == "" {
			return p
		}
		i := r.IntN(len(p))
		return fmt.Sprintf("%s%%%02x%s", p[:i], p[i], p[i+1:])
	},
	func(p string, r *rand.Rand) string { // one slash more
		i := r.IntN(len(p) + 1)
		return p[:i] + "/" + p[i:]
	},
	func(p string, r *rand.Rand) string { // one letter in the other case
		if p == "" {
			return p
		}
		i := r.IntN(len(p))
		return p[:i] + strings.ToUpper(p[i:i+1]) + p[i+1:]
	},
}

// TestFindNoSpellingOfControl writes the control routes in every way, and in ways
// of ways: what is found is never one of them.
func TestFindNoSpellingOfControl(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range control {
		checkFind(t, path)
		for _, first := range spellings {
			for _, second := range spellings {
				checkFind(t, second(first(path, r), r))
			}
			checkFind(t, first(path, r))
		}
	}
}

// FuzzFind looks for a target that is found though a server could read it in
// another way.
func FuzzFind(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, path := range control {
		f.Add(path)
		f.Add(spellings[r.IntN(len(spellings))](path, r))
	}
	for path := range routes {
		f.Add(path)
		f.Add(spellings[r.IntN(len(spellings))](path, r))
	}
	f.Add("/v1/responses/resp_1")
	f.Add("/v1/responses/resp_1/cancel")
	f.Add("/v1/responses/resp_../cancel")
	f.Fuzz(func(t *testing.T, target string) { checkFind(t, target) })
}

// plainPath has one reading only: nothing to decode, to clean or to cut off.
var plainPath = regexp.MustCompile(`^(/[a-zA-Z0-9_-]+)+$`)

// checkFind asks for a target as it is, and as an HTTP server reads it from the
// wire. What is found must be the path that is sent on, plain, and no control
// route in whatever case.
func checkFind(t *testing.T, target string) {
	t.Helper()
	paths := []string{target}
	if u, err := url.ParseRequestURI(target); err == nil {
		paths = append(paths, u.EscapedPath())
	}
	for _, path := range paths {
		r, ok := Find(path)
		if !ok {
			continue
		}
		if r.Path != path || !plainPath.MatchString(path) {
			t.Errorf("Find(%q), from %q, gives the path %q", path, target, r.Path)
		}
		for _, c := range control {
			if strings.EqualFold(r.Path, c) || strings.EqualFold(r.Path, "/v1"+c) {
				t.Errorf("Find(%q), from %q, gives the control route %s", path, target, r.Path)
			}
		}
	}
}

func TestQueryModel(t *testing.T) {
	for _, tt := range []struct{ query, model, code string }{
		{"", "", ""},
		{"model=a", "a", ""},
		{"intent=transcription&model=org%2Fa+b", "org/a b", ""},
		{"Model=a", "", ""},
		{"model=", "", ""},
		{"model=a&model=a", "", CodeInvalidQuery},
		{"model=a;model=b", "", CodeInvalidQuery},
		{"model=%zz", "", CodeInvalidQuery},
	} {
		model, err := QueryModel(tt.query)
		e, _ := errors.AsType[Error](err)
		if model != tt.model || e.Code != tt.code || err != nil && e.Status != http.StatusBadRequest {
			t.Errorf("QueryModel(%q) = %q, %v; want %q and %q", tt.query, model, err, tt.model, tt.code)
		}
	}
}

// TestFindNothingElse asks for what must never pass, and for other spellings of
// what may.
func TestFindNothingElse(t *testing.T) {
	paths := []string{
		"", "/", "*", "/v1", "/v1/", "/v1/audio", "/v1/audio/speech", "/v1/files", "/v1/responses/", "/v1/responses/1",
		"/v1/responses/resp_", "/v1/responses/resp_/cancel", "/v1/responses/resp_1/", "/v1/responses/resp_1/cancel/",
		"/v1/responses/resp_1/Cancel", "/v1/responses/resp_1/input_items", "/v1/responses/resp_a.b", "/v1/responses/resp_..",
		"/v1/responses/resp_%61", "/v1/responses/resp_1;a=b", "/v1/responses/resp_\u00e9", "/v1/responses/Resp_1",
		"/v1/responses/resp_" + strings.Repeat("a", maxStoredID+1),
	}
	paths = append(paths, control...)
	for path := range routes {
		i := strings.LastIndexByte(path, '/') + 1
		paths = append(paths,
			strings.ToUpper(path), path+"/", "/"+path, path+"/.", "/."+path, "/v1/.."+path, path+"/../sleep",
			path[:i]+"/"+path[i:], path[:i]+"%"+"2F"+path[i:], path[:1]+"%76"+path[2:], path+"?x", path+"%00", path+";a=b", path[1:], "/sleep/.."+path, path+" ", " "+path)
	}
	for _, path := range paths {
		if r, ok := Find(path); ok {
			t.Errorf("Find(%q) = %v", path, r)
		}
	}
}

// TestFindOnTheWire reads paths as an HTTP server does: the spelling that counts
// is the one that arrived.
func TestFindOnTheWire(t *testing.T) {
	for uri, want := range map[string]bool{
		"/v1/chat/completions":                       true,
		"/v1/chat/completions?x=%2F":                 true,
		"http://h.example/v1/chat/completions":       true,
		"/v1/chat%2Fcompletions":                     false,
		"/v1/%63hat/completions":                     false,
		"/v1/chat/completions%3Fx":                   false,
		"/v1/chat/completions/../../../collective":   false,
		"/%2e%2e/v1/chat/completions":                false,
		"//v1/chat/completions":                      false,
		"/v1/chat/completions%2f..%2f..%2f..%2fslee": false,
	} {
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := Find(u.EscapedPath()); ok != want {
			t.Errorf("%s is found: %v", uri, ok)
		}
	}
}
