//go:build linux

// This file owns the tests of what ends with the gateway, and how.

package process

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func TestServerInheritsNoFiles(t *testing.T) {
	// A file that somebody in the gateway opened without close-on-exec, as
	// drivers' libraries do.
	fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	e := open(t)
	s := &server{lines: make(chan string, 10)}
	s.Running, err = e.Start(t.Context(), &engine.Launch{
		ID:     "files",
		Args:   func(engine.Listen) []string { return nil },
		Output: func(line string) { s.lines <- line },
	})
	if err != nil {
		t.Fatal(err)
	}
	pid := s.ready(t, 1)[0]
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()))
		if f.Name() != "0" && target == "/dev/null" || strings.HasPrefix(target, "socket:") {
			t.Errorf("file %s is %s", f.Name(), target)
		}
	}
}

func TestServersEndTakesItsChildrenAlong(t *testing.T) {
	path, gone := fifo(t)
	s := run(t, open(t), "-child", "-deaf,-hold,"+path)
	pids := s.ready(t, 2)
	main := pids[0]
	if p := s.watcherPID(); !slices.Contains(childrenOf(t, p), main) {
		main = pids[1]
	}
	if err := unix.Kill(main, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := s.ended(t)
	gone()
	if exit.Code != -1 || exit.Signal != "killed" {
		t.Errorf("exit %+v", exit)
	}
}

func TestDaemonsAreCaught(t *testing.T) {
	path, gone := fifo(t)
	s := run(t, open(t), "-daemon", "-child", "-deaf,-hold,"+path)
	pids := s.ready(t, 2)
	if got := livePIDs(t, s); !slices.Equal(got, pids) {
		t.Errorf("PIDs %v, want %v", got, pids)
	}
	if err := s.Stop(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	gone()
}

func TestPIDsContainGrandchildren(t *testing.T) {
	s := run(t, open(t), "-child", "-child,-deaf")
	pids := s.ready(t, 3)
	if got := livePIDs(t, s); !slices.Equal(got, pids) {
		t.Errorf("PIDs %v, want %v", got, pids)
	}
	if err := s.Stop(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := livePIDs(t, s); len(got) != 0 {
		t.Errorf("after its end it has PIDs %v", got)
	}
}

// The gateway is killed in a way that leaves it nothing to do, and the server
// and what it started end all the same.
func TestGatewayKilled(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"server and grandchild", nil},
		{"daemon", []string{"-daemon"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, gone := fifo(t)
			gateway := startGateway(t, 2, append(c.flags, "-deaf", "-hold", path, "-child", "-deaf,-hold,"+path)...)
			if err := gateway.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			gone()
		})
	}
}

// The watcher is killed while the gateway can do nothing about it.
func TestWatcherKilledBesideAHangingGateway(t *testing.T) {
	path, gone := fifo(t)
	gateway := startGateway(t, 1, "-deaf", "-hold", path)
	watchers := childrenOf(t, gateway.Process.Pid)
	if len(watchers) != 1 {
		t.Fatalf("the gateway has the children %v, want its watcher alone", watchers)
	}
	if err := gateway.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(watchers[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone()
}

// The watcher is killed: the server dies by its parent death signal, what it
// started dies by the gateway.
func TestWatcherKilled(t *testing.T) {
	path, gone := fifo(t)
	s := run(t, open(t), "-deaf", "-hold", path, "-child", "-deaf,-hold,"+path)
	s.ready(t, 2)
	if err := unix.Kill(s.watcherPID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := s.ended(t)
	gone()
	if exit.Code != -1 || exit.Signal != "killed" {
		t.Errorf("exit %+v", exit)
	}
	if err := s.Stop(context.Background(), 0); err != nil {
		t.Errorf("stopping it: %v", err)
	}
}

// A service manager signals all processes of a service at once.
func TestWatcherOutlivesSignals(t *testing.T) {
	s := run(t, open(t))
	s.ready(t, 1)
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		if err := unix.Kill(s.watcherPID(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Stop(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	// Only the watcher could ask the server, and tell what it ended with.
	if exit := s.ended(t); exit.Code != 7 {
		t.Errorf("exit %+v", exit)
	}
}
