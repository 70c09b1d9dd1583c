package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// echoBody answers with what a server sees of a request.
func echoBody(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s", r.Header.Get("Authorization"), r.URL.Path, b)
}

// posts sends a body to a gateway's chat route.
func posts(t *testing.T, srv *httptest.Server, body string) (int, http.Header, string) {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+chatPath, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer client-secret")
	res, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, res.Header, text(t, res)
}

// Whatever keeps a model from serving, its requests are served by the other, with
// that one's name and defaults, one of its tickets and one of its leases.
func TestFallbackToAModel(t *testing.T) {
	occupied := make(chan struct{})
	tests := []struct {
		name   string
		engine fakeEngine
		change func(*vramman.ModelSpec)
		occupy bool
	}{
		{"queue full", fakeEngine{}, func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 1, 0 }, true},
		{"does not start", fakeEngine{refuse: errors.New("no"), only: "tiny"}, nil, false},
		{"no room", fakeEngine{}, func(m *vramman.ModelSpec) { m.Need.Bytes = 1 << 40 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			end := make(chan struct{})
			tt.engine.handler = healthy(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				if strings.Contains(string(b), "occupy") {
					occupied <- struct{}{}
					<-end
				}
				_, _ = w.Write(b)
			})
			tiny, other := modelNamed("tiny"), modelNamed("other")
			other.Aliases = []string{"other-alias"}
			if tt.change != nil {
				tt.change(&tiny)
			}
			a := appOfModels(t, &tt.engine, tiny, other)
			a.fallbacks = map[string]*fallback{"tiny": {model: "other-alias"}}
			a.requestDefaults["other"] = a.requestDefaults["tiny"]
			delete(a.requestDefaults, "tiny")
			srv := gatewayOf(t, a)
			done := make(chan struct{})
			if tt.occupy {
				go func() {
					defer close(done)
					posts(t, srv, `{"model":"tiny","occupy":1}`)
				}()
				<-occupied
			} else {
				close(done)
			}
			code, header, answer := posts(t, srv, `{"model":"tiny","x":"tiny"}`)
			if want := `{"model":"other","x":"tiny","temperature":0.5}`; code != http.StatusOK || answer != want || header.Get(headerFallback) != "other" {
				t.Errorf("status %d, %s, by %q, want %s", code, answer, header.Get(headerFallback), want)
			}
			close(end)
			<-done
			until(t, "nothing is served", func() bool { return leases(t, a) == 0 })
			for _, name := range []string{"tiny", "other"} {
				m, err := a.generation.Find(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				until(t, "no slot of "+name+" is used", func() bool { return m.Queue().Serving == 0 })
			}
		})
	}
}

// A fallback that cannot serve either is no way on: the client is told of the model
// that it asked for.
func TestFallbackIsOneHop(t *testing.T) {
	e := &fakeEngine{handler: healthy(echoBody), refuse: errors.New("no")}
	a := appOfModels(t, e, modelNamed("tiny"), modelNamed("other"), modelNamed("third"))
	a.fallbacks = map[string]*fallback{"tiny": {model: "other"}, "other": {model: "third"}}
	code, header, answer := posts(t, gatewayOf(t, a), `{"model":"tiny"}`)
	if code != http.StatusServiceUnavailable || !strings.Contains(answer, `"code":"start_failed"`) || header.Get(headerFallback) != "" {
		t.Errorf("status %d, %s", code, answer)
	}
	s, err := a.manager.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Decisions {
		if d.Model == "third" {
			t.Errorf("the third was asked for: %+v", d)
		}
	}
}

// A key that may not use the fallback does not get there.
func TestFallbackHeedsTheKey(t *testing.T) {
	a := appOfModels(t, &fakeEngine{handler: healthy(echoBody)}, modelNamed("tiny"), modelNamed("other"))
	for _, tt := range []struct {
		models []string
		falls  bool
	}{{[]string{"tiny"}, false}, {[]string{"tiny", "other"}, true}} {
		r := withCaller(chat("{}"), &Caller{Name: "alice", Models: tt.models})
		x := &exchange{
			model: "tiny", door: &Admission{app: a, generation: a.generation}, fallback: &fallback{model: "other"},
			body: &requestBody{bytes: []byte(`{"model":"tiny"}`), budget: new(byteBudget)},
		}
		if got := x.fall(r.Context(), &vramman.Error{Code: vramman.CodeQueueFull}); got != tt.falls || (x.ticket.Model() != nil) != tt.falls {
			t.Errorf("with a key for %q it fell back: %t", tt.models, got)
		}
		x.ticket.Return(time.Now())
	}
}

// An outside server is asked with its own key, for its own model, and is told
// nothing of the client.
func TestFallbackToAURL(t *testing.T) {
	seen := make(chan http.Header, 1)
	var fails, requests int
	out := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests <= fails {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		seen <- r.Header.Clone()
		w.Header().Set("Server", "cloud")
		w.Header().Set("X-Account", "secret")
		echoBody(w, r)
	}))
	t.Cleanup(out.Close)
	t.Cleanup(outsideTransport.CloseIdleConnections)
	a := appWith(t, &fakeEngine{refuse: errors.New("no")}, nil)
	base, err := url.Parse(out.URL + "/api")
	if err != nil {
		t.Fatal(err)
	}
	server := &outside{base: base, model: "gpt-x", told: out.URL + "/api/v1", authorization: "Bearer out-secret"}
	a.fallbacks = map[string]*fallback{"tiny": {outside: server}}
	srv := gatewayOf(t, a)
	for fails = range 2 {
		requests = 0
		code, header, answer := posts(t, srv, `{"model":"tiny-alias"}`)
		if want := `Bearer out-secret /api/v1/chat/completions {"model":"gpt-x","temperature":0.5}`; code != http.StatusOK || answer != want {
			t.Errorf("status %d, %s, want %s", code, answer, want)
		}
		if header.Get(headerFallback) != "gpt-x" || header.Get("X-Account") != "" {
			t.Errorf("the client sees %v", header)
		}
		h := <-seen
		for name := range h {
			if strings.HasPrefix(name, "X-Forwarded") {
				t.Errorf("the outside server sees %s: %q", name, h[name])
			}
		}
	}
	server.authorization = ""
	if _, _, answer := posts(t, srv, `{"model":"tiny"}`); !strings.HasPrefix(answer, " /api/v1/") {
		t.Errorf("without a key the outside server sees %s", answer)
	}
	<-seen
	out.Close()
	if code, _, answer := posts(t, srv, `{"model":"tiny"}`); code != http.StatusBadGateway || strings.Contains(answer, base.Host) {
		t.Errorf("status %d, %s", code, answer)
	}
}

// What is said of other failures than the model's own stays as it is.
func TestWhatFallsBack(t *testing.T) {
	for err, want := range map[error]bool{
		&vramman.Error{Code: vramman.CodeQueueFull}:    true,
		&vramman.Error{Code: vramman.CodeUnplaceable}:  true,
		&vramman.Error{Code: vramman.CodeStartFailed}:  true,
		&vramman.Error{Code: vramman.CodeNoEngine}:     true,
		&vramman.Error{Code: vramman.CodeQueueTimeout}: false,
		&vramman.Error{Code: vramman.CodeModelRemoved}: false,
		&vramman.Error{Code: vramman.CodeShuttingDown}: false,
		&upstreamError{model: "tiny", err: io.EOF}:     false,
	} {
		if got := fallsBack(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}
