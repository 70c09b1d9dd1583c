//go:build unix

package docker

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// A server that ignores the request to end is killed after its grace, and the
// shortest grace counts.
func TestStopKills(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	s := start(t, e, launch(t, r, "m-1", "-deaf"))
	s.says(t, "ready")
	long := make(chan error, 1)
	go func() { long <- s.Stop(context.Background(), time.Hour) }()
	s.says(t, "terminated")
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := <-long; err != nil {
		t.Error(err)
	}
	if exit := s.ended(t); exit != (engine.Exit{Code: -1, Signal: "killed"}) {
		t.Errorf("exit %+v", exit)
	}
	if rest := s.rest(); slices.Contains(rest, "terminated") {
		t.Error("it was asked twice")
	}
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

// A stop whose caller gives up goes on.
func TestStopNotWaitedFor(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	s := start(t, e, launch(t, r, "m-1", "-deaf"))
	s.says(t, "ready")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.says(t, "terminated")
		cancel()
	}()
	if err := s.Stop(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	if err := s.Stop(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

// However a server ends, its end is told with all that it said before, and its
// container is removed.
func TestEnds(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	kill := func(signal string) func(*testing.T, *server) {
		return func(t *testing.T, s *server) {
			if _, err := r.api.ContainerKill(t.Context(), s.container(), client.ContainerKillOptions{Signal: signal}); err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		name  string
		flags []string
		end   func(*testing.T, *server)
		want  engine.Exit
	}{
		{"exits", nil, func(t *testing.T, s *server) { _, _, _ = s.get(t, "/exit?status=3") }, engine.Exit{Code: 3}},
		{"killed from outside", nil, kill("KILL"), engine.Exit{Code: -1, Signal: "killed"}},
		{"terminated from outside", nil, kill("TERM"), engine.Exit{Code: 7}},
		{"ends at once", []string{"-exit", "0"}, func(*testing.T, *server) {}, engine.Exit{}},
		{"out of memory", nil, func(t *testing.T, s *server) {
			const memory = 64 << 20
			if _, err := r.api.ContainerUpdate(t.Context(), s.container(), client.ContainerUpdateOptions{
				Resources: &container.Resources{Memory: memory, MemorySwap: memory},
			}); err != nil {
				t.Error(err)
			}
			_, _, _ = s.get(t, "/eat?bytes="+strconv.Itoa(8*memory))
		}, engine.Exit{Code: -1, Signal: "killed", OOM: true}},
		{"removed from outside", nil, func(t *testing.T, s *server) {
			if _, err := r.api.ContainerRemove(t.Context(), s.container(), client.ContainerRemoveOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}, engine.Exit{Code: -1, Signal: "killed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := launch(t, r, strings.ReplaceAll(c.name, " ", "-"), append(c.flags, "-print", "first\n")...)
			s := start(t, e, l)
			if len(c.flags) == 0 {
				s.says(t, "ready")
			}
			c.end(t, s)
			if exit := s.ended(t); exit != c.want {
				t.Errorf("exit %+v, want %+v", exit, c.want)
			}
			if len(c.flags) > 0 {
				if rest := s.rest(); !slices.Equal(rest, []string{"first"}) {
					t.Errorf("it said %q", rest)
				}
			}
			s.removed(t)
			if _, err := s.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dialling what has ended: %v", err)
			}
		})
	}
}

// A server is refused while it does not listen, without a wait.
func TestDialBeforeItListens(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	l := launch(t, r, "m-1")
	l.Args = func(engine.Listen) []string { return []string{"-hang"} }
	s := start(t, e, l)
	if _, err := s.Dial(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
}

// Both streams arrive, line by line, and a progress bar as its first and last
// state.
func TestLogs(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	s := start(t, e, launch(t, r, "m-1", "-print", "one\n 0%\r 50%\r100%\ntwo\n", "-errors", "three\n", "-exit", "0"))
	s.ended(t)
	rest := s.rest()
	slices.Sort(rest)
	if want := []string{" 0%", "100%", "one", "three", "two"}; !slices.Equal(rest, want) {
		t.Errorf("the lines are %q, want %q", rest, want)
	}
}

// The image's program is not there: with an init process Docker does not say so,
// the server's output does.
func TestBadEntrypoint(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	l := launch(t, r, "m-1")
	l.Image = imageWithout(t, r)
	s := start(t, e, l)
	if exit := s.ended(t); exit.Code != 127 {
		t.Errorf("exit %+v", exit)
	}
	rest := strings.Join(s.rest(), "\n")
	if !strings.Contains(rest, "the image lacks the program") {
		t.Errorf("it said %q", rest)
	}
}

// imageWithout makes an image without the program that it is to run.
func imageWithout(t *testing.T, r *rig) string {
	t.Helper()
	name := r.gateway + "-empty:1"
	made, err := r.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{Image: r.image})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{r.api}
	if _, err := r.api.ContainerCommit(t.Context(), made.ID, client.ContainerCommitOptions{
		Reference: name, Changes: []string{`ENTRYPOINT ["/nothing"]`},
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.remove(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := r.api.ImageRemove(context.Background(), name, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return name
}

// The processes are those by which a card knows its users: the host's numbers.
func TestPIDs(t *testing.T) {
	r := newRig(t)
	cards := t.TempDir()
	if err := simcard.Ensure(cards, "GPU-1", "card", 80<<30); err != nil {
		t.Fatal(err)
	}
	spec := r.spec()
	spec.Mounts = []engine.Mount{{Source: cards, Target: cards}}
	e := open(t, spec)
	l := launch(t, r, "m-1")
	l.Image = dockertest.Image(t, r.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim")
	l.GPUs = []string{"GPU-1"}
	l.Args = func(at engine.Listen) []string {
		return []string{"--host", at.Host, "--port", strconv.Itoa(at.Port), "--gpu-memory-utilization", "0.5"}
	}
	l.Env = []string{simcard.FolderEnv + "=" + cards, "VLLM_SIM_LOAD_TIME=10ms", "VLLM_API_KEY=sesame"}
	s := start(t, e, l)
	s.eventually(t, "the server is ready", func() bool {
		code, _, err := s.get(t, "/health")
		return err == nil && code == 200
	})
	// The key opens what is to be opened, and nothing else does.
	if code, _, err := s.get(t, "/v1/models"); err != nil || code != 401 {
		t.Errorf("without the key the server answers %d: %v", code, err)
	}
	card, err := simcard.Read(cards, "GPU-1")
	if err != nil || len(card.Uses) != 1 {
		t.Fatalf("the card is used by %+v: %v", card.Uses, err)
	}
	pids, err := s.PIDs(t.Context())
	if err != nil || !slices.Contains(pids, card.Uses[0].PID) {
		t.Errorf("the card's user is process %d, the instance has %v: %v", card.Uses[0].PID, pids, err)
	}
	if slices.Contains(pids, os.Getpid()) || slices.Contains(pids, 1) {
		t.Errorf("%v are not the host's numbers of this container", pids)
	}
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if card, err := simcard.Read(cards, "GPU-1"); err != nil || card.Used() != 0 {
		t.Errorf("%d bytes are in use after the stop: %v", card.Used(), err)
	}
}

// eventually waits until a condition holds.
func (s *server) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-look.C:
		case <-s.Done():
			t.Fatalf("the server ended (%v) before %s", s.Exit(), what)
		case <-limit:
			t.Fatalf("still not so: %s", what)
		}
	}
}

// All processes of a server are known, and end with it.
func TestChildren(t *testing.T) {
	r := newRig(t)
	e := open(t, r.spec())
	s := start(t, e, launch(t, r, "m-1", "-child"))
	s.says(t, "ready")
	s.says(t, "ready") // the child
	pids, err := s.PIDs(t.Context())
	if err != nil || len(pids) != 3 { // with the init process
		t.Errorf("the processes are %v: %v", pids, err)
	}
	if err := s.Stop(t.Context(), patience); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
}
