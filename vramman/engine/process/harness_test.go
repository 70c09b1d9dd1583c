//go:build linux

// This file owns how the tests start servers and see them end.

package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// patience bounds what must happen but may take its time on a busy machine.
const patience = 30 * time.Second

// open makes an engine that runs this binary as the server, and closes it when
// the test ends.
func open(t *testing.T, env ...string) *Engine {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := Spec{Command: []string{exe}, Env: append(env, serverRole...)}.Open(t.Context(), zaptest.NewLogger(t))
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
	port  int
	lines chan string
}

// run starts a server with the given flags; "-port" is completed.
func run(t *testing.T, e *Engine, args ...string) *server {
	t.Helper()
	s := &server{lines: make(chan string, 1000)}
	r, err := e.Start(t.Context(), &engine.Launch{
		ID:   t.Name(),
		GPUs: []string{"GPU-1", "GPU-2"},
		Env:  []string{"FROM_LAUNCH=launch"},
		Args: func(l engine.Listen) []string {
			s.port = l.Port
			return slices.Concat(args, []string{"-port", strconv.Itoa(l.Port)})
		},
		Output: func(line string) { s.lines <- line },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Running = r
	return s
}

// ready waits until n processes have said that they are, and returns their
// numbers in order.
func (s *server) ready(t *testing.T, n int) []int {
	t.Helper()
	var pids []int
	for len(pids) < n {
		select {
		case line := <-s.lines:
			if pid, ok := strings.CutPrefix(line, "ready "); ok {
				number, _ := strconv.Atoi(pid)
				pids = append(pids, number)
			}
		case <-s.Done():
			t.Fatalf("the server ended: %+v", s.Exit())
		case <-time.After(patience):
			t.Fatal("the server does not get ready")
		}
	}
	slices.Sort(pids)
	return pids
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

// rest are the lines that nobody has read; the server has ended.
func (s *server) rest() []string {
	close(s.lines)
	var rest []string
	for line := range s.lines {
		rest = append(rest, line)
	}
	return rest
}

// fifo makes a named pipe; the returned function waits until no process holds
// it open for writing any more. Nothing else tells reliably that a process that
// is not our child has ended.
func fifo(t *testing.T) (path string, gone func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "held")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return path, func() {
		t.Helper()
		r.SetReadDeadline(time.Now().Add(patience))
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("a process is left that holds the pipe: %v", err)
		}
	}
}

// watcherPID is the process number of a server's watcher.
func (s *server) watcherPID() int {
	return s.Running.(*instance).child.(*watched).cmd.Process.Pid
}

func livePIDs(t *testing.T, s *server) []int {
	t.Helper()
	pids, err := s.PIDs(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(pids)
	return pids
}

func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for _, p := range all {
		if p.parent == pid {
			children = append(children, p.pid)
		}
	}
	return children
}

// startGateway runs a gateway with one server of the given flags and returns
// when as many processes are ready.
func startGateway(t *testing.T, ready int, flags ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	gateway := exec.Command(exe, flags...)
	gateway.Env = append(os.Environ(), roleVar+"=gateway")
	out, err := gateway.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := gateway.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = gateway.Process.Kill()
		_ = gateway.Wait()
	})
	for lines := bufio.NewScanner(out); ready > 0; {
		if !lines.Scan() {
			t.Fatal("the gateway ended")
		}
		if strings.HasPrefix(lines.Text(), "ready ") {
			ready--
		}
	}
	return gateway
}

func second(_ engine.Running, err error) error { return err }
