package docker

import (
	"testing"

	"go.uber.org/zap/zaptest"
)

// What bears this gateway's name and is of an earlier process goes; nothing else
// is touched.
func TestReconcile(t *testing.T) {
	r := newRig(t)
	labelled := func(gateway, run string) map[string]string {
		return map[string]string{labelGateway: gateway, labelRun: run, labelFormat: format}
	}
	foreign(t, r, r.gateway+"-left-1", labelled(r.gateway, "earlier"))
	foreign(t, r, r.gateway+"-left-2-fetch", labelled(r.gateway, "earlier"))
	spared := []string{
		foreign(t, r, r.gateway+"-likes-the-name", nil),
		foreign(t, r, r.gateway+"-other", labelled(r.gateway+"-other", "earlier")),
		foreign(t, r, r.gateway+"-mine", labelled(r.gateway, run())),
	}
	e := open(t, r.spec())
	for want := range 2 {
		removed, err := e.Reconcile(t.Context())
		if err != nil || removed != 2-2*want {
			t.Errorf("removed %d: %v", removed, err)
		}
	}
	for _, id := range spared {
		if !inspect(t, r, id).Container.State.Running {
			t.Errorf("container %s does not run any more", id)
		}
	}
}

// Without stop_on_exit a server outlives the engine, and the next process of the
// gateway finds it.
func TestOutlives(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.StopOnExit = false
	opened, err := spec.Open(t.Context(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	e := opened.(*Engine)
	if !e.Outlives() {
		t.Error("the engine says that nothing outlives it")
	}
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if !inspect(t, r, s.container()).Container.State.Running {
		t.Error("the server ended with the engine")
	}
	select {
	case <-s.Done():
		t.Error("a server that goes on is reported as ended")
	default:
	}
	if err := second(e.Start(t.Context(), launch(t, r, "m-2"))); err == nil {
		t.Error("a closed engine starts servers")
	}

	next := open(t, r.spec())
	mine := run
	run = func() string { return "next" }
	t.Cleanup(func() { run = mine })
	if removed, err := next.Reconcile(t.Context()); err != nil || removed != 1 {
		t.Errorf("removed %d: %v", removed, err)
	}
}

// With stop_on_exit servers end with the engine, and the network goes with them.
func TestStopOnExit(t *testing.T) {
	r := newRig(t) // looks for what is left
	e := open(t, r.spec())
	if e.Outlives() {
		t.Error("the engine says that servers outlive it")
	}
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	s.ended(t)
	if found, err := (&daemon{r.api}).bridges(t.Context(), e.spec.Network); err != nil || len(found) != 0 {
		t.Errorf("the network remains: %v, %v", found, err)
	}
}
