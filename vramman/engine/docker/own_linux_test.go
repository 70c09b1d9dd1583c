// This file owns the errors that only a Docker can show that is a test's own:
// one whose disk, addresses, ports, firewall or programs have gone.

package docker

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
)

// TestOwnDocker starts Dockers, each of which lacks something.
func TestOwnDocker(t *testing.T) {
	if !dockertest.Apart(t) {
		return
	}
	t.Run("disk full", diskFullEverywhere)
	t.Run("addresses used up", addressesUsedUp)
	t.Run("ports and firewall", portsAndFirewall)
	t.Run("programs missing", programsMissing)
}

// diskFullEverywhere: whatever the disk is full for, the sentence is the same, and
// everything works once there is room.
func diskFullEverywhere(t *testing.T) {
	const size = 8 << 20 // of the image to pull
	d := dockertest.NewOwn(t, dockertest.Options{Disk: 64 << 20})
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host, spec.Cache = relay.host, t.TempDir()
	if err := syscall.Mount("tmpfs", spec.Cache, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(spec.Cache, syscall.MNT_DETACH) })
	l := launch(t, r, "m-1")
	l.Image = pushed(t, r, dockertest.Registry(t, false), size)
	e := open(t, spec)

	d.Fill(size / 3)
	wantSaid(t, "a download", e.Fetch(t.Context(), l), diskFull)
	d.Fill(size * 3 / 2)
	wantSaid(t, "unpacking", e.Fetch(t.Context(), l), diskFull)
	d.Fill(0)
	wantSaid(t, "a container", second(e.Start(t.Context(), launch(t, r, "m-2"))), diskFull)
	noContainers(t, r)
	d.Free()
	relay.before("/start", func() { d.Fill(0) })
	wantSaid(t, "a start", second(e.Start(t.Context(), launch(t, r, "m-3"))), diskFull)
	noContainers(t, r)
	relay.before("/start", func() {})
	d.Free()
	wantSaid(t, "weights", e.Fetch(t.Context(), fetch(t, r, "m-4", "-fill", "weights")), diskFull)

	if err := e.Fetch(t.Context(), l); err != nil {
		t.Errorf("with room again: %v", err)
	}
	start(t, e, launch(t, r, "m-5")).says(t, "ready")
}

// before has something done before requests are handed on whose path ends so.
func (r *relay) before(end string, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(_ http.ResponseWriter, path string) bool {
		if strings.HasSuffix(path, end) {
			do()
		}
		return false
	}
}

// addressesUsedUp: there is room for two networks, and on each for one container.
func addressesUsedUp(t *testing.T) {
	dockertest.NewOwn(t, dockertest.Options{Config: map[string]any{
		"bip": "10.212.0.1/24", "default-address-pools": []any{map[string]any{"base": "10.213.0.0/29", "size": 30}},
	}})
	r := newRig(t)
	spec := r.spec()
	e := open(t, spec)
	spec.Network = r.gateway + "-second"
	open(t, spec)
	spec.Network = r.gateway + "-third"
	wantSaid(t, "a network", opens(t, spec), "docker network prune")

	start(t, e, launch(t, r, "m-1")).says(t, "ready")
	wantSaid(t, "a container", second(e.Start(t.Context(), launch(t, r, "m-2"))), "has no address left for another server")
	if found, err := e.daemon.list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 1 {
		t.Errorf("the containers are %v, %v", found, err)
	}

	registriesOutOfReach(t, r, e, "10.212.0.1")
}

