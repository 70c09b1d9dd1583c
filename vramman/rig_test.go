package vramman

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// rig is an engine and its cards in memory: servers that load for a while,
// answer over pipes, and use what they were charged.
type rig struct {
	mu      sync.Mutex
	cards   map[string]int64 // UUID → total
	order   []string
	running []*rigInstance
	keep    bool // its servers live on when the gateway ends
	pids    int
	load    time.Duration
	fail    map[string]string // model → the line with which its start fails
	refuse  map[string]error  // "fetch a", "start a" → why the engine does not
	counted map[string]int    // "start a", "stop a", "stop"
	foreign map[string]int64  // what other programs use, by card
	strays  []string          // what the engine runs and the manager does not know
	hidden  bool              // the engine lists nothing
	nap     rigNap
}

type rigInstance struct {
	rig   *rig
	l     *engine.Launch
	pid   int
	ready time.Time
	done  chan struct{}
	once  sync.Once
	exit  engine.Exit
	more  int64 // used beyond its charge
	takes int64 // instead of its charge; 0: its charge
	naps  bool
}

func newRig(load time.Duration, cards ...int64) *rig {
	r := &rig{cards: make(map[string]int64), load: load, fail: make(map[string]string), counted: make(map[string]int), foreign: make(map[string]int64)}
	for n, total := range cards {
		uuid := fmt.Sprintf("GPU-%d", n)
		r.cards[uuid] = total
		r.order = append(r.order, uuid)
	}
	return r
}

// count is how often something happened.
func (r *rig) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if what == "running" {
		return len(r.running)
	}
	return r.counted[what]
}

func (r *rig) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counted)
}

// fix has a model's starts succeed from now on.
func (r *rig) fix(model string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.fail, model)
}

type rigEngine struct{ *rig }

func (r rigEngine) Outlives() bool { return r.keep }

func (rigEngine) Key() string                                                { return "rig" }
func (r rigEngine) Open(context.Context, *zap.Logger) (engine.Engine, error) { return r, nil }
func (rigEngine) Reconcile(context.Context) (int, error)                     { return 0, nil }
func (rigEngine) Close(context.Context) error                                { return nil }

func (r rigEngine) Fetch(_ context.Context, l *engine.Launch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refuse["fetch "+l.Model]
}

func (r rigEngine) Start(_ context.Context, l *engine.Launch) (engine.Running, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.refuse["start "+l.Model]; err != nil {
		return nil, err
	}
	r.pids++
	r.counted["start "+l.Model]++
	i := &rigInstance{rig: r.rig, l: l, pid: r.pids, ready: time.Now().Add(r.load), done: make(chan struct{})}
	r.running = append(r.running, i)
	if !i.sized() {
		time.AfterFunc(time.Second, func() { i.end(engine.Exit{Code: 1}) })
	}
	if line := r.fail[l.Model]; line != "" {
		time.AfterFunc(time.Second, func() {
			l.Output(line)
			i.end(engine.Exit{Code: 1})
		})
	}
	return i, nil
}

func (i *rigInstance) end(e engine.Exit) {
	i.once.Do(func() {
		i.rig.mu.Lock()
		defer i.rig.mu.Unlock()
		for n, o := range i.rig.running {
			if o == i {
				i.rig.running = append(i.rig.running[:n:n], i.rig.running[n+1:]...)
			}
		}
		i.exit = e
		close(i.done)
	})
}

func (i *rigInstance) Dial(context.Context) (net.Conn, error) {
	select {
	case <-i.done:
		return nil, errors.New("connection refused")
	default:
	}
	if time.Now().Before(i.ready) {
		return nil, errors.New("connection refused")
	}
	client, srv := net.Pipe()
	l := &oneConn{c: srv, done: make(chan struct{})}
	go func() {
		s := &http.Server{Handler: http.HandlerFunc(i.answer)}
		s.ConnState = func(_ net.Conn, st http.ConnState) {
			if st == http.StateClosed {
				l.once.Do(func() { close(l.done) })
			}
		}
		_ = s.Serve(l)
	}()
	go func() { // the server's end closes its connections
		select {
		case <-i.done:
			_ = srv.Close()
		case <-l.done:
		}
	}()
	return client, nil
}

