package docker

import (
	"testing"

	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// A death is heard of, not looked for: while a server runs, Docker is asked
// nothing.
func TestDeathIsAnEvent(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host = relay.host
	e := open(t, spec)
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	before := relay.requests("")
	for range 50 { // longer than a poll would wait
		if _, _, err := s.get(t, "/dial?address=127.0.0.1:8000"); err != nil {
			t.Fatal(err)
		}
	}
	if now := relay.requests(""); now != before {
		t.Errorf("%d requests while the server ran", now-before)
	}
	if _, err := r.api.ContainerKill(t.Context(), s.container(), client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	if exit := s.ended(t); exit.Signal != "killed" {
		t.Errorf("exit %+v", exit)
	}
	s.removed(t)
	if n := relay.requests("/events"); n != 1 {
		t.Errorf("%d subscriptions to events", n)
	}
}

// What ends while the connection to Docker is broken is known once it is there
// again; what goes on goes on, with its output.
func TestConnectionBreaks(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host = relay.host
	e := open(t, spec)
	dies, vanishes, lives := start(t, e, launch(t, r, "a-1")), start(t, e, launch(t, r, "b-1")), start(t, e, launch(t, r, "c-1", "-deaf"))
	for _, s := range []*server{dies, vanishes, lives} {
		s.says(t, "ready")
	}
	relay.cut()
	if err := second(e.Start(t.Context(), launch(t, r, "d-1"))); err == nil {
		t.Error("a server starts without Docker")
	}
	if err := lives.Stop(t.Context(), patience); err == nil {
		t.Error("a server stops without Docker")
	}
	if _, err := r.api.ContainerKill(t.Context(), dies.container(), client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.api.ContainerRemove(t.Context(), vanishes.container(), client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	relay.mend()
	if exit := dies.ended(t); exit != (engine.Exit{Code: -1, Signal: "killed"}) {
		t.Errorf("exit %+v", exit)
	}
	if exit := vanishes.ended(t); exit.Code != -1 {
		t.Errorf("exit %+v", exit)
	}
	if _, err := r.api.ContainerKill(t.Context(), lives.container(), client.ContainerKillOptions{Signal: "TERM"}); err != nil {
		t.Fatal(err)
	}
	lives.says(t, "terminated") // after the break
	if err := lives.Stop(t.Context(), 0); err != nil {
		t.Errorf("a stop that failed cannot be tried again: %v", err)
	}
}

// Death and running out of memory are told in any order, and again after a break.
func TestEventOrder(t *testing.T) {
	for _, oomFirst := range []bool{true, false} {
		i := &instance{oom: make(chan struct{}), die: func() {}}
		e := &Engine{running: map[string]*instance{"c": i}}
		told := []event{{container: "c", oom: true}, {container: "c", exitCode: 137}}
		if !oomFirst {
			told[0], told[1] = told[1], told[0]
		}
		for _, happened := range append(told, told...) {
			e.heard(happened)
		}
		e.heard(event{container: "another", exitCode: 1})
		select {
		case <-i.oom:
		default:
			t.Error("the lack of memory was not heard of")
		}
		if i.status != 137 {
			t.Errorf("status %d", i.status)
		}
	}
}
