package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestWriteError(t *testing.T) {
	tests := []struct {
		name    string
		dialect Dialect
		err     Error
		status  int
		body    string
		headers map[string]string
	}{
		{
			"queue full", DialectOpenAI,
			Error{Status: 429, Code: CodeQueueFull, Message: "the queue is full", RetryAfter: 2100 * time.Millisecond},
			429, `{"error":{"message":"the queue is full","type":"rate_limit_error","param":null,"code":"queue_full"}}`,
			map[string]string{"Retry-After": "3", "Retry-After-Ms": "2100"},
		},
		{
			"too long a wait", DialectOpenAI,
			Error{Status: 503, Code: CodeModelLoading, Message: "m", RetryAfter: time.Hour},
			503, `{"error":{"message":"m","type":"server_error","param":null,"code":"model_loading"}}`,
			map[string]string{"Retry-After": "60", "Retry-After-Ms": "60000"},
		},
		{
			"too short a wait", DialectAnthropic,
			Error{Status: 429, Code: CodeQueueFull, Message: "m", RetryAfter: time.Nanosecond},
			429, `{"type":"error","error":{"type":"rate_limit_error","message":"m"}}`,
			map[string]string{"Retry-After": "1", "Retry-After-Ms": "1000"},
		},
		{
			"pointless to retry", DialectAnthropic,
			Error{Status: 503, Code: CodeVRAMUnavailable, Message: "m", NoRetry: true},
			503, `{"type":"error","error":{"type":"overloaded_error","message":"m"}}`,
			map[string]string{"X-Should-Retry": "false"},
		},
		{
			"method", DialectOpenAI, MethodNotAllowed("POST"),
			405, `{"error":{"message":"this route takes POST requests only","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}`,
			map[string]string{"Allow": "POST"},
		},
		{
			"model not found", DialectOpenAI, ModelNotFound([]byte("a\"\n<b>")),
			404, "{\"error\":{\"message\":\"The model `a\\\"\\n<b>` does not exist.\",\"type\":\"invalid_request_error\",\"param\":\"model\",\"code\":\"model_not_found\"}}",
			map[string]string{"X-Should-Retry": "false"},
		},
		{
			"model not found, Anthropic", DialectAnthropic, ModelNotFound([]byte("a")),
			404, "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"The model `a` does not exist.\"}}",
			map[string]string{"X-Should-Retry": "false"},
		},
		{
			"own type", DialectOpenAI,
			Error{Status: 401, Type: "authentication_error", Message: "m"},
			401, `{"error":{"message":"m","type":"authentication_error","param":null,"code":null}}`,
			nil,
		},
		{
			"zero", DialectOpenAI,
			Error{},
			500, `{"error":{"message":"","type":"server_error","param":null,"code":null}}`,
			nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			WriteError(w, tt.dialect, tt.err)
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, tt.status, tt.body)
			}
			for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Should-Retry", "Allow"} {
				if got := w.Header().Get(name); got != tt.headers[name] {
					t.Errorf("%s: %q, want %q", name, got, tt.headers[name])
				}
			}
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Error(got)
			}
			if got := w.Header().Get("Content-Length"); got != fmt.Sprint(len(tt.body)) {
				t.Error(got)
			}
		})
	}
}