// oneConn is a listener that accepts one connection.
type oneConn struct {
	c    net.Conn
	used bool
	done chan struct{}
	once sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.used {
		l.used = true
		return l.c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func (i *rigInstance) PIDs(context.Context) ([]int, error) { return []int{i.pid}, nil }
func (i *rigInstance) Done() <-chan struct{}               { return i.done }
func (i *rigInstance) Exit() engine.Exit                   { return i.exit }
func (i *rigInstance) Stop(context.Context, time.Duration) error {
	i.rig.mu.Lock()
	i.rig.counted["stop "+i.l.Model]++
	i.rig.counted["stop"]++
	i.rig.mu.Unlock()
	time.Sleep(500 * time.Millisecond) // of the bubble's time: what stopping takes
	i.end(engine.Exit{})
	return nil
}

type rigGPUs struct{ *rig }

func (rigGPUs) Key() string                                                { return "rig" }
func (r rigGPUs) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return r, nil }
func (rigGPUs) Environ() []string                                          { return nil }
func (rigGPUs) Close() error                                               { return nil }

func (r rigGPUs) Read(context.Context) ([]gpu.Card, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var cards []gpu.Card
	for _, uuid := range r.order {
		c := gpu.Card{UUID: uuid, Total: r.cards[uuid], Used: r.foreign[uuid]}
		for _, i := range r.running {
			if slices.Contains(i.l.GPUs, uuid) {
				c.Used += i.uses()
				c.Processes = append(c.Processes, gpu.Process{PID: i.pid, Used: i.uses()})
			}
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// rigServer answers anything on its pipe.
type rigServer struct{ noServer }

func (rigServer) ReadyRequest() *http.Request {
	r, err := http.NewRequest(http.MethodGet, "http://instance/health", nil)
	if err != nil {
		panic(err)
	}
	return r
}

func (rigServer) Line(l string) server.Line {
	switch {
	case strings.Contains(l, "out of memory"):
		return server.Line{Class: server.ClassConfig, Why: "the model does not fit"}
	case strings.Contains(l, "less than desired"):
		return server.Line{Class: server.ClassMemory, Why: "less was free than it was to take"}
	}
	return server.Line{}
}

// spec makes a configuration on the rig's cards.
func (r *rig) spec(models ...ModelSpec) *Spec {
	s := &Spec{
		Name: "rig", Engine: rigEngine{r}, GPUs: rigGPUs{r}, Eviction: scheduler.LRU{}, Log: zap.NewNop(),
		Pools: []Pool{{Name: "all", Budget: 1}}, MaxWaitForTurn: 2 * time.Minute, DrainTimeout: 10 * time.Minute,
	}
	s.Models = models
	return s
}

func rigModel(name string, gib int64) ModelSpec {
	return ModelSpec{
		Name: name, Pool: "all", Server: rigServer{}, Launch: server.Model{Name: name, TensorParallel: 1},
		Need: placement.Need{Bytes: gib * worldGiB}, StartTimeout: 10 * time.Minute, StopGrace: 10 * time.Second,
		MaxConcurrent: 2, MaxQueue: 4, MaxWait: 15 * time.Minute,
	}
}

// open runs a manager with a configuration in force until the test ends.
func (r *rig) open(t *testing.T, s *Spec) (*Manager, *Generation) {
	t.Helper()
	m := New()
	m.readHost = func(bool) (host.Memory, error) {
		return host.Memory{Total: 256 * worldGiB, Available: 200 * worldGiB}, nil
	}
	return m, r.openIn(t, m, s)
}

// openIn is open for a manager that was made already.
func (r *rig) openIn(t *testing.T, m *Manager, s *Spec) *Generation {
	t.Helper()
	g := NewGeneration(s)
	m.Apply(g)
	m.Commit(g)
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return g
}

// hold takes a ticket and a lease; the returned function gives both back.
func hold(t *testing.T, ctx context.Context, g *Generation, name string) (func(), error) {
	t.Helper()
	m, err := g.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	ticket := new(Ticket)
	if err := m.Admit(ctx, time.Now(), ticket); err != nil {
		return nil, err
	}
	l, err := ticket.Acquire(ctx, nil)
	if err != nil {
		ticket.Return(time.Now())
		return nil, err
	}
	return func() {
		l.Release(time.Now())
		ticket.Return(time.Now())
	}, nil
}

func mustHold(t *testing.T, g *Generation, name string) func() {
	t.Helper()
	release, err := hold(t, t.Context(), g, name)
	if err != nil {
		t.Fatalf("acquiring %s: %v", name, err)
	}
	return release
}

func wantCode(t *testing.T, err error, code Code) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want %s", err, code)
	}
	return e
}

func mustStatus(t *testing.T, m *Manager) *Status {
	t.Helper()
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}
