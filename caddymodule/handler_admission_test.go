package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// chat is a request to the chat route as Caddy hands it to handlers.
func chat(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
}

// healthy answers /health, and everything else with h.
func healthy(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			h(w, r)
		}
	}
}

// serve lets a handler answer a request.
func serve(t *testing.T, h caddyhttp.MiddlewareHandler, r *http.Request, next caddyhttp.HandlerFunc) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, next); err != nil {
		t.Error(err)
	}
	return w
}

func TestAdmissionPreparesTheRequest(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	a := admissionTo(appWith(t, new(fakeEngine), nil), core)
	r := chat(`{"model":"tiny-alias","priority":3,"messages":[]}`)
	var seen string
	serve(t, a, r, func(w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		seen = string(b)
		if err != nil || r.ContentLength != int64(len(b)) {
			t.Errorf("the body has %d bytes, announced %d: %v", len(b), r.ContentLength, err)
		}
		return nil
	})
	if want := `{"model":"tiny","messages":[],"temperature":0.5}`; seen != want {
		t.Errorf("the next handler reads %s, want %s", seen, want)
	}
	if name, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).GetString("http.vllm.model"); name != "tiny" {
		t.Errorf("the placeholder is %q", name)
	}
	if logs.FilterMessage("left the queue").FilterField(zap.String("model", "tiny")).Len() != 1 {
		t.Errorf("the log says %v", logs.All())
	}
	if used := a.limits.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of bodies are counted after the request", used)
	}
}

func TestAdmissionRefusesWhatItCannotRead(t *testing.T) {
	a := admissionTo(appWith(t, new(fakeEngine), nil), zapcore.NewNopCore())
	with := func(r *http.Request, header, value string) *http.Request {
		r.Header.Set(header, value)
		return r
	}
	to := func(method, target string) *http.Request {
		r := chat(`{"model":"tiny"}`)
		r.Method = method
		r.URL.Path, r.URL.RawPath = target, ""
		return r
	}
	tests := []struct {
		name   string
		r      *http.Request
		status int
		code   string
	}{
		{"unknown model", chat(`{"model":"none"}`), 404, "model_not_found"},
		{"no model", chat(`{"messages":[]}`), 400, "model_required"},
		{"no JSON", chat(`{"model":`), 400, "invalid_body"},
		{"model twice", chat(`{"model":"tiny","model":"none"}`), 400, "invalid_body"},
		{"empty", chat(``), 400, "invalid_body"},
		{"too large", chat(`{"model":"` + strings.Repeat("x", 1<<10) + `"}`), 413, "body_too_large"},
		{"compressed", with(chat(`{"model":"tiny"}`), "Content-Encoding", "gzip"), 400, "invalid_body"},
		{"a form", with(chat(`{"model":"tiny"}`), "Content-Type", "text/plain"), 400, "invalid_body"},
		{"model in a header", with(chat(`{"model":"tiny"}`), "X-Amzn-SageMaker-Adapter-Identifier", "none"), 400, "invalid_body"},
		{"unknown route", to(http.MethodPost, "/v1/chat"), 404, "route_not_found"},
		{"control route", to(http.MethodPost, "/sleep"), 404, "route_not_found"},
		{"wrong method", to(http.MethodGet, chatPath), 405, "method_not_allowed"},
		{"stored response", to(http.MethodGet, "/v1/responses/resp_1"), 404, "response_not_found"},
		{"cancel of a stored response", to(http.MethodPost, "/v1/responses/resp_1/cancel"), 404, "response_not_found"},
		{"wrong method for a stored response", to(http.MethodPost, "/v1/responses/resp_1"), 405, "method_not_allowed"},
		{"no WebSocket", httptest.NewRequest(http.MethodGet, "/v1/realtime?model=tiny", nil), 400, "websocket_required"},
		{"WebSocket without a model", socketTo("/v1/realtime"), 400, "model_required"},
		{"WebSocket to an unknown model", socketTo("/v1/realtime?model=none"), 404, "model_not_found"},
		{"WebSocket with two models", socketTo("/v1/realtime?model=tiny&model=none"), 400, "invalid_query"},
		{"JSON to a route of forms", to(http.MethodPost, audioPath), 400, "invalid_body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t, a, tt.r, func(http.ResponseWriter, *http.Request) error {
				t.Error("the request passed")
				return nil
			})
			var e struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != tt.status || e.Error.Code != tt.code {
				t.Errorf("status %d, %s, want %d %s", w.Code, w.Body, tt.status, tt.code)
			}
			if w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type %q", w.Header().Get("Content-Type"))
			}
			allowed := http.MethodPost
			if tt.r.Method == http.MethodPost {
				allowed = http.MethodGet
			}
			if tt.status == 405 && w.Header().Get("Allow") != allowed {
				t.Errorf("Allow %q", w.Header().Get("Allow"))
			}
			if used := a.limits.budget.used.Load(); used != 0 {
				t.Errorf("%d bytes of bodies are counted after the request", used)
			}
		})
	}
}

