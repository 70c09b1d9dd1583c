package caddymodule

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func TestComments(t *testing.T) {
	for want, p := range map[string]vramman.Progress{
		": queued, position 3\n\n":                     {Position: 3},
		": queued, position 3; loading, compiling\n\n": {Position: 3, Stage: "compiling"},
		": loading, compiling\n\n":                     {Stage: "compiling"},
		": loading\n\n":                                {},
	} {
		if got := string(comment(p)); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// answered is what a client reads of an answer that comes after n comments.
func answered(d openai.Dialect, comments int, answer func(http.ResponseWriter)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	k := newKeepalive(w, d, new(vramman.Ticket))
	for n := range comments {
		k.tell(vramman.Progress{Position: n + 1})
	}
	answer(k)
	k.tell(vramman.Progress{Position: 9}) // never into an answer
	k.finish()
	return w
}

func TestAnswersAfterComments(t *testing.T) {
	const comments = ": queued, position 1\n\n: queued, position 2\n\n"
	stream := func(w http.ResponseWriter) {
		w.Header().Add("Content-Type", "text/event-stream")
		w.Header().Add("Server-Timing", "x")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "data: 1\n\n")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
	refuse := func(w http.ResponseWriter) {
		openai.WriteError(w, openai.DialectOpenAI, openai.Error{Status: 503, Code: "start_failed", Message: "m", RetryAfter: time.Second})
	}
	tests := []struct {
		name    string
		dialect openai.Dialect
		answer  func(http.ResponseWriter)
		want    string
	}{
		{"a stream", openai.DialectOpenAI, stream, "data: 1\n\ndata: [DONE]\n\n"},
		{"a refusal", openai.DialectOpenAI, refuse, `data: {"error":{"message":"m","type":"server_error","param":null,"code":"start_failed"}}` + "\n\n"},
		{"a refusal, Anthropic", openai.DialectAnthropic, func(w http.ResponseWriter) {
			openai.WriteError(w, openai.DialectAnthropic, openai.Error{Status: 503, Message: "m"})
		}, "event: error\ndata: " + `{"type":"error","error":{"type":"overloaded_error","message":"m"}}` + "\n\n"},
		{"a server's error on several lines", openai.DialectOpenAI, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "{\n \"error\": {\"code\": 400}\n}\n")
		}, `data: {"error":{"code":400}}` + "\n\n"},
		{"no JSON", openai.DialectOpenAI, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>10.0.0.1</html>")
		}, `data: {"error":{"message":"the model's server gave an answer that is no stream","type":"server_error","param":null,"code":"upstream_failed"}}` + "\n\n"},
		{"too much", openai.DialectOpenAI, func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"x":"`+strings.Repeat("x", 2*mostHeld)+`"}`)
		}, `data: {"error":{"message":"the model's server gave an answer that is no stream","type":"server_error","param":null,"code":"upstream_failed"}}` + "\n\n"},
		{"the client left", openai.DialectOpenAI, func(w http.ResponseWriter) { w.WriteHeader(statusClientGone) }, ""},
		{"informational, then a stream", openai.DialectOpenAI, func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			stream(w)
		}, "data: 1\n\ndata: [DONE]\n\n"},
		{"nothing", openai.DialectOpenAI, func(http.ResponseWriter) {}, ""},
	}
	for _, tt := range tests {
		w := answered(tt.dialect, 2, tt.answer)
		want := comments + tt.want
		if tt.name == "nothing" {
			want += ": queued, position 9\n\n"
		}
		if w.Body.String() != want || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" || !w.Flushed {
			t.Errorf("%s: status %d, %v\n%s", tt.name, w.Code, w.Header(), w.Body)
		}
	}
	if w := answered(openai.DialectOpenAI, 0, refuse); w.Code != 503 || w.Header().Get("Retry-After") != "1" || !strings.HasPrefix(w.Body.String(), "{") {
		t.Errorf("without comments: status %d, %v\n%s", w.Code, w.Header(), w.Body)
	}
	if w := answered(openai.DialectOpenAI, 0, stream); w.Body.String() != "data: 1\n\ndata: [DONE]\n\n" || w.Header().Get("Server-Timing") == "" {
		t.Errorf("without comments: %v\n%s", w.Header(), w.Body)
	}
}

// site is a site of a gateway whose streaming clients get comments.
func site(t *testing.T, app *App, every time.Duration) *httptest.Server {
	t.Helper()
	a := admissionTo(app, zapcore.NewNopCore())
	a.Keepalive = caddy.Duration(every)
	u := new(Upstream)
	u.open(zap.NewNop())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, nil)
		if err := a.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return u.ServeHTTP(w, r, nil)
		})); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// While the model does not become ready, comments come; then the stream does, in
// the same answer.
func TestStreamAfterComments(t *testing.T) {
	ready := make(chan struct{})
	app := appWith(t, &fakeEngine{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			select {
			case <-ready:
			default:
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		fmt.Fprint(w, "data: [DONE]\n\n")
	})}, nil)
	srv := site(t, app, time.Millisecond)
	res, err := srv.Client().Post(srv.URL+chatPath, "application/json", strings.NewReader(`{"model":"tiny","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("X-Queue-Position") != "0" {
		t.Errorf("status %d, %v", res.StatusCode, res.Header)
	}
	lines := bufio.NewReader(res.Body)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, ": loading") {
		t.Fatalf("the first line is %q, %v", line, err)
	}
	close(ready)
	rest, err := io.ReadAll(lines)
	var events []string
	for line := range strings.Lines(string(rest)) {
		if line != "\n" && !strings.HasPrefix(line, ": loading") {
			events = append(events, strings.TrimSpace(line))
		}
	}
	if err != nil || strings.Join(events, " ") != "data: 1 data: [DONE]" {
		t.Errorf("the client reads %q, %v", rest, err)
	}
}

