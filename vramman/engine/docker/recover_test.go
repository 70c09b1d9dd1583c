// This file tests what the engine makes good when Docker, or a proxy in front of
// it, was away or refused something.

package docker

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// openWatched opens an engine through the relay, and returns what it logs.
func openWatched(t *testing.T, r *rig, relay *relay) (*Engine, *observer.ObservedLogs) {
	t.Helper()
	spec := r.spec()
	spec.Host = relay.host
	core, logs := observer.New(zap.InfoLevel)
	e, err := spec.Open(t.Context(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e.(*Engine), logs
}

// until looks again and again until something is so.
func until(t *testing.T, what string, isSo func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	limit := time.After(patience)
	for !isSo() {
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("in vain waited for: %s", what)
		}
	}
}

// A container that runs, but whose start failed because Docker was lost, holds its
// cards and is nobody's: it is removed as soon as Docker answers again.
func TestRemovedLater(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	e, _ := openWatched(t, r, relay)
	var started atomic.Bool
	relay.mu.Lock()
	relay.answer = func(_ http.ResponseWriter, path string) bool {
		if strings.HasSuffix(path, "/start") {
			started.Store(true)
		}
		if !started.Load() || !strings.HasSuffix(path, "/json") {
			return false
		}
		relay.cut()
		return true
	}
	relay.mu.Unlock()
	if err := second(e.Start(t.Context(), launch(t, r, "m-1"))); err == nil {
		t.Fatal("a server starts without Docker")
	}
	left := func() int {
		found, err := (&daemon{r.api}).list(t.Context(), map[string]string{labelGateway: r.gateway})
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if left() != 1 {
		t.Fatal("the container is not left")
	}
	relay.mu.Lock()
	relay.answer = nil
	relay.mu.Unlock()
	relay.mend()
	until(t, "the container is removed", func() bool { return left() == 0 })
}

// Where Docker's events are refused, this is said once and for what it is, and
// what ends is noticed all the same.
func TestEventsRefused(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	relay.answers("/events", http.StatusForbidden, "Forbidden")
	e, logs := openWatched(t, r, relay)
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	until(t, "several subscriptions", func() bool { return relay.requests("/events") > 3 })
	if err := (&daemon{r.api}).kill(t.Context(), s.container()); err != nil {
		t.Fatal(err)
	}
	if exit := s.ended(t); exit.Signal != "killed" {
		t.Errorf("exit %+v", exit)
	}
	if said := logs.FilterLevelExact(zap.WarnLevel).All(); len(said) != 1 || !strings.Contains(said[0].Message, "GET /events") {
		t.Errorf("the warnings are %v", said)
	}
	if n := logs.FilterMessage("Docker answers again").Len(); n != 0 {
		t.Errorf("said %d times that Docker answers again", n)
	}
}

// That the connection breaks says nothing about Docker's logging driver, and a
// server that ends after it still leaves its last lines.
func TestBreakIsNoRefusal(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	e, logs := openWatched(t, r, relay)
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	relay.cut()
	until(t, "the break is noticed", func() bool { return logs.FilterMessageSnippet("connection to Docker is lost").Len() == 1 })
	relay.mend()
	until(t, "Docker is there again", func() bool { return logs.FilterMessage("Docker answers again").Len() == 1 })
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	s.says(t, "terminated")
	if n := logs.FilterMessageSnippet("logging driver").Len(); n != 0 {
		t.Errorf("the logging driver is accused %d times", n)
	}
}

// A logging driver that hands nothing out is told of once.
func TestLogsRefused(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	relay.answers("/logs", http.StatusNotImplemented, "configured logging driver does not support reading")
	e, logs := openWatched(t, r, relay)
	s := start(t, e, launch(t, r, "m-1"))
	until(t, "several attempts", func() bool { return relay.requests("/logs") > 1 })
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	if n := logs.FilterMessageSnippet("logging driver").Len(); n != 1 {
		t.Errorf("told %d times", n)
	}
}
