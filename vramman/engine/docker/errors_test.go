//go:build unix

package docker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Every error that this Docker can be made to show says what to do, and leaves
// no container behind.
func TestErrors(t *testing.T) {
	r := newRig(t)
	foreign(t, r, r.gateway+"-taken-1", nil)
	for _, c := range []struct {
		name string
		set  func(*Spec)
		id   string
		want string // or, behind a bar, what another version of Docker has for it
	}{
		{"no NVIDIA runtime", func(s *Spec) { s.GPUAccess = AccessNVIDIA }, "gpu-1", "nvidia-ctk runtime configure"},
		{"no CDI", func(s *Spec) { s.GPUAccess = AccessCDI }, "cdi-1", "this Docker cannot give cards by CDI|the CDI specification does not have the card"},
		{"name taken", func(*Spec) {}, "taken-1", "another container has the name"},
		{"folder missing", func(s *Spec) { s.Mounts = []engine.Mount{{Source: "/no/such/folder", Target: "/x"}} }, "m-1", "does not exist on Docker's host"},
		{"mounted over", func(s *Spec) {
			s.Cache = t.TempDir()
			s.Mounts = []engine.Mount{{Source: t.TempDir(), Target: cacheTarget}}
		}, "m-1", "two folders are to be mounted at one place"},
		{"image removed", func(s *Spec) { s.Image = "vllm-gateway-test/never:made" }, "m-1", "is not there any more"},
		{"no image", func(s *Spec) { s.Image = "" }, "m-1", "no image is set"},
		{"no image name", func(s *Spec) { s.Image = "Not An Image" }, "m-1", "the name of the image is not valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := r.spec()
			c.set(&spec)
			e := open(t, spec)
			err := second(e.Start(t.Context(), launch(t, r, c.id)))
			said := err != nil && slices.ContainsFunc(strings.Split(c.want, "|"), func(want string) bool { return strings.Contains(err.Error(), want) })
			if !said || !strings.HasPrefix(err.Error(), "docker engine: start "+c.id+": ") {
				t.Errorf("%v\nwant %q", err, c.want)
			}
			if found, err := e.daemon.list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
				t.Errorf("left: %v, %v", found, err)
			}
		})
	}
}

// A network that is not fit is not used.
func TestNetworkErrors(t *testing.T) {
	r := newRig(t)
	name := r.gateway + "-foreign"
	create := func(options client.NetworkCreateOptions) {
		made, err := r.api.NetworkCreate(t.Context(), name, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = r.api.NetworkRemove(context.Background(), made.ID, client.NetworkRemoveOptions{}) })
	}
	remove := func() {
		if _, err := r.api.NetworkRemove(t.Context(), name, client.NetworkRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	spec := r.spec()
	spec.Network = name

	create(client.NetworkCreateOptions{Driver: "bridge"})
	if err := second(spec.Open(t.Context(), zap.NewNop())); err == nil || !strings.Contains(err.Error(), "containers can reach one another") {
		t.Errorf("an open network: %v", err)
	}
	remove()
	create(client.NetworkCreateOptions{ConfigOnly: true})
	if err := second(spec.Open(t.Context(), zap.NewNop())); err == nil || !strings.Contains(err.Error(), "is no bridge") {
		t.Errorf("no bridge: %v", err)
	}
	remove()
	// One that somebody else made and that is fit is used, and stays.
	create(client.NetworkCreateOptions{Driver: "bridge", Options: map[string]string{optionICC: "false"}})
	e := open(t, spec)
	start(t, e, launch(t, r, "m-1")).says(t, "ready")
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	remove()
}

// A user who may not talk to Docker is told how to.
func TestSocketPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	if host := dockerHost(); !strings.HasPrefix(host, "unix://") {
		t.Skipf("Docker is at %s", host)
	}
	newRig(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The folder in which tests are built is root's own, and so is this one until
	// it is opened.
	dir := t.TempDir()
	program := filepath.Join(dir, "opener")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), copyFile(program, exe)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), roleVar+"=opener", "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "add it to the group docker") {
		t.Errorf("%v: %s", err, out)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Without Docker the sentence says what to start or to set.
func TestNoDocker(t *testing.T) {
	for host, want := range map[string]string{
		"unix://" + t.TempDir() + "/none.sock": "systemctl start docker",
		"tcp://127.0.0.1:1":                    "systemctl start docker",
		"nonsense":                             "the address of Docker cannot be used",
	} {
		spec := Spec{Gateway: "g", Host: host}
		if err := second(spec.Open(t.Context(), zap.NewNop())); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q", host, err, want)
		}
	}
}