func TestAnthropicTypes(t *testing.T) {
	for status, want := range map[int]string{
		400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
		405: "invalid_request_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
		502: "api_error", 503: "overloaded_error", 504: "timeout_error",
	} {
		if got := anthropicType(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestSSEError(t *testing.T) {
	e := Error{Status: 502, Code: CodeUpstreamFailed, Message: "the server\nbroke off"}
	for d, want := range map[Dialect]string{
		DialectOpenAI:    `data: {"error":{"message":"the server\nbroke off","type":"server_error","param":null,"code":"upstream_failed"}}` + "\n\n",
		DialectAnthropic: "event: error\n" + `data: {"type":"error","error":{"type":"api_error","message":"the server\nbroke off"}}` + "\n\n",
	} {
		if got := string(SSEError(d, e)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAsError(t *testing.T) {
	want := Error{Status: 429, Code: CodeQueueFull, Message: "full"}
	if got := AsError(fmt.Errorf("admission: %w", want)); got != want {
		t.Error(got)
	}
	got := AsError(errors.New("dial tcp 10.0.0.7:8000: secret"))
	if got.Status != 500 || got.Code != CodeInternal || strings.Contains(got.Message, "10.0.0.7") {
		t.Error(got)
	}
}

func TestModelNotFoundCutsLongNames(t *testing.T) {
	e := ModelNotFound([]byte(strings.Repeat("模", 1000)))
	if len(e.Message) > 200 || strings.ContainsRune(e.Message, '\uFFFD') || !strings.Contains(e.Message, "模…`") {
		t.Error(e.Message)
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "q\"b\\s/", "\x00\x01\b\f\n\r\t\x1f\x7f", "é模😀\u2028", "bad\xff\xe6\xa8", "\xff"} {
		var got string
		text := appendString(nil, s)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Errorf("%q: %s: %v", s, text, err)
		}
		if want := strings.ToValidUTF8(s, "\uFFFD"); s != "bad\xff\xe6\xa8" && got != want {
			t.Errorf("%q becomes %q", s, got)
		}
		if strings.ContainsAny(string(text), "\n\r") {
			t.Errorf("%q has a line break", text)
		}
	}
}

func TestWriteModels(t *testing.T) {
	at := time.Unix(1700000000, 5)
	models := []Model{
		{ID: "a/b", Created: at, OwnedBy: "vllm", Root: "org/repo", MaxModelLen: 4096},
		{ID: "c", OwnedBy: "x", Parent: "a/b"},
	}
	w := httptest.NewRecorder()
	WriteModels(w, models)
	const first = `{"id":"a/b","object":"model","created":1700000000,"owned_by":"vllm","root":"org/repo","max_model_len":4096}`
	want := `{"object":"list","data":[` + first + `,{"id":"c","object":"model","created":0,"owned_by":"x","parent":"a/b"}]}`
	if w.Code != 200 || w.Body.String() != want || !json.Valid(w.Body.Bytes()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	WriteModel(w, models[0])
	if w.Body.String() != first {
		t.Error(w.Body)
	}
	w = httptest.NewRecorder()
	WriteModels(w, nil)
	if w.Body.String() != `{"object":"list","data":[]}` {
		t.Error(w.Body)
	}
}

func TestModelID(t *testing.T) {
	type answer struct {
		id string
		ok bool
	}
	for path, want := range map[string]answer{
		"/v1/models/gemma":       {"gemma", true},
		"/v1/models/org%2Frepo":  {"org/repo", true},
		"/v1/models/org/repo":    {"org/repo", true},
		"/v1/models/a%20b%C3%A9": {"a bé", true},
		"/v1/models":             {},
		"/v1/models/":            {},
		"/v1/modelsx/a":          {},
	} {
		id, ok := ModelID(path)
		if (answer{id, ok}) != want {
			t.Errorf("%s: %q, %v", path, id, ok)
		}
	}
	if _, ok := ModelID("/v1/models/%zz"); ok {
		t.Error("a broken escape is accepted")
	}
}

func TestCheckContent(t *testing.T) {
	for _, tt := range []struct {
		media, coding string
		ok            bool
	}{
		{"application/json", "", true},
		{"Application/JSON; charset=utf-8", "identity", true},
		{"application/json", "gzip", false},
		{"application/json", "br", false},
		{"", "", false},
		{"text/plain", "", false},
		{"application/jsonl", "", false},
		{"multipart/form-data; boundary=x", "", false},
	} {
		h := http.Header{}
		if tt.media != "" {
			h.Set("Content-Type", tt.media)
		}
		if tt.coding != "" {
			h.Set("Content-Encoding", tt.coding)
		}
		err := CheckContent(h)
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
		if err != nil && !reflect.DeepEqual(AsError(err), err) {
			t.Errorf("not an Error: %v", err)
		}
	}
}
