package openai

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		path                       string
		dialect                    Dialect
		generates, streams, stores bool
	}{
		{"/v1/chat/completions", DialectOpenAI, true, true, false},
		{"/v1/chat/completions/batch", DialectOpenAI, true, false, false},
		{"/v1/chat/completions/derender", DialectOpenAI, false, false, false},
		{"/v1/completions", DialectOpenAI, true, true, false},
		{"/v1/responses", DialectOpenAI, true, true, true},
		{"/v1/messages", DialectAnthropic, true, true, false},
		{"/v1/messages/count_tokens", DialectAnthropic, false, false, false},
		{"/v1/embeddings", DialectOpenAI, false, false, false},
		{"/v2/rerank", DialectOpenAI, false, false, false},
		{"/tokenize", DialectOpenAI, false, false, false},
	} {
		r, ok := Find(tt.path)
		want := Route{tt.path, http.MethodPost, ModelInJSON, tt.dialect, tt.generates, tt.streams, tt.stores}
		if !ok || r != want {
			t.Errorf("Find(%q) = %+v, %v; want %+v", tt.path, r, ok, want)
		}
	}
}

// TestFindNothingElse asks for what must never pass, and for other spellings of
// what may.
func TestFindNothingElse(t *testing.T) {
	paths := []string{
		"", "/", "*", "/v1", "/v1/", "/health", "/metrics", "/version", "/load", "/ping", "/docs", "/openapi.json", "/redoc",
		"/tokenizer_info", "/server_info", "/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/pause", "/resume",
		"/is_paused", "/abort_requests", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache",
		"/scale_elastic_ep", "/is_scaling_elastic_ep", "/fault_tolerance/apply", "/fault_tolerance/status",
		"/start_profile", "/stop_profile", "/init_weight_transfer_engine", "/update_weights", "/get_world_size",
		"/v1/load_lora_adapter", "/v1/unload_lora_adapter",
		"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel",
	}
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
