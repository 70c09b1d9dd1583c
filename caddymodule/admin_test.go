// This file tests the admin API, and the commands that ask it, in a real Caddy.

package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// runVLLM runs 'caddy vllm' with arguments and returns what it printed.
func runVLLM(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out strings.Builder
	cmd := &cobra.Command{Use: "vllm", SilenceUsage: true, SilenceErrors: true}
	caddycmd.Commands()["vllm"].CobraFunc(cmd)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestAdminAPI(t *testing.T) {
	folder := t.TempDir()
	address := "unix/" + filepath.Join(folder, "admin.sock")
	load := func(name string, fail bool) error {
		return caddy.Load(fmt.Appendf(nil, `{
			"admin": {"listen": %q, "config": {"persist": false}},
			"storage": {"module": "file_system", "root": %q},
			"logging": {"logs": {"default": {"level": "FATAL"}}},
			"apps": {
				"vramman_test_probe": {"fail": %v},
				"vramman": {"name": %q, %s, "models": [{"name": "a", "repo": "r", "aliases": ["alias"], "vram": 1073741824}]}
			}
		}`, address, folder, fail, name, strings.Replace(guests, `"source"`, fmt.Sprintf(`"folder": %q, "source"`, folder), 1)), true)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	ask := func(method, uri string) (string, error) {
		t.Helper()
		res, err := caddycmd.AdminAPIRequest(address, method, uri, nil, nil)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		return text(t, res), nil
	}
	wantStatusOf := func(name string) {
		t.Helper()
		body, err := ask(http.MethodGet, "/vramman/status")
		if err != nil {
			t.Fatal(err)
		}
		var status struct {
			Version struct{ Caddy string }
			Gateway string
			Models  []struct{ Name string }
		}
		if err := json.Unmarshal([]byte(body), &status); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		if status.Gateway != name || len(status.Models) != 1 || status.Models[0].Name != "a" || status.Version.Caddy == "" {
			t.Errorf("got %+v, want the status of %s", status, name)
		}
	}

	if err := load("first", false); err != nil {
		t.Fatal(err)
	}
	wantStatusOf("first")

	// Caddy leaves the failed configuration's part of the admin API in place.
	if err := load("second", true); err == nil {
		t.Fatal("the configuration should have failed")
	}
	wantStatusOf("first")

	for _, name := range []string{"a", "alias"} {
		body, err := ask(http.MethodGet, "/vramman/plan?model="+name)
		if err != nil || !strings.Contains(body, `"model":"a"`) {
			t.Errorf("planning %s: got %s, %v", name, body, err)
		}
	}
	for _, tt := range []struct{ method, uri, want string }{
		{http.MethodGet, "/vramman/plan?model=b", "HTTP 404"},
		{http.MethodGet, "/vramman/plan", "HTTP 400: {\"error\":\"name a model: /vramman/plan?model=NAME\"}"},
		{http.MethodPost, "/vramman/plan?model=a", "HTTP 405"},
		{http.MethodDelete, "/vramman/status", "HTTP 405"},
		{http.MethodGet, "/vramman/", "HTTP 404"},
		{http.MethodGet, "/vramman/status/", "HTTP 404"},
	} {
		if body, err := ask(tt.method, tt.uri); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %s, %v, want %s", tt.method, tt.uri, body, err, tt.want)
		}
	}

	out, err := runVLLM(t, "status", "--address", address)
	if err != nil || !strings.HasPrefix(out, "gateway first (") || !strings.Contains(out, "1.0 GiB") {
		t.Errorf("caddy vllm status: %v\n%s", err, out)
	}
	config := filepath.Join(folder, "caddy.json")
	if err := os.WriteFile(config, fmt.Appendf(nil, `{"admin": {"listen": %q}}`, address), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = runVLLM(t, "plan", "alias", "--config", config, "--json")
	if err != nil || !json.Valid([]byte(out)) || !strings.Contains(out, `"model":"a"`) {
		t.Errorf("caddy vllm plan: %v\n%s", err, out)
	}
	if out, err = runVLLM(t, "plan", "nobody", "--address", address); err == nil || !strings.Contains(err.Error(), "HTTP 404") {
		t.Errorf("caddy vllm plan for nobody: %v\n%s", err, out)
	}
	waitForCards(t)
}

// TestAdminAPIForClientThatLeft shows that nobody is told an error that nobody asks for.
func TestAdminAPIForClientThatLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	if err := answerAdmin(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/vramman/status", nil)); err != nil || w.Code != statusClientGone {
		t.Errorf("got status %d, %v", w.Code, err)
	}
}