// What only other versions of Docker say, or other hosts, is known by its text.
func TestRecordedErrors(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host = relay.host
	e := open(t, spec)
	for _, c := range []struct {
		end     string // of the request's path
		status  int
		message string
		want    string
	}{
		// Docker 29.
		{"/start", 500, "failed to create task for container: AMD CDI spec not found", noRuntime},
		{"/create", 400, "unknown or invalid runtime name: nvidia", noRuntime},
		{"/start", 500, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1", unknownCDI},
		{"/start", 404, "failed to set up container networking: network 0c8 not found", "network 0c8 not found"},
		// Docker 20.10.
		{"/start", 500, `could not select device driver "" with capabilities: [[gpu]]`, noRuntime},
		{"/create", 400, "Unknown runtime specified nvidia", noRuntime},
		{"/create", 404, "No such image: vllm/vllm-openai:v0.30.0", "somebody removed it"},
		{"/start", 500, "driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:32768 failed: port is already allocated", portTaken},
		{"/start", 500, "driver failed programming external connectivity on endpoint x: (iptables failed: iptables --wait -t nat -A DOCKER: iptables: No chain/target/match by that name.", firewall},
		{"/create", 500, "write /var/lib/docker/tmp/x: no space left on device", diskFull},
		{"/start", 400, `OCI runtime create failed: exec: "vllm": executable file not found in $PATH: unknown`, noProgram},
		{"/start", 400, "exec /usr/bin/vllm: exec format error", "another processor"},
		// NVIDIA's container toolkit.
		{"/start", 500, "OCI runtime create failed: nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver to a newer version: unknown", oldDrv},
		{"/start", 500, "OCI runtime create failed: nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown", noDriver},
		{"/start", 500, "OCI runtime create failed: nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory: unknown", noDriver},
		{"/start", 500, "OCI runtime create failed: nvidia-container-cli: device error: GPU-1: unknown device: unknown", noCard},
		// What nobody knows is passed on as it is.
		{"/start", 500, "something else", "something else"},
	} {
		relay.answers(c.end, c.status, c.message)
		err := second(e.Start(t.Context(), launch(t, r, "m-1")))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s:\n%v\nwant %q", c.message, err, c.want)
		}
		if found, err := (&daemon{r.api}).list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
			t.Errorf("%s leaves %v, %v", c.message, found, err)
		}
	}
	relay.answers("/networks/create", 500, "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network")
	spec.Network = r.gateway + "-more"
	if err := second(spec.Open(t.Context(), zap.NewNop())); err == nil || !strings.Contains(err.Error(), "docker network prune") {
		t.Errorf("no addresses: %v", err)
	}
	relay.answers("/images/create", 500, "toomanyrequests: You have reached your unauthenticated pull rate limit")
	l := launch(t, r, "m-1")
	l.Image = "vllm-gateway-test/never:made"
	if err := e.Fetch(t.Context(), l); err == nil || !strings.Contains(err.Error(), "answers no more requests for a while") {
		t.Errorf("too many pulls: %v", err)
	}
}

// A start whose answer is lost leaves no container behind.
func TestAnswerLost(t *testing.T) {
	r := newRig(t)
	relay := newRelay(t)
	spec := r.spec()
	spec.Host = relay.host
	e := open(t, spec)
	ctx, cancel := context.WithCancel(t.Context())
	made := make(chan error, 1)
	relay.mu.Lock()
	relay.answer = func(_ http.ResponseWriter, path string) bool {
		if !strings.HasSuffix(path, "/containers/create") {
			return false
		}
		// Docker makes it, and nobody is told.
		b := spec.server(launch(t, r, "m-1"), spec.Network, "sha256:0")
		made <- second((&daemon{r.api}).create(t.Context(), b))
		cancel()
		<-ctx.Done()
		return true
	}
	relay.mu.Unlock()
	if err := second(e.Start(ctx, launch(t, r, "m-1"))); !errors.Is(err, context.Canceled) {
		t.Errorf("start: %v", err)
	}
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	if found, err := (&daemon{r.api}).list(t.Context(), map[string]string{labelGateway: r.gateway}); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}

// Every cause can be found: none stands behind one that is more general.
func TestCauses(t *testing.T) {
	for _, list := range [][]cause{causes, pullCauses, fetchCauses} {
		for _, c := range list {
			message := strings.Join(c.text, " … ")
			if got, ok := find(list, message); !ok || got.say != c.say {
				t.Errorf("%q is explained with %q, not %q", message, got.say, c.say)
			}
			for _, text := range c.text {
				if text != strings.ToLower(text) {
					t.Errorf("%q is not in lower case", text)
				}
			}
		}
	}
}
