package docker

import (
	"net/http"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// What Docker would refuse at the start is refused before it, each time, and leaves
// nothing behind; a start that went well needs no rehearsal.
func TestRehearsal(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	e, _ := openWatched(t, r, relay)
	made := func() (n int) {
		relay.mu.Lock()
		defer relay.mu.Unlock()
		for _, asked := range relay.asked {
			if strings.HasPrefix(asked, "POST") && strings.HasSuffix(asked, "/containers/create") {
				n++
			}
		}
		return n
	}
	l := launch(t, r, "m-1")
	l.Mounts = []engine.Mount{{Source: "/no/such/folder", Target: "/x"}}
	for range 2 {
		err := e.Fetch(t.Context(), l)
		if err == nil || !strings.Contains(engine.Explanation(err), "does not exist on Docker's host") {
			t.Errorf("a folder that is missing: %v", err)
		}
	}
	if n := made(); n != 2 {
		t.Errorf("%d containers were tried, want 2", n)
	}
	l.Mounts = nil
	for range 2 {
		if err := e.Fetch(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	start(t, e, l)
	if n := made(); n != 4 { // one for both fetches, one to start it
		t.Errorf("%d containers were made, want 4", n)
	}
	l.ID, l.Mounts = "m-2", []engine.Mount{{Source: "/no/such/folder", Target: "/x"}}
	if _, err := e.Start(t.Context(), l); err == nil {
		t.Error("it was started without its folder")
	}
	if err := e.Fetch(t.Context(), l); err == nil {
		t.Error("a launch whose last start failed was not rehearsed")
	}
	relay.answers("/containers/create", http.StatusForbidden, "Forbidden")
	if err := e.Fetch(t.Context(), l); err == nil || !strings.Contains(engine.Explanation(err), "a proxy in front of Docker forbids this") {
		t.Errorf("what a proxy forbids: %v", err)
	}
	found, err := e.daemon.list(t.Context(), map[string]string{labelGateway: r.gateway})
	if err != nil || len(found) != 1 {
		t.Errorf("there are %v: %v", found, err)
	}
}
