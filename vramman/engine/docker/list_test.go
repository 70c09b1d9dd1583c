package docker

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// lists returns what an engine says runs.
func lists(t *testing.T, e *Engine) []string {
	t.Helper()
	names, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// serverLabels are those of a server that some process of a gateway started.
func serverLabels(gateway, run, id string) map[string]string {
	return map[string]string{labelGateway: gateway, labelRun: run, labelFormat: format, labelRole: roleServer, labelInstance: id}
}

// What runs is listed, whether the engine knows it or not, and nothing else is.
func TestList(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	if got := lists(t, e); len(got) != 0 {
		t.Errorf("at first %q run", got)
	}
	s := start(t, e, launch(t, r, "m-2"))
	s.says(t, "ready")
	paused := foreign(t, r, r.gateway+"-lost", serverLabels(r.gateway, run(), "m-1"))
	if _, err := r.api.ContainerPause(t.Context(), paused, client.ContainerPauseOptions{}); err != nil {
		t.Fatal(err)
	}
	ended := foreign(t, r, r.gateway+"-ended", serverLabels(r.gateway, run(), "m-3"))
	if err := e.daemon.kill(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if _, err := e.daemon.wait(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	foreign(t, r, r.gateway+"-earlier", serverLabels(r.gateway, "earlier", "m-4"))
	foreign(t, r, r.gateway+"-other", serverLabels(r.gateway+"-other", run(), "m-5"))
	fetches := serverLabels(r.gateway, run(), "m-6")
	fetches[labelRole] = roleFetch
	foreign(t, r, r.gateway+"-fetches", fetches)
	if got := lists(t, e); !slices.Equal(got, []string{"m-1", "m-2"}) {
		t.Errorf("%q run", got)
	}
	if _, err := r.api.ContainerUnpause(t.Context(), paused, client.ContainerUnpauseOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if got := lists(t, e); !slices.Equal(got, []string{"m-1"}) {
		t.Errorf("after the stop %q run", got)
	}
}

// What is discarded is gone, and nothing else is.
func TestDiscard(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	foreign(t, r, r.gateway+"-lost", serverLabels(r.gateway, run(), "m-1"))
	spared := []string{
		foreign(t, r, r.gateway+"-earlier", serverLabels(r.gateway, "earlier", "m-1")),
		foreign(t, r, r.gateway+"-other", serverLabels(r.gateway+"-other", run(), "m-1")),
		foreign(t, r, r.gateway+"-second", serverLabels(r.gateway, run(), "m-11")),
	}
	known := start(t, e, launch(t, r, "m-2"))
	known.says(t, "ready")
	for _, id := range []string{"m-1", "m-1", "m-2", "never"} {
		if err := e.Discard(t.Context(), id); err != nil {
			t.Errorf("discarding %s: %v", id, err)
		}
	}
	known.says(t, "terminated") // it was asked first
	known.removed(t)
	if got := lists(t, e); !slices.Equal(got, []string{"m-11"}) {
		t.Errorf("%q run", got)
	}
	for _, id := range spared {
		if !inspect(t, r, id).Container.State.Running {
			t.Errorf("container %s does not run any more", id)
		}
	}
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.Discard(t.Context(), "m-11"); !errors.Is(err, errClosed) {
		t.Errorf("a closed engine discards: %v", err)
	}
}

// What another engine of this process started, and has lost, goes with its bridge.
func TestDiscardWithLink(t *testing.T) {
	r := newRig(t)
	me := foreign(t, r, r.gateway+"-me", nil)
	first, second := inContainer(t, r, r.spec(), me), inContainer(t, r, r.spec(), me)
	a, b := start(t, first, launch(t, r, "a-1")), start(t, first, launch(t, r, "b-1"))
	b.says(t, "ready")
	if got := lists(t, second); !slices.Equal(got, []string{"a-1", "b-1"}) {
		t.Errorf("%q run", got)
	}
	if err := second.Discard(t.Context(), "a-1"); err != nil {
		t.Fatal(err)
	}
	if got := links(t, r); len(got) != 1 || got[0].labels[labelInstance] != "b-1" {
		t.Errorf("the bridges are %+v", got)
	}
	a.ended(t)
	a.removed(t)
}

// That Docker cannot be asked is an error, never an empty list.
func TestListRefused(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	e, _ := openWatched(t, r, relay)
	relay.answers("/containers/json", http.StatusForbidden, "Forbidden")
	if names, err := e.List(t.Context()); err == nil {
		t.Errorf("%q run", names)
	}
	if err := e.Discard(t.Context(), "m-1"); err == nil || !strings.Contains(err.Error(), "discarding m-1") {
		t.Errorf("got %v", err)
	}
}

// The hub is asked with what the engine and the model say of it; the model's
// word is the last.
func TestHub(t *testing.T) {
	e := &Engine{spec: Spec{Env: []string{"HF_TOKEN=engine", "HF_ENDPOINT=https://mirror.example"}}.complete()}
	for _, c := range []struct{ launch, want []string }{
		{nil, []string{"HF_ENDPOINT=https://mirror.example", "HF_TOKEN=engine"}},
		{
			[]string{"HF_TOKEN=model", "HF_HUB_OFFLINE=1"},
			[]string{"HF_ENDPOINT=https://mirror.example", "HF_HUB_OFFLINE=1", "HF_TOKEN=model"},
		},
	} {
		if got := e.Hub(&engine.Launch{Env: c.launch}); !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