// On every route that streams, a client that asks for a stream may be sent comments,
// and no other may.
func TestEveryStreamingRouteMayHaveComments(t *testing.T) {
	a := admissionTo(appWith(t, new(fakeEngine), nil), zapcore.NewNopCore())
	a.Keepalive = caddy.Duration(time.Minute)
	told := func(r *http.Request) (yes bool) {
		w := serve(t, a, r, func(w http.ResponseWriter, _ *http.Request) error {
			_, yes = w.(*keepalive)
			return nil
		})
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d, %s", r.URL.Path, w.Code, w.Body)
		}
		return yes
	}
	at := func(path, body string) *http.Request {
		r := chat(body)
		r.URL.Path = path
		return r
	}
	for path, streams := range map[string]bool{
		chatPath: true, "/v1/completions": true, "/v1/responses": true, "/v1/messages": true, "/cohere/v2/chat": true,
		"/inference/v1/generate": true, "/invocations": true, "/v1/embeddings": false, "/tokenize": false, "/v1/messages/count_tokens": false,
	} {
		if got := told(at(path, `{"model":"tiny","stream":true}`)); got != streams {
			t.Errorf("%s: comments %t, want %t", path, got, streams)
		}
		if told(at(path, `{"model":"tiny","stream":false}`)) {
			t.Errorf("%s: comments for a client that asked for no stream", path)
		}
	}
	if r := audio(t, "tiny", 100, true); !told(r) {
		t.Errorf("%s: no comments", r.URL.Path)
	}
}

func TestFailureAfterComments(t *testing.T) {
	app := appWith(t, &fakeEngine{handler: healthy(nil), refuse: errors.New("no")}, nil)
	a := admissionTo(app, zapcore.NewNopCore())
	a.Keepalive = caddy.Duration(time.Minute)
	u := new(Upstream)
	u.open(zap.NewNop())
	for path, want := range map[string]string{
		chatPath:       `data: {"error":{"message":`,
		"/v1/messages": "event: error\ndata: {\"type\":\"error\"",
	} {
		r := chat(`{"model":"tiny","stream":true}`)
		r.URL.Path = path
		w := serve(t, a, r, func(w http.ResponseWriter, r *http.Request) error {
			w.(*keepalive).tell(vramman.Progress{}) // as if it had waited so long
			return u.ServeHTTP(w, r, nil)
		})
		body := w.Body.String()
		if w.Code != 200 || !strings.HasPrefix(body, ": loading\n\n"+want) || strings.Contains(body, "[DONE]") || strings.Count(body, "data:") != 1 {
			t.Errorf("%s: status %d, %s", path, w.Code, body)
		}
	}
	w := serve(t, a, chat(`{"model":"tiny"}`), func(w http.ResponseWriter, _ *http.Request) error {
		if _, ok := w.(*keepalive); ok {
			t.Error("a client that asked for no stream may be sent comments")
		}
		return nil
	})
	if w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
}
