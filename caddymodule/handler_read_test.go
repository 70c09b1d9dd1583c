package caddymodule

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// ask sends a request without a body to a handler. next says that the handler
// passed it on.
func ask(t *testing.T, h caddyhttp.MiddlewareHandler, method, target string) (w *httptest.ResponseRecorder, next bool) {
	t.Helper()
	w = httptest.NewRecorder()
	err := h.ServeHTTP(w, httptest.NewRequest(method, target, nil), caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		next = true
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	return w, next
}

func TestHealth(t *testing.T) {
	if w, next := ask(t, Health{}, http.MethodGet, "/health"); w.Code != 200 || w.Body.String() != `{"status":"ok"}` || next {
		t.Errorf("status %d, %s", w.Code, w.Body)
	}
	if w, _ := ask(t, Health{}, http.MethodHead, "/health"); w.Code != 200 {
		t.Errorf("HEAD: status %d", w.Code)
	}
	if w, _ := ask(t, Health{}, http.MethodPost, "/health"); w.Code != 405 || w.Header().Get("Allow") != "GET" {
		t.Errorf("POST: status %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
	for _, path := range []string{"/healthz", "/health/", "/Health", "//health", "/%68ealth"} {
		if _, next := ask(t, Health{}, http.MethodGet, path); !next {
			t.Errorf("%s is taken for /health", path)
		}
	}
}

func TestCatalog(t *testing.T) {
	c := &Catalog{models: catalogOf([]vramman.ModelSpec{
		{Name: "org/gemma", Aliases: []string{"gpt-4o-mini"}, Launch: server.Model{Repo: "google/gemma-3-4b-it", MaxModelLen: 32768}},
		{Name: "bge", Launch: server.Model{Repo: "BAAI/bge-m3"}},
	}, time.Unix(1700000000, 0))}

	type entry struct {
		ID, Object, Root, Parent string
		Created                  int64
		OwnedBy                  string `json:"owned_by"`
		MaxModelLen              int    `json:"max_model_len"`
	}
	gemma := entry{"org/gemma", "model", "google/gemma-3-4b-it", "", 1700000000, "vllm-gateway", 32768}
	alias := entry{"gpt-4o-mini", "model", "google/gemma-3-4b-it", "org/gemma", 1700000000, "vllm-gateway", 32768}

	w, _ := ask(t, c, http.MethodGet, "/v1/models")
	var list struct{ Data []entry }
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 || len(list.Data) != 3 {
		t.Fatalf("status %d, %v: %s", w.Code, err, w.Body)
	}
	if list.Data[0] != gemma || list.Data[1] != alias || list.Data[2].ID != "bge" {
		t.Errorf("the list is %+v", list.Data)
	}
	for path, want := range map[string]entry{
		"/v1/models/org/gemma":   gemma,
		"/v1/models/org%2Fgemma": gemma,
		"/v1/models/gpt-4o-mini": alias,
	} {
		w, _ := ask(t, c, http.MethodGet, path)
		var got entry
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != want {
			t.Errorf("%s: %v: %s", path, err, w.Body)
		}
	}
	if w, _ := ask(t, c, http.MethodGet, "/v1/models/none"); w.Code != 404 {
		t.Errorf("an unknown model: status %d", w.Code)
	}
	if w, _ := ask(t, c, http.MethodDelete, "/v1/models/bge"); w.Code != 405 {
		t.Errorf("DELETE: status %d", w.Code)
	}
	for _, path := range []string{"/v1/models/", "/v1/modelsx", "/v1//models", "/models"} {
		if _, next := ask(t, c, http.MethodGet, path); !next {
			t.Errorf("%s is taken for the catalog", path)
		}
	}
}

func TestStatusAudience(t *testing.T) {
	tests := []struct {
		name    string
		client  string
		trusted bool
		header  string
		local   bool
	}{
		{"loopback", "127.0.0.1", false, "", true},
		{"loopback, IPv6", "::1", false, "", true},
		{"mapped", "::ffff:10.1.2.3", false, "", true},
		{"private", "192.168.1.7", false, "", true},
		{"unique local", "fd00::1", false, "", true},
		{"link local", "fe80::1%eth0", false, "", true},
		{"public", "203.0.113.7", false, "", false},
		{"public, IPv6", "2001:db8::1", false, "", false},
		{"behind an unknown proxy", "127.0.0.1", false, "X-Forwarded-For", false},
		{"behind an unknown proxy that says Forwarded", "127.0.0.1", false, "Forwarded", false},
		{"behind a trusted proxy", "10.0.0.5", true, "X-Forwarded-For", true},
		{"public, behind a trusted proxy", "203.0.113.7", true, "X-Forwarded-For", false},
		{"no address", "", false, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, statusPath, nil)
			if tt.header != "" {
				r.Header.Set(tt.header, "203.0.113.7")
			}
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{
				caddyhttp.ClientIPVarKey: tt.client, caddyhttp.TrustedProxyVarKey: tt.trusted,
			}))
			if got := isLocal(r); got != tt.local {
				t.Errorf("local: %t", got)
			}
			if !tt.local {
				w := httptest.NewRecorder()
				_ = (&Status{Audience: statusLocal}).ServeHTTP(w, r, nil)
				if body, _ := io.ReadAll(w.Body); w.Code != http.StatusForbidden {
					t.Errorf("status %d, %s", w.Code, body)
				}
			}
		})
	}
	if _, next := ask(t, new(Status), http.MethodGet, "/gateway/status/"); !next {
		t.Error("/gateway/status/ is taken for the status")
	}
}
