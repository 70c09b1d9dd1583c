// This file tests how the app lives, in a real Caddy.

package caddymodule

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// probe is an app that shows a test the other one, and fails to start if told so.
type probe struct {
	Fail bool `json:"fail,omitempty"`
}

// probed is the app that the last probe has seen.
var probed *App

func init() { caddy.RegisterModule(new(probe)) }

func (*probe) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "vramman_test_probe", New: func() caddy.Module { return new(probe) }}
}

func (p *probe) Provision(ctx caddy.Context) (err error) {
	probed, err = appOf(ctx)
	return err
}

func (p *probe) Start() error {
	if p.Fail {
		return errors.New("told to fail")
	}
	return nil
}

func (p *probe) Stop() error { return nil }

// TestLife loads one configuration after the other, as reloads do.
func TestLife(t *testing.T) {
	folder := t.TempDir()
	load := func(name, model string, fail bool) (*App, error) {
		app := fmt.Sprintf(`{"name": %q, %s, "models": [{"name": %q, "repo": "r", "aliases": ["alias"]}]}`, name,
			strings.Replace(guests, `"source"`, fmt.Sprintf(`"folder": %q, "source"`, folder), 1), model)
		config := strings.Replace(string(quietConfig(app)), `"apps": {`, fmt.Sprintf(`"storage": {"module": "file_system", "root": %q}, "apps": {"vramman_test_probe": {"fail": %v}, `, folder, fail), 1)
		err := caddy.Load([]byte(config), true)
		return probed, err
	}
	inForce := func(want string) {
		t.Helper()
		s, err := theManager().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Gateway != want {
			t.Errorf("in force is %q, want %q", s.Gateway, want)
		}
	}
	finds := func(app *App, name string, want bool) {
		t.Helper()
		m, err := app.Generation().Find(t.Context(), name)
		switch refusal := (*vramman.Error)(nil); {
		case want && err != nil:
			t.Errorf("%s is not found: %v", name, err)
		case !want && (!errors.As(err, &refusal) || refusal.Code != vramman.CodeUnknownModel):
			t.Errorf("got %v, %v for %s, want %s", m, err, name, vramman.CodeUnknownModel)
		}
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})

	first, err := load("first", "a", false)
	if err != nil {
		t.Fatal(err)
	}
	inForce("first")
	finds(first, "a", true)
	finds(first, "alias", true)
	finds(first, "b", false)

	failed, err := load("second", "b", true)
	if err == nil {
		t.Fatal("the configuration should have failed")
	}
	inForce("first")
	finds(first, "a", true)
	finds(failed, "none", false) // whoever waits for its start goes on

	third, err := load("third", "c", false)
	if err != nil {
		t.Fatal(err)
	}
	inForce("third")
	finds(third, "c", true)
	if first.Manager() != third.Manager() {
		t.Error("a reload has replaced the manager")
	}
	if n, ok := managers.References(managerKey); !ok || n != 1 {
		t.Errorf("%d configurations hold the manager, want 1", n)
	}
	waitForCards(t)
}

// waitForCards waits until the manager has opened its cards, so that nothing is
// written to their folder any more.
func waitForCards(t *testing.T) {
	t.Helper()
	for {
		s, err := theManager().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(s.GPUs) > 0 {
			return
		}
	}
}

// TestFailedProvision shows that a configuration that is refused keeps no hold of
// the manager.
func TestFailedProvision(t *testing.T) {
	if err := validate(t, quietConfig(`{}`)); err == nil {
		t.Fatal("accepted")
	}
	if n, ok := managers.References(managerKey); ok {
		t.Errorf("%d configurations hold the manager, want none", n)
	}
	if err := new(App).Cleanup(); err != nil {
		t.Error(err)
	}
}
