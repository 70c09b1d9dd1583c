package caddymodule

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func TestWhoAClientIs(t *testing.T) {
	a := &Admission{ClientHeader: "X-User"}
	tests := []struct {
		name   string
		caller *Caller
		header string
		ip     string // by Caddy
		remote string
		want   string
	}{
		{"key", &Caller{Name: "team"}, "u", "10.0.0.1", "", "key team"},
		{"header", nil, "u1", "10.0.0.1", "", "header u1"},
		{"header, with a key without a name", &Caller{}, "u1", "10.0.0.1", "", "header u1"},
		{"long header", nil, strings.Repeat("x", 200), "", "", "header " + strings.Repeat("x", 128)},
		{"address", nil, "", "10.0.0.1", "10.9.9.9:1", "10.0.0.1"},
		{"address of the peer", nil, "", "", "10.9.9.9:1", "10.9.9.9"},
		{"mapped", nil, "", "::ffff:10.0.0.1", "", "10.0.0.1"},
		{"IPv6", nil, "", "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::/64"},
		{"its neighbour", nil, "", "2001:db8:1:2:ffff::1", "", "2001:db8:1:2::/64"},
		{"IPv6 with a zone", nil, "", "fe80::1%eth0", "", "fe80::/64"},
		{"IPv6 peer", nil, "", "", "[2001:db8::1]:80", "2001:db8::/64"},
		{"socket", nil, "", "", "@", "@"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodPost, chatPath, nil)
		r.RemoteAddr = tt.remote
		if tt.header != "" {
			r.Header.Set("X-User", tt.header)
		}
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.ClientIPVarKey: tt.ip}))
		if tt.caller != nil {
			r = withCaller(r, tt.caller)
		}
		if got := a.client(r); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWhatAQueueIsTold(t *testing.T) {
	a := new(Admission)
	r := withCaller(httptest.NewRequest(http.MethodPost, chatPath, nil), &Caller{Name: "k", Class: 3})
	x := &exchange{route: openai.Route{}, body: &requestBody{bytes: make([]byte, 4000), budget: new(byteBudget)}}
	if q := a.request(r, x, time.Time{}); q.Client != "key k" || q.Class != 3 || q.Cost != 1000 || !q.Deadline.IsZero() {
		t.Errorf("%+v", q)
	}
	x.route.ModelIn = openai.ModelInForm
	if q := a.request(r, x, time.Time{}); q.Cost != 6 {
		t.Errorf("4000 bytes of sound cost %d", q.Cost)
	}
}

func TestRequestTimeoutHeader(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "2": 2 * time.Second, "2.5": 2500 * time.Millisecond, "0.05": 50 * time.Millisecond, "1m30s": 90 * time.Second,
		"250ms": 250 * time.Millisecond, "1e9": longestTimeout, "inf": longestTimeout, "9999h": longestTimeout,
		"0": -1, "-1": -1, "-1s": -1, "soon": -1, "NaN": -1, "1e-12": -1, "-inf": -1, "5 s": -1,
	} {
		h := make(http.Header)
		if text != "" {
			h.Set(deadlineHeader, text)
		}
		d, err := requestTimeout(h)
		if want < 0 {
			if e := openai.AsError(err); err == nil || e.Status != http.StatusBadRequest || e.Code != openai.CodeInvalidHeader {
				t.Errorf("%q: %v, %v", text, d, err)
			}
		} else if err != nil || d != want {
			t.Errorf("%q: %v, %v", text, d, err)
		}
	}
}

// A client is told where it stood and how long it waited, whatever came of it.
func TestQueueHeaders(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 1, 2 })
	a := admissionTo(app, zapcore.NewNopCore())
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan *httptest.ResponseRecorder, 2)
	for depth := range 2 {
		go func() {
			done <- serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
				entered <- struct{}{}
				<-leave
				return nil
			})
		}()
		if depth == 0 {
			<-entered
		}
	}
	waitForDepth(t, app, "tiny", 1)
	leave <- struct{}{}
	<-entered
	leave <- struct{}{}
	for n, want := range []string{"0 2 0", "0 2 1"} {
		h := (<-done).Header()
		if got := h.Get("X-Queue-Depth") + " " + h.Get("X-Queue-Max-Size") + " " + h.Get("X-Queue-Position"); got != want {
			t.Errorf("request %d is told %q, want %q", n, got, want)
		}
		wait, err := strconv.ParseFloat(h.Get("X-Queue-Wait"), 64)
		if err != nil || (wait > 0) != (n == 1) {
			t.Errorf("request %d waited %q", n, h.Get("X-Queue-Wait"))
		}
	}
}

// A deadline ends a request wherever it is: in the queue, and at its server.
func TestDeadlines(t *testing.T) {
	hang := make(chan struct{})
	app := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})}, func(m *vramman.ModelSpec) { m.MaxConcurrent = 1 })
	defer close(hang)
	a := admissionTo(app, zapcore.NewNopCore())
	hurried := func() *http.Request {
		r := chat(`{"model":"tiny","stream":true}`)
		r.Header.Set(deadlineHeader, "0.05")
		return r
	}
	check := func(where string, w *httptest.ResponseRecorder) {
		t.Helper()
		if w.Code != http.StatusGatewayTimeout || !strings.Contains(w.Body.String(), `"code":"deadline_exceeded"`) || w.Header().Get("X-Should-Retry") != "false" {
			t.Errorf("%s: status %d, %s", where, w.Code, w.Body)
		}
	}
	serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
		check("in the queue", serve(t, a, hurried(), nil))
		return nil
	})
	u := new(Upstream)
	u.open(zap.NewNop())
	first := serve(t, a, hurried(), func(w http.ResponseWriter, r *http.Request) error { return u.ServeHTTP(w, r, nil) })
	check("while it loads or at its server", first)
	r := chat(`{"model":"tiny"}`)
	r.Header.Set(deadlineHeader, "soon")
	if w := serve(t, a, r, nil); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), openai.CodeInvalidHeader) {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
}

// A stream whose deadline passes ends with an event that says so.
func TestDeadlineWithinAStream(t *testing.T) {
	app := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})}, nil)
	srv := site(t, app, time.Minute)
	warm, err := srv.Client().Post(srv.URL+chatPath, "application/json", strings.NewReader(`{"model":"tiny","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = warm.Body.Close() // the model is ready from here on
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+chatPath, strings.NewReader(`{"model":"tiny","stream":true}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(deadlineHeader, "0.3")
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !strings.HasPrefix(string(body), "data: 1\n\ndata: {\"error\":") || !strings.Contains(string(body), `"code":"deadline_exceeded"`) {
		t.Errorf("the client reads %q, %v", body, err)
	}
}

func BenchmarkQueueHeaders(b *testing.B) {
	h, ticket := make(http.Header), new(vramman.Ticket)
	b.ReportAllocs()
	for b.Loop() {
		queueHeaders(h, ticket)
	}
}
