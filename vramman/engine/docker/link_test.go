package docker

import (
	"context"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"go.uber.org/zap/zaptest"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// inContainer opens an engine that takes a container for its own gateway's. Tests
// are on the host, which reaches all bridges, too.
func inContainer(t *testing.T, r *rig, s Spec, me string) *Engine {
	t.Helper()
	e := open(t, s)
	e.self = &self{id: me, network: me}
	return e
}

// on are the names of the networks that a container is on.
func on(t *testing.T, r *rig, id string) map[string]string {
	t.Helper()
	names := make(map[string]string)
	for name, n := range inspect(t, r, id).Container.NetworkSettings.Networks {
		names[name] = n.IPAddress.String()
	}
	return names
}

// links are the bridges of the rig's gateway.
func links(t *testing.T, r *rig) []listed {
	t.Helper()
	found, err := (&daemon{r.api}).links(t.Context(), r.gateway)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Each server shares a bridge with the gateway's container, on which nobody else
// is, and which goes with it.
func TestLinks(t *testing.T) {
	r := newRig(t)
	me := foreign(t, r, r.gateway+"-me", nil)
	e := inContainer(t, r, r.spec(), me)
	a, b := start(t, e, launch(t, r, "a-1")), start(t, e, launch(t, r, "b-1"))
	a.says(t, "ready")
	b.says(t, "ready")
	if got := links(t, r); len(got) != 2 {
		t.Fatalf("the bridges are %+v", got)
	}
	for _, s := range []*server{a, b} {
		i := s.Running.(*instance)
		n, err := r.api.NetworkInspect(t.Context(), i.link, client.NetworkInspectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n := n.Network; len(n.Containers) != 2 || n.Containers[me].Name == "" || n.Containers[s.container()].Name == "" || !n.Internal ||
			n.Labels[labelInstance] != i.id || n.Labels[labelGateway] != r.gateway || !strings.HasPrefix(n.Name, r.gateway+"-"+i.id+"-link-") {
			t.Errorf("the bridge is %+v", n)
		}
		if code, _, err := s.get(t, "/dial?address=127.0.0.1:8000"); err != nil || code != 200 {
			t.Errorf("asking %s: %d: %v", i.id, code, err)
		}
	}
	// Neither can reach the other, by any of its addresses.
	for _, address := range on(t, r, b.container()) {
		if code, body, err := a.get(t, "/dial?address="+address+":8000"); err != nil || code == 200 {
			t.Errorf("one server reaches another at %s: %d %s %v", address, code, body, err)
		}
	}
	if err := a.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	if got := links(t, r); len(got) != 1 || got[0].labels[labelInstance] != "b-1" {
		t.Errorf("after a stop the bridges are %+v", got)
	}
	// What is ended from outside takes its bridge along, too.
	if err := e.daemon.kill(t.Context(), b.container()); err != nil {
		t.Error(err)
	}
	b.removed(t)
	if got := links(t, r); len(got) != 0 || len(on(t, r, me)) != 1 {
		t.Errorf("in the end the bridges are %+v, and the gateway is on %v", got, on(t, r, me))
	}
}

// A start that fails, at the bridge or after it, leaves none behind.
func TestLinkFailures(t *testing.T) {
	r := newRig(t)
	made, err := r.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: r.gateway + "-me", Config: &container.Config{Image: r.image, Cmd: []string{"-hang"}}, HostConfig: &container.HostConfig{NetworkMode: "none"},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{r.api}
	defer func() { _ = d.remove(context.Background(), made.ID) }()
	if err := d.start(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	e := inContainer(t, r, r.spec(), made.ID)
	if err := second(e.Start(t.Context(), launch(t, r, "a-1"))); err == nil || !strings.Contains(err.Error(), "own container has no network") {
		t.Errorf("a gateway without a network: %v", err)
	}
	e.self = &self{network: "vanished"}
	if err := second(e.Start(t.Context(), launch(t, r, "a-1"))); err == nil {
		t.Error("a gateway that is gone reaches its server")
	}
	e.self.network = foreign(t, r, r.gateway+"-other", nil)
	l := launch(t, r, "a-1")
	l.Mounts = []engine.Mount{{Source: "/nowhere/at/all", Target: "/x"}}
	if err := second(e.Start(t.Context(), l)); err == nil {
		t.Error("a server starts without its folder")
	}
	if got := links(t, r); len(got) != 0 {
		t.Errorf("the bridges are %+v", got)
	}
}

// Servers that go on have the gateway leave their bridges, lest its container
// could not be started again; the next process removes both, and spares others'.
func TestLinksOutlive(t *testing.T) {
	r := newRig(t)
	me := foreign(t, r, r.gateway+"-me", nil)
	spec := r.spec()
	spec.StopOnExit = false
	opened, err := spec.Open(t.Context(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	e := opened.(*Engine)
	e.self = &self{id: me, network: me}
	s := start(t, e, launch(t, r, "a-1"))
	s.says(t, "ready")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := on(t, r, me); len(links(t, r)) != 1 || len(got) != 1 {
		t.Errorf("after the end the gateway is on %v", got)
	}
	d := &daemon{r.api}
	other, err := d.createLink(t.Context(), r.gateway+"-foreign", map[string]string{labelGateway: r.gateway + "-2", labelRole: roleLink})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.removeBridge(context.Background(), other) }()

	next := inContainer(t, r, r.spec(), me)
	// As after a crash, when nobody left.
	if err := d.connect(t.Context(), links(t, r)[0].id, me); err != nil {
		t.Fatal(err)
	}
	mine := run
	run = func() string { return "next" }
	t.Cleanup(func() { run = mine })
	if removed, err := next.Reconcile(t.Context()); err != nil || removed != 1 {
		t.Errorf("removed %d: %v", removed, err)
	}
	if got := links(t, r); len(got) != 0 {
		t.Errorf("the bridges are %+v", got)
	}
	if _, err := r.api.NetworkInspect(t.Context(), other, client.NetworkInspectOptions{}); err != nil {
		t.Errorf("another gateway's bridge: %v", err)
	}
}
