// This file owns how the tests start servers on a real Docker and see them end.

package docker

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"go.uber.org/zap/zaptest"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

const (
	// patience bounds what must happen but may take its time on a busy machine.
	patience = 60 * time.Second
	// probe is the program of most tests' servers.
	probe = "github.com/vllm-gateway/vllm-gateway/vramman/engine/docker/testdata/probe"
)

// rig is a real Docker and one gateway on it.
type rig struct {
	api     *client.Client
	gateway string
	image   string
}

// newRig connects to Docker and has the test fail if it leaves anything there,
// goroutines of the engine included.
func newRig(t *testing.T) *rig {
	t.Helper()
	name := "test-" + strings.ToLower(rand.Text()[:10])
	r := &rig{api: dockertest.Connect(t), gateway: name}
	r.image = dockertest.Image(t, r.api, probe)
	dockertest.NothingLeft(t, r.api, name)
	t.Cleanup(func() { noGoroutines(t) })
	return r
}

// spec is one that leaves nothing behind.
func (r *rig) spec() Spec {
	return Spec{Gateway: r.gateway, Image: r.image, Network: r.gateway + "-net", GPUAccess: AccessNone, StopOnExit: true}
}

// open opens an engine, and closes it when the test ends.
func open(t *testing.T, s Spec) *Engine {
	t.Helper()
	e, err := s.Open(t.Context(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e.(*Engine)
}

// server is a running server of a test with its lines so far.
type server struct {
	engine.Running
	lines chan string
}

// launch is one of the probe with the given flags.
func launch(t *testing.T, r *rig, id string, flags ...string) *engine.Launch {
	return &engine.Launch{
		Gateway: r.gateway, Model: "org/model", ID: id, Hash: "c0ffee",
		GPUs: []string{"GPU-1", "GPU-2"}, Charge: 3 << 30,
		Args: func(l engine.Listen) []string {
			if l.Host != "0.0.0.0" || l.Port != 8000 {
				t.Errorf("to listen at %+v", l)
			}
			return slices.Concat([]string{"-port", strconv.Itoa(l.Port)}, flags)
		},
	}
}

// start starts a launch.
func start(t *testing.T, e *Engine, l *engine.Launch) *server {
	t.Helper()
	s := &server{lines: make(chan string, 1000)}
	l.Output = func(line string) { s.lines <- line }
	running, err := e.Start(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	s.Running = running
	return s
}

// container is the ID of a server's container.
func (s *server) container() string { return s.Running.(*instance).container }

// says waits for a line and returns those before it.
func (s *server) says(t *testing.T, want string) []string {
	t.Helper()
	var before []string
	limit := time.After(patience)
	for {
		select {
		case line := <-s.lines:
			if line == want {
				return before
			}
			before = append(before, line)
		case <-limit:
			t.Fatalf("the server has said %q, not %q", before, want)
		}
	}
}

// ended waits for the end.
func (s *server) ended(t *testing.T) engine.Exit {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	return s.Exit()
}

// removed waits until the container is gone.
func (s *server) removed(t *testing.T) {
	t.Helper()
	select {
	case <-s.Running.(*instance).gone:
	case <-time.After(patience):
		t.Fatal("the container is not removed")
	}
}

// get asks a server something.
func (s *server) get(t *testing.T, path string) (int, string, error) {
	t.Helper()
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx) },
	}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://server" + path)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// noGoroutines fails a test that leaves goroutines of the engine behind.
func noGoroutines(t *testing.T) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	limit := time.After(patience)
	for {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left := 0
		for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
			if bytes.Contains(stack, []byte("engine/docker.(*Engine)")) || bytes.Contains(stack, []byte("engine/docker.(*instance)")) {
				left++
			}
		}
		if left == 0 {
			return
		}
		select {
		case <-look.C:
		case <-limit:
			t.Fatalf("%d goroutines are left:\n%s", left, stacks)
		}
	}
}

// second drops what comes with an error.
func second[T any](_ T, err error) error { return err }

func inspect(t *testing.T, r *rig, container string) client.ContainerInspectResult {
	t.Helper()
	c, err := r.api.ContainerInspect(t.Context(), container, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// foreign runs a container that is nobody's of the gateway, and removes it when
// the test ends.
func foreign(t *testing.T, r *rig, name string, labels map[string]string) string {
	t.Helper()
	b := &blueprint{name: name}
	b.config.Image, b.config.Labels, b.config.Cmd = r.image, labels, []string{"-hang"}
	d := &daemon{r.api}
	id, err := d.create(t.Context(), b)
	if err == nil {
		err = d.start(t.Context(), id)
	}
	if err != nil {
		t.Fatal(fmt.Errorf("container %s: %w", name, err))
	}
	t.Cleanup(func() {
		if err := d.remove(context.Background(), id); err != nil {
			t.Error(err)
		}
	})
	return id
}
