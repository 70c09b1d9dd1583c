//go:build linux

// This file owns the tests of one running server.

package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func TestOutputAndExitStatus(t *testing.T) {
	e := open(t)
	s := run(t, e, "-print", `first\n10%\r20%\r100%\nlast`, "-exit", "3")
	if exit := s.ended(t); exit != (engine.Exit{Code: 3}) {
		t.Errorf("exit %+v, want status 3", exit)
	}
	if got := strings.Join(s.rest(), "|"); got != "first|10%|100%|laston stderr" {
		t.Errorf("lines %q", got)
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string
		grace time.Duration
		want  engine.Exit
	}{
		{"ends by itself", nil, time.Hour, engine.Exit{Code: 7}},
		{"is killed", []string{"-deaf"}, 0, engine.Exit{Code: -1, Signal: "killed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, gone := fifo(t)
			s := run(t, open(t), append(c.flags, "-hold", path, "-child", "-deaf,-hold,"+path)...)
			s.ready(t, 2)
			// Together, as a removed model and an eviction may.
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					if err := s.Stop(context.Background(), c.grace); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			gone()
			if exit := s.ended(t); exit != c.want {
				t.Errorf("exit %+v, want %+v", exit, c.want)
			}
			if err := s.Stop(context.Background(), 0); err != nil {
				t.Errorf("stopping what has ended: %v", err)
			}
		})
	}
}

func TestStopAsksOnce(t *testing.T) {
	s := run(t, open(t), "-deaf")
	s.ready(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		if err := s.Stop(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("a stop that is not waited for: %v", err)
		}
	}
	if line := <-s.lines; line != "terminated" {
		t.Fatalf("line %q", line)
	}
	// A shorter grace overrules the hour.
	if err := s.Stop(context.Background(), 0); err != nil {
		t.Fatal(err)
	}
	if rest := s.rest(); len(rest) > 0 {
		t.Errorf("asked more than once: %q", rest)
	}
}

func TestStopGoesOnWithoutItsCaller(t *testing.T) {
	s := run(t, open(t))
	s.ready(t, 1)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Stop(ctx, time.Hour)
	if exit := s.ended(t); exit.Code != 7 {
		t.Errorf("exit %+v", exit)
	}
}

func TestDial(t *testing.T) {
	e := open(t)
	s := &server{lines: make(chan string, 10)}
	r, err := e.Start(t.Context(), &engine.Launch{
		ID:     "deaf", // it never listens
		Args:   func(l engine.Listen) []string { s.port = l.Port; return nil },
		Output: func(line string) { s.lines <- line },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Running = r
	s.ready(t, 1)
	if _, err := s.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it does not listen: %v", err)
	}

	s = run(t, e)
	s.ready(t, 1)
	c, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := s.Stop(context.Background(), time.Hour); err != nil {
		t.Fatal(err)
	}
	// Somebody else takes the port; nobody must be sent there.
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, err := s.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after its end: %v", err)
	}
}
