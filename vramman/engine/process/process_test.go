//go:build linux

// This file owns the tests of the engine as a whole.

package process

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("HF_HOME", "/models")
	t.Setenv("LC_ALL", "C.UTF-8")
	t.Setenv("GATEWAY_SECRET", "must not pass")
	e := open(t, "FROM_SPEC=spec", "FROM_LAUNCH=spec", "CUDA_VISIBLE_DEVICES=spec")
	s := run(t, e, "-env")
	s.ended(t)
	lines := s.rest()
	for _, want := range []string{
		"env HF_HOME=/models", "env LC_ALL=C.UTF-8", "env FROM_SPEC=spec", "env FROM_LAUNCH=launch",
		"env CUDA_VISIBLE_DEVICES=GPU-1,GPU-2", "env PATH=" + os.Getenv("PATH"),
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "SECRET") || strings.Contains(strings.ToLower(line), "watcher") {
			t.Errorf("the server sees %q", line)
		}
	}
}

func TestStartCancelled(t *testing.T) {
	e := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := e.Start(ctx, &engine.Launch{ID: "x", Args: func(engine.Listen) []string { return nil }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	path, gone := fifo(t)
	e := open(t)
	polite := run(t, e, "-hold", path)
	polite.ready(t, 1)
	if err := e.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	gone()
	select {
	case <-polite.Done():
	default:
		t.Error("a server runs on a closed engine")
	}
	_, err := e.Start(t.Context(), &engine.Launch{ID: "late", Args: func(engine.Listen) []string { return nil }})
	if !errors.Is(err, errClosed) {
		t.Errorf("a start after close: %v", err)
	}
	if n, err := e.Reconcile(t.Context()); n != 0 || err != nil {
		t.Errorf("reconcile: %d, %v", n, err)
	}
}

func TestCloseInAHurry(t *testing.T) {
	path, gone := fifo(t)
	e := open(t)
	s := run(t, e, "-deaf", "-hold", path)
	s.ready(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	gone()
	s.ended(t)
}

func TestLeavesNothingBehind(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	round := func() {
		e := open(t)
		s := run(t, e)
		s.ready(t, 1)
		if err := s.Stop(context.Background(), time.Hour); err != nil {
			t.Fatal(err)
		}
		killed := run(t, e, "-deaf")
		killed.ready(t, 1)
		if err := unix.Kill(killed.watcherPID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed.ended(t)
		if err := e.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	round()
	before := files()
	for range 3 {
		round()
	}
	if after := files(); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
	if all, err := processes(); err != nil || len(descendants(all, os.Getpid())) > 0 {
		t.Errorf("processes left: %v %v", descendants(all, os.Getpid()), err)
	}
	// A goroutine may be at its very last instruction still.
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		if n := strings.Count(string(stacks), "process.(*instance)") + strings.Count(string(stacks), "process.(*Engine)"); n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines are left:\n%s", stacks)
		}
	}
}
