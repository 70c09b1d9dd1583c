package caddymodule

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// fakeEngine starts instances that are all one HTTP handler in this process.
type fakeEngine struct {
	handler http.Handler
	refuse  error  // why nothing starts, if set
	only    string // the model that does not start, if it is not all
}

func (*fakeEngine) Key() string { return "fake" }

func (e *fakeEngine) Open(context.Context, *zap.Logger) (engine.Engine, error) { return e, nil }

func (*fakeEngine) Reconcile(context.Context) (int, error) { return 0, nil }

func (*fakeEngine) Fetch(context.Context, *engine.Launch) error { return nil }

func (e *fakeEngine) Start(_ context.Context, l *engine.Launch) (engine.Running, error) {
	if e.refuse != nil && (e.only == "" || e.only == l.Model) {
		return nil, e.refuse
	}
	return &fakeRunning{srv: httptest.NewServer(e.handler), done: make(chan struct{})}, nil
}

func (*fakeEngine) Close(context.Context) error { return nil }

type fakeRunning struct {
	srv  *httptest.Server
	done chan struct{}
	stop sync.Once
}

func (r *fakeRunning) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", r.srv.Listener.Addr().String())
}

func (*fakeRunning) PIDs(context.Context) ([]int, error) { return []int{1}, nil }

func (r *fakeRunning) Stop(context.Context, time.Duration) error {
	r.stop.Do(func() {
		r.srv.CloseClientConnections()
		r.srv.Close()
		close(r.done)
	})
	return nil
}

func (r *fakeRunning) Done() <-chan struct{} { return r.done }

func (*fakeRunning) Exit() engine.Exit { return engine.Exit{} }

// fakeServer is a program that is ready when /health says so.
type fakeServer struct{}

func (fakeServer) Key() string                                             { return "fake" }
func (fakeServer) Args(server.Model, server.Place, engine.Listen) []string { return nil }
func (fakeServer) FetchCommand(server.Model) []string                      { return nil }

func (fakeServer) Env(server.Model, server.Place) []string { return nil }
func (fakeServer) Managed([]string) string                 { return "" }
func (fakeServer) Line(string) server.Line                 { return server.Line{} }
func (fakeServer) KeepAlive() time.Duration                { return time.Minute }

func (fakeServer) ReadyRequest() *http.Request {
	r, _ := http.NewRequest(http.MethodGet, "http://vllm/health", nil)
	return r
}

// fakeCards is one card that nobody uses.
type fakeCards struct{}

func (fakeCards) Key() string                                              { return "fake" }
func (fakeCards) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return fakeCards{}, nil }
func (fakeCards) Environ() []string                                        { return nil }
func (fakeCards) Close() error                                             { return nil }

func (fakeCards) Read(context.Context) ([]gpu.Card, error) {
	return []gpu.Card{{UUID: "GPU-1", Total: 24 << 30}}, nil
}

// appWith is an app with one model, named tiny and tiny-alias, whose server is h.
func appWith(t *testing.T, e *fakeEngine, change func(*vramman.ModelSpec)) *App {
	t.Helper()
	model := modelNamed("tiny")
	model.Aliases = []string{"tiny-alias"}
	if change != nil {
		change(&model)
	}
	return appOfModels(t, e, model)
}

// modelNamed is a model's spec with usual limits.
func modelNamed(name string) vramman.ModelSpec {
	return vramman.ModelSpec{
		Name: name, Pool: "all", Server: fakeServer{},
		Launch: server.Model{Name: name, TensorParallel: 1}, Need: placement.Need{Bytes: 1 << 30},
		StartTimeout: time.Minute, StopGrace: time.Second, MaxConcurrent: 2, MaxQueue: 2, MaxWait: time.Minute,
	}
}

// appOfModels is an app with these models, each served by the engine's handler.
func appOfModels(t *testing.T, e *fakeEngine, models ...vramman.ModelSpec) *App {
	t.Helper()
	defaults, err := openai.ParseDefaults([]byte(`{"temperature":0.5}`))
	if err != nil {
		t.Fatal(err)
	}
	a := &App{
		log: zap.NewNop(), manager: vramman.New(), requestDefaults: map[string]*openai.Defaults{"tiny": defaults},
		generation: vramman.NewGeneration(&vramman.Spec{
			Name: "test", Engine: e, GPUs: fakeCards{}, Eviction: scheduler.LRU{},
			Pools:  []vramman.Pool{{Name: "all", Budget: 0.9}},
			Models: models, MaxWaitForTurn: time.Minute, DrainTimeout: time.Second, Log: zap.NewNop(),
		}),
	}
	a.manager.Apply(a.generation)
	a.manager.Commit(a.generation)
	t.Cleanup(func() {
		// Not the test's context, which has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := a.manager.Close(ctx); err != nil {
			t.Errorf("closing the manager: %v", err)
		}
	})
	return a
}

// admissionTo is the handler vllm_admission of an app.
func admissionTo(a *App, core zapcore.Core) *Admission {
	return &Admission{
		app: a, generation: a.generation, full: new(refusals), log: zap.New(core),
		limits: bodyLimits{max: 1 << 10, memory: 1 << 20, budget: new(byteBudget)},
	}
}
