package docker

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// A server's container is what the design says, and is gone afterwards.
func TestStart(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Cache = filepath.Join(t.TempDir(), "cache") // made by Docker
	spec.CompileCache = t.TempDir()
	spec.Env = []string{"FROM_ENGINE=engine", "BOTH=engine", "TOKEN=hf_secret"}
	shared := t.TempDir()
	spec.Mounts = []engine.Mount{{Source: shared, Target: "/shared", ReadOnly: true}}
	e := open(t, spec)

	l := launch(t, r, "org/model-1", "-env")
	l.Env = []string{"BOTH=launch"}
	l.Mounts = []engine.Mount{{Source: t.TempDir(), Target: "/own"}}
	s := start(t, e, l)
	env := s.says(t, "ready")
	for _, want := range []string{
		"env FROM_ENGINE=engine", "env BOTH=launch", "env TOKEN=hf_secret", "env CUDA_VISIBLE_DEVICES=GPU-1,GPU-2",
		"env HF_HOME=/root/.cache/huggingface",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("the server has not %q but %q", want, env)
		}
	}
	imageID, err := e.daemon.imageID(t.Context(), r.image)
	if err != nil {
		t.Fatal(err)
	}
	if want := "env VLLM_CACHE_ROOT=/root/.cache/vllm-gateway/" + imageID[7:19] + "/vllm"; !slices.Contains(env, want) {
		t.Errorf("the server has not %q but %q", want, env)
	}

	c := inspect(t, r, s.container()).Container
	if want := "/" + r.gateway + "-org-model-1-"; !strings.HasPrefix(c.Name, want) {
		t.Errorf("the container is %s, want %s and a digest", c.Name, want)
	}
	labels := maps.Clone(c.Config.Labels)
	delete(labels, "vllm-gateway.test") // the image's
	want := map[string]string{
		"vllm-gateway.gateway": r.gateway, "vllm-gateway.run": run(), "vllm-gateway.format": "1", "vllm-gateway.role": "server",
		"vllm-gateway.model": "org/model", "vllm-gateway.instance": "org/model-1", "vllm-gateway.hash": "c0ffee",
		"vllm-gateway.gpus": "GPU-1,GPU-2", "vllm-gateway.charge": "3221225472",
	}
	if !maps.Equal(labels, want) {
		t.Errorf("the labels are %v, want %v", labels, want)
	}
	h := c.HostConfig
	if h.AutoRemove || !h.RestartPolicy.IsNone() || h.Init == nil || !*h.Init || len(h.PortBindings) != 0 {
		t.Errorf("auto-remove %t, restart %v, init %v, ports %v", h.AutoRemove, h.RestartPolicy, h.Init, h.PortBindings)
	}
	if h.ShmSize != 16<<30 || h.IpcMode.IsHost() {
		t.Errorf("shared memory of %d bytes, IPC %q", h.ShmSize, h.IpcMode)
	}
	mounts := make(map[string]bool) // writable or not
	for _, m := range c.Mounts {
		mounts[m.Destination] = m.RW
	}
	if want := map[string]bool{cacheTarget: true, compileTarget: true, "/shared": false, "/own": true}; !maps.Equal(mounts, want) {
		t.Errorf("the mounts are %v, want %v", mounts, want)
	}

	if code, body, err := s.get(t, "/dial?address=127.0.0.1:8000"); err != nil || code != 200 {
		t.Errorf("the server answers %d %q: %v", code, body, err)
	}
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	if exit := s.ended(t); exit != (engine.Exit{Code: 7}) {
		t.Errorf("exit %+v", exit)
	}
	if err := second(r.api.ContainerInspect(t.Context(), c.ID, client.ContainerInspectOptions{})); !isMissing(err) {
		t.Errorf("the container is still there: %v", err)
	}
	if _, err := s.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling what has ended: %v", err)
	}
	if pids, err := s.PIDs(t.Context()); err != nil || len(pids) != 0 {
		t.Errorf("processes of what has ended: %v, %v", pids, err)
	}
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

