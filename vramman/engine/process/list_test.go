//go:build linux

package process

import (
	"slices"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// What runs is listed, and ends when it is discarded.
func TestListAndDiscard(t *testing.T) {
	path, gone := fifo(t)
	e := open(t)
	lists := func() []string {
		t.Helper()
		ids, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := lists(); len(got) != 0 {
		t.Errorf("at first %q run", got)
	}
	s := run(t, e, "-hold", path)
	s.ready(t, 1)
	if got := lists(); !slices.Equal(got, []string{t.Name()}) {
		t.Errorf("%q run", got)
	}
	for _, id := range []string{"never", t.Name(), t.Name()} {
		if err := e.Discard(t.Context(), id); err != nil {
			t.Errorf("discarding %s: %v", id, err)
		}
	}
	gone()
	s.ended(t)
	if got := lists(); len(got) != 0 {
		t.Errorf("afterwards %q run", got)
	}
}

// The hub is asked with what the engine and the model say of it; the model's word
// is the last. A stand-in asks none.
func TestHub(t *testing.T) {
	t.Setenv("HF_TOKEN", "gateway")
	l := &engine.Launch{Env: []string{"HF_TOKEN=model"}}
	e := open(t, "HF_TOKEN=engine", "HF_ENDPOINT=https://mirror.example")
	for _, want := range []string{"HF_TOKEN=model", "HF_ENDPOINT=https://mirror.example"} {
		if got := e.Hub(l); !slices.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
	e.spec.Simulated = true
	if got := e.Hub(l); got != nil {
		t.Errorf("a stand-in reaches the hub with %q", got)
	}
}
