package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file owns what is asked of a gateway that is a process of its own: by its admin
// API, by Caddy's commands, and of its log.

// admin asks the admin API.
func (a *apart) admin(t *testing.T, method, path, kind, body string) (status int, answer string) {
	t.Helper()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.socket())
	}}
	defer tr.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	res, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// reload puts other options in force.
func (a *apart) reload(t *testing.T, options string) {
	t.Helper()
	if code, answer := a.admin(t, http.MethodPost, "/load", "text/caddyfile", a.caddyfile(t, options)); code != http.StatusOK {
		t.Fatalf("reloading: status %d: %s", code, answer)
	}
	a.client.CloseIdleConnections() // of the old configuration
}

// plan is what the admin API says would happen if a model were asked for, once
// it is more than that nothing is known yet.
func (a *apart) plan(t *testing.T, model string) (p vramman.PlanStatus) {
	t.Helper()
	eventually(t, "there is a plan for "+model, func() bool {
		code, text := a.admin(t, http.MethodGet, "/vramman/plan?model="+model, "", "")
		p = vramman.PlanStatus{}
		if err := json.Unmarshal([]byte(text), &p); err != nil || code != http.StatusOK {
			t.Fatalf("the plan: status %d: %s", code, text)
		}
		return p.Reason != "the engine or the cards are not open yet"
	})
	return p
}

// command runs 'caddy vllm' with some arguments.
func (a *apart) command(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	text, err := a.self(append(append([]string{"vllm"}, args...), "--address", "unix/"+a.socket())...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(text), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text), 0
}

// messages are the log's words for decisions, of which the status has the last only.
var messages = map[string]string{
	"starting a model": "start", "evicting an instance": "evict", "stopping an instance": "stop", "draining an instance": "drain",
	"a model waits for room": "wait", "putting an instance to sleep": "sleep", "an instance is asleep": "asleep", "waking an instance": "wake",
	"starting a model with an adjusted footprint": "adjust", "a model cannot be placed": "refuse", "planning a start anew": "replan",
	"an instance is ready": "ready", "an instance failed": "failed", "an instance is gone": "gone", "an instance's VRAM is not free": "unreleased",
}

// decision is a decision as the log has it.
type decision struct {
	Msg, Model, Instance, Reason string
	GPUs                         []string
	Cards                        []struct{ GPU, Verdict string }
}

// decisions are all about a model since the gateway's folder was made; about all
// models if it is empty.
func (a *apart) decisions(t *testing.T, model string) (all []decision) {
	t.Helper()
	text, err := os.ReadFile(a.log())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var d decision
		if json.Unmarshal(line, &d) == nil && messages[d.Msg] != "" && (model == "" || d.Model == model) {
			all = append(all, d)
		}
	}
	return all
}

// actions are the decisions about a model so far, such as "start"; about all
// models if it is empty, such as "start a".
func (a *apart) actions(t *testing.T, model string) (all []string) {
	t.Helper()
	for _, d := range a.decisions(t, model) {
		if action := messages[d.Msg]; model == "" {
			all = append(all, action+" "+d.Model)
		} else {
			all = append(all, action)
		}
	}
	return all
}

// count is how often a decision was made about a model.
func (a *apart) count(t *testing.T, action, model string) (n int) {
	t.Helper()
	for _, other := range a.actions(t, model) {
		if other == action {
			n++
		}
	}
	return n
}

// findings are all that the audit has found and logged.
func (a *apart) findings(t *testing.T) (all []vramman.Finding) {
	t.Helper()
	text, err := os.ReadFile(a.log())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var l struct {
			Msg string
			vramman.Finding
			What string
		}
		if json.Unmarshal(line, &l) == nil && l.Msg == "the audit has found something" {
			l.Text = l.What
			all = append(all, l.Finding)
		}
	}
	return all
}