// The host's IPC namespace and a published port, for whoever asks for them.
func TestPublishAndIPC(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Publish, spec.HostIPC = "127.0.0.1", true
	e := open(t, spec)
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	if h := inspect(t, r, s.container()).Container.HostConfig; !h.IpcMode.IsHost() {
		t.Errorf("IPC %q", h.IpcMode)
	}
	if a := s.Running.(*instance).address; !strings.HasPrefix(a, "127.0.0.1:") || strings.HasSuffix(a, ":8000") {
		t.Errorf("the server is at %s", a)
	}
	if code, body, err := s.get(t, "/dial?address=127.0.0.1:8000"); err != nil || code != 200 {
		t.Errorf("the server answers %d %q: %v", code, body, err)
	}
}

// The cards are asked for by UUID, in the way that was set.
func TestDevices(t *testing.T) {
	gpus := []string{"GPU-1", "MIG-2"}
	for access, want := range map[GPUAccess][]container.DeviceRequest{
		AccessNVIDIA: {{Driver: "nvidia", DeviceIDs: gpus, Capabilities: [][]string{{"gpu"}}}},
		AccessCDI:    {{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=GPU-1", "nvidia.com/gpu=MIG-2"}}},
		AccessNone:   nil,
	} {
		s := &Spec{GPUAccess: access}
		got := s.devices(gpus)
		if len(got) != len(want) || len(got) == 1 && (got[0].Driver != want[0].Driver || !slices.Equal(got[0].DeviceIDs, want[0].DeviceIDs) ||
			len(got[0].Capabilities) != len(want[0].Capabilities)) {
			t.Errorf("%s asks for %+v, want %+v", access, got, want)
		}
		if s.devices(nil) != nil || !slices.Equal(s.visible(nil), noCards) {
			t.Errorf("%s: no cards are not none", access)
		}
	}
}

// Containers cannot reach one another, and the host reaches them all.
func TestIsolation(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	a, b := start(t, e, launch(t, r, "a-1")), start(t, e, launch(t, r, "b-1"))
	a.says(t, "ready")
	b.says(t, "ready")
	// To itself a server connects, so the question is put right.
	for _, c := range []struct {
		from, to *server
		want     int
	}{{a, a, 200}, {b, b, 200}, {a, b, 502}, {b, a, 502}} {
		code, body, err := c.from.get(t, "/dial?address="+c.to.Running.(*instance).address)
		if err != nil || code != c.want {
			t.Errorf("from %s to %s: %d %q, want %d: %v", c.from.Running.(*instance).id, c.to.Running.(*instance).id, code, body, c.want, err)
		}
	}
}

// Of a start that is given up, or fails, nothing is left.
func TestStartGivenUp(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	ctx, cancel := context.WithCancel(t.Context())
	l := launch(t, r, "m-1")
	args := l.Args
	l.Args = func(at engine.Listen) []string { // called right before the container is made
		cancel()
		return args(at)
	}
	if _, err := e.Start(ctx, l); !errors.Is(err, context.Canceled) {
		t.Errorf("the start ends in %v", err)
	}
	if found, err := e.daemon.list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// A network that vanishes between two starts is made again.
func TestNetworkPruned(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	if _, err := r.api.NetworkRemove(t.Context(), e.spec.Network, client.NetworkRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	s := start(t, e, launch(t, r, "m-1"))
	s.says(t, "ready")
	if code, body, err := s.get(t, "/dial?address=127.0.0.1:8000"); err != nil || code != 200 {
		t.Errorf("the server answers %d %q: %v", code, body, err)
	}
}

// A volume serves as a cache as well as a folder does.
func TestVolumeAsCache(t *testing.T) {
	r := newRig(t)
	spec := r.spec()
	spec.Cache = r.gateway + "-cache"
	t.Cleanup(func() {
		if _, err := r.api.VolumeRemove(context.Background(), spec.Cache, client.VolumeRemoveOptions{}); err != nil {
			t.Error(err)
		}
	})
	e := open(t, spec)
	start(t, e, launch(t, r, "m-1", "-leave", "weights")).says(t, "ready")
	start(t, e, launch(t, r, "m-2", "-leave", "weights")).says(t, "ready")
	v, err := r.api.VolumeInspect(t.Context(), spec.Cache, client.VolumeInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(v.Volume.Mountpoint, "weights")); err != nil || string(b) != "xx" {
		t.Errorf("the volume holds %q: %v", b, err)
	}
}