// portsAndFirewall: the ports that Docker chooses from are other programs', then
// its firewall rules are gone.
func portsAndFirewall(t *testing.T) {
	const ports = "/proc/sys/net/ipv4/ip_local_port_range"
	usual, err := os.ReadFile(ports)
	if err != nil {
		t.Fatal(err)
	}
	choose := func(from, to int) {
		if err := os.WriteFile(ports, fmt.Appendf(nil, "%d %d", from, to), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.WriteFile(ports, usual, 0o600) })
	taken := make([]net.Listener, 2)
	const first = 42000
	for i := range taken {
		if taken[i], err = new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", first+i)); err != nil {
			t.Fatal(err)
		}
		defer taken[i].Close()
	}

	choose(first, first+len(taken)-1)
	dockertest.NewOwn(t, dockertest.Options{})
	r := newRig(t)
	spec := r.spec()
	spec.Publish = "127.0.0.1"
	e := open(t, spec)
	wantSaid(t, "other programs' ports", second(e.Start(t.Context(), launch(t, r, "m-1"))), portTaken)
	noContainers(t, r)
	for _, ln := range taken {
		_ = ln.Close()
	}
	a, b := start(t, e, launch(t, r, "m-2")), start(t, e, launch(t, r, "m-3"))
	a.says(t, "ready")
	b.says(t, "ready")
	wantSaid(t, "other containers' ports", second(e.Start(t.Context(), launch(t, r, "m-4"))), portTaken)
	// Only who asks for a certain port meets this.
	certain := e.spec.server(launch(t, r, "m-5"), spec.Network, "sha256:0")
	certain.host.PortBindings[port][0].HostPort = strconv.Itoa(first)
	wantSaid(t, "another container's port", try(t, e.daemon, certain), portTaken)
	if err := a.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}

	for _, args := range [][]string{{"-F"}, {"-X"}} {
		out, err := exec.CommandContext(t.Context(), "iptables", append([]string{"--wait", "-t", "nat"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("iptables %q: %v: %s", args, err, out)
		}
	}
	wantSaid(t, "a port without rules", second(e.Start(t.Context(), launch(t, r, "m-6"))), firewall)
	spec.Network += "-other"
	wantSaid(t, "a network without rules", opens(t, spec), firewall)
}

// programsMissing: Docker's host lacks programs that Docker calls, and the proxy
// by which it is to reach registries. NVIDIA's toolkit says by its hook why it
// cannot give a card, then it is removed while Docker's configuration still
// names it.
func programsMissing(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	d := dockertest.NewOwn(t, dockertest.Options{
		Programs: map[string]string{
			"docker-init": "", "ps": "", "nvidia-container-runtime": "",
			"nvidia-container-runtime-hook": "cat >/dev/null; cat '" + text + "' >&2; exit 1",
		},
		Env: []string{"HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1"},
	})
	r := newRig(t)
	e := open(t, r.spec())
	wantSaid(t, "without docker-init", second(e.Start(t.Context(), launch(t, r, "m-1"))), "lacks the program docker-init")
	noContainers(t, r)
	other := foreign(t, r, r.gateway+"-other", nil)
	wantSaid(t, "without ps", second(e.daemon.pids(t.Context(), other)), "lacks the program ps")
	l := launch(t, r, "m-2")
	l.Image = "registry.invalid/model:v1"
	wantSaid(t, "without the proxy", e.Fetch(t.Context(), l), unreachableRegistry)

	spec := e.spec
	spec.GPUAccess = AccessNVIDIA
	server := func() *blueprint {
		b := spec.server(launch(t, r, "m-3"), spec.Network, "sha256:0")
		b.host.Init = nil
		return b
	}
	for message, want := range map[string]string{
		"nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0": oldDrv,
		"nvidia-container-cli: initialization error: nvml error: driver not loaded":  noDriver,
		"nvidia-container-cli: device error: GPU-1: unknown device":                  noCard,
	} {
		if err := os.WriteFile(text, []byte(message), 0o600); err != nil {
			t.Fatal(err)
		}
		wantSaid(t, message, try(t, e.daemon, server()), want)
	}
	b := server()
	b.host.Runtime = "nvidia"
	wantSaid(t, "an unknown runtime", second(e.daemon.create(t.Context(), b)), noRuntime)

	d.Kill()
	d.Configure(map[string]any{"default-runtime": "nvidia", "runtimes": map[string]any{"nvidia": map[string]any{"path": "nvidia-container-runtime"}}})
	d.Start()
	wantSaid(t, "a runtime that is removed", try(t, e.daemon, server()), noRuntime)
}

// try makes a container, and returns why it does not start.
func try(t *testing.T, d *daemon, b *blueprint) error {
	t.Helper()
	id, err := d.create(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	err = d.start(t.Context(), id)
	if removed := d.remove(t.Context(), id); removed != nil {
		t.Error(removed)
	}
	return err
}

// registriesOutOfReach: there is no way to a registry, or Docker does not trust
// what it finds there. The address is one of this host but no loopback one: with
// those Docker is content with less.
func registriesOutOfReach(t *testing.T, r *rig, e *Engine, address string) {
	t.Helper()
	pull := func(registry, want string) {
		l := launch(t, r, "m-1")
		l.Image = registry + "/model:v1"
		wantSaid(t, l.Image, e.Fetch(t.Context(), l), want)
	}
	pull("192.0.2.1:5000", unreachableRegistry)
	serve := func(begin func(*httptest.Server)) string {
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
		_ = s.Listener.Close()
		s.Listener = ln
		begin(s)
		t.Cleanup(s.Close)
		return ln.Addr().String()
	}
	pull(serve((*httptest.Server).Start), "the registry speaks plain HTTP")
	pull(serve((*httptest.Server).StartTLS), "does not trust the certificate")
}
