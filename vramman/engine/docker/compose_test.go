// This file holds deploy/compose.yaml against what the engine does.

package docker

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// composeFile is the file with all that it proposes in comments uncommented.
func composeFile(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^( *)# `).ReplaceAllString(string(text), "$1")
}

// The proxy that stands in front of Docker's socket lets through all that the
// engine asks for, with a gateway in a container and without.
func TestSocketProxyRules(t *testing.T) {
	rules := make(map[string]*regexp.Regexp)
	for _, m := range regexp.MustCompile(`(?m)^ *- -allow([A-Z]+)=(.+)$`).FindAllStringSubmatch(composeFile(t), -1) {
		rules[m[1]] = regexp.MustCompile("^" + m[2] + "$")
	}
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host, spec.Cache = relay.host, t.TempDir()
	e := open(t, spec)
	if _, err := e.Reconcile(t.Context()); err != nil {
		t.Error(err)
	}
	l := launch(t, r, "a-1")
	l.FetchCommand = []string{"/probe", "-exit", "0"}
	if err := e.Fetch(t.Context(), l); err != nil {
		t.Error(err)
	}
	l.Image = "localhost:5/never:made" // where no registry is
	if err := e.Fetch(t.Context(), l); err == nil {
		t.Error("an image comes from nowhere")
	}
	l.Image = ""
	outside := start(t, e, l)
	outside.says(t, "ready")
	if _, err := outside.PIDs(t.Context()); err != nil {
		t.Error(err)
	}
	if err := outside.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
	// It finds itself by its own ID.
	me := foreign(t, r, r.gateway+"-me", nil)
	if _, err := e.daemon.findSelf(t.Context(), view{ids: []string{me}}); err != nil {
		t.Error(err)
	}
	e.self = &self{id: me, network: me}
	inside := start(t, e, launch(t, r, "b-1"))
	inside.says(t, "ready")
	if err := inside.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}

	relay.mu.Lock()
	asked := slices.Compact(slices.Sorted(slices.Values(relay.asked)))
	relay.mu.Unlock()
	for _, a := range asked {
		method, path, _ := strings.Cut(a, " ")
		if rules[method] == nil || !rules[method].MatchString(path) {
			t.Errorf("the proxy refuses %s", a)
		}
	}
	for _, part := range []string{"/events", "/top", "/logs", "/wait", "/kill", "/disconnect", "/images/create"} {
		if !slices.ContainsFunc(asked, func(a string) bool { return strings.HasSuffix(a, part) }) {
			t.Errorf("nothing was asked of %s, so nothing is known of it", part)
		}
	}
}

// Compose stops the proxy after the gateway, which could not end its servers
// without, and the image of the proxy, which has no list of users, is given a
// number for one.
func TestSocketProxyOutlivesGateway(t *testing.T) {
	_, services, _ := strings.Cut(composeFile(t), "\nservices:\n")
	gateway, proxy, found := strings.Cut(services, "\n  docker-proxy:\n")
	if !found || !regexp.MustCompile(`(?m)^    depends_on: \[docker-proxy\]`).MatchString(gateway) {
		t.Error("the gateway does not depend on the proxy")
	}
	if !regexp.MustCompile(`(?m)^ +user: "\d+"`).MatchString(proxy) {
		t.Error("the user of the proxy is no number")
	}
}