// One is served and one waits; the next is refused at once. The one that waits is
// let in when the first is done.
func TestAdmissionQueues(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) {
		m.MaxConcurrent, m.MaxQueue = 1, 1
	})
	a := admissionTo(app, core)
	const body = `{"model":"tiny"}`
	entered, leave := make(chan struct{}), make(chan struct{})
	hold := func(http.ResponseWriter, *http.Request) error {
		entered <- struct{}{}
		<-leave
		return nil
	}
	done := make(chan *httptest.ResponseRecorder, 2)
	go func() { done <- serve(t, a, chat(body), hold) }()
	<-entered
	go func() { done <- serve(t, a, chat(body), hold) }()
	waitForDepth(t, app, "tiny", 1)

	w := serve(t, a, chat(body), nil)
	if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), `"code":"queue_full"`) {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
	for name, want := range map[string]string{"X-Queue-Depth": "1", "X-Queue-Max-Size": "1", "X-Queue-Position": "0", "X-Queue-Wait": "0.000"} {
		if got := w.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	checkRetryAfter(t, errors.New("full"), w, 30*time.Second)
	if logs.FilterMessageSnippet("Queue full").Len() != 1 {
		t.Errorf("the log says %v", logs.All())
	}
	leave <- struct{}{}
	<-entered
	leave <- struct{}{}
	for range 2 {
		if w := <-done; w.Code != 200 {
			t.Errorf("status %d, %s", w.Code, w.Body)
		}
	}
}

// waitForDepth waits until so many requests wait for a model.
func waitForDepth(t *testing.T, a *App, model string, depth int) {
	t.Helper()
	m, err := a.generation.Find(t.Context(), model)
	if err != nil {
		t.Error(err)
		return
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for m.Queue().Depth != depth {
		select {
		case <-look.C:
		case <-t.Context().Done():
			t.Error("the test ended before the queue was as expected")
			return
		}
	}
}

func TestAdmissionGivesUp(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) {
		m.MaxConcurrent, m.MaxWait = 1, 50*time.Millisecond
	})
	a := admissionTo(app, zapcore.NewNopCore())
	serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
		w := serve(t, a, chat(`{"model":"tiny"}`), nil)
		if w.Code != http.StatusGatewayTimeout || !strings.Contains(w.Body.String(), `"code":"queue_timeout"`) {
			t.Errorf("status %d, %s", w.Code, w.Body)
		}
		if timing := w.Header().Get("Server-Timing"); timing == "" || strings.HasPrefix(timing, "queue;dur=0,") {
			t.Errorf("Server-Timing %q tells nothing of the queue", timing)
		}
		return nil
	})
}

func TestClientThatLeavesTheQueue(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.MaxConcurrent = 1 })
	a := admissionTo(app, zapcore.NewNopCore())
	serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
		r := chat(`{"model":"tiny"}`)
		ctx, cancel := context.WithCancel(r.Context())
		go func() {
			waitForDepth(t, app, "tiny", 1)
			cancel()
		}()
		if w := serve(t, a, r.WithContext(ctx), nil); w.Code != statusClientGone || w.Body.Len() != 0 {
			t.Errorf("status %d, %s", w.Code, w.Body)
		}
		waitForDepth(t, app, "tiny", 0)
		return nil
	})
}

func TestUpstreamAloneAdmits(t *testing.T) {
	var got bytes.Buffer
	app := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
		_, _ = got.ReadFrom(r.Body)
		_, _ = io.WriteString(w, strconv.FormatBool(strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")))
	})}, nil)
	u := &Upstream{alone: admissionTo(app, zapcore.NewNopCore())}
	u.open(zap.NewNop())
	w := serve(t, u, chat(`{"model":"tiny-alias"}`), nil)
	if w.Code != 200 || w.Body.String() != "true" || got.String() != `{"model":"tiny","temperature":0.5}` {
		t.Errorf("status %d, %s, the server read %s", w.Code, w.Body, &got)
	}
	if timing := w.Header().Get("Server-Timing"); !strings.Contains(timing, "load;dur=") || strings.Contains(timing, "load;dur=0,") {
		t.Errorf("Server-Timing %q tells nothing of the load", timing)
	}
	if used := u.alone.limits.budget.used.Load(); used != 0 {
		t.Errorf("%d bytes of bodies are counted after the request", used)
	}
}

func TestStartFailureIsTold(t *testing.T) {
	app := appWith(t, &fakeEngine{refuse: errors.New("no such file: /secret/path")}, nil)
	u := &Upstream{alone: admissionTo(app, zapcore.NewNopCore())}
	u.open(zap.NewNop())
	w := serve(t, u, chat(`{"model":"tiny"}`), nil)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "/secret/path") {
		t.Errorf("status %d, Retry-After %q, %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// The access log is told what the request was and how it ended, after it ended.
func TestExchangeInTheAccessLog(t *testing.T) {
	app := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "{}")
	})}, nil)
	u := new(Upstream)
	u.open(zap.NewNop())
	var x *exchange
	serve(t, admissionTo(app, zapcore.NewNopCore()), chat(`{"model":"tiny","stream":true}`), func(w http.ResponseWriter, r *http.Request) error {
		x = exchangeOf(r.Context())
		return u.ServeHTTP(w, r, nil)
	})
	enc := zapcore.NewMapObjectEncoder()
	if err := x.MarshalLogObject(enc); err != nil {
		t.Fatal(err)
	}
	f := enc.Fields
	if f["model"] != "tiny" || f["outcome"] != outcomeServed || f["streamed"] != true || f["retries"] != 0 || f["instance"] != "tiny-1" {
		t.Errorf("the fields are %v", f)
	}
	if load, ok := f["load"].(time.Duration); !ok || load <= 0 {
		t.Errorf("the load took %v", f["load"])
	}
}
