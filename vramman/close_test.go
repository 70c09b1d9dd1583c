package vramman

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// slow is a rig whose engine and cards take their time to open, and which
// counts what is open.
type slow struct {
	*rig
	open time.Duration
	deaf bool // servers do not stop
	n    atomic.Int32
}

type slowEngine struct {
	rigEngine
	s *slow
}

func (e slowEngine) Open(context.Context, *zap.Logger) (engine.Engine, error) {
	time.Sleep(e.s.open)
	e.s.n.Add(1)
	return e, nil
}

func (e slowEngine) Close(context.Context) error {
	e.s.n.Add(-1)
	e.s.mu.Lock()
	all := append([]*rigInstance(nil), e.s.running...)
	e.s.mu.Unlock()
	for _, i := range all {
		i.end(engine.Exit{Code: -1, Signal: "killed"})
	}
	return nil
}

func (e slowEngine) Start(ctx context.Context, l *engine.Launch) (engine.Running, error) {
	r, err := e.rigEngine.Start(ctx, l)
	if e.s.deaf {
		return deaf{r}, err
	}
	return r, err
}

type deaf struct{ engine.Running }

func (deaf) Stop(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

type slowGPUs struct {
	rigGPUs
	s *slow
}

func (g slowGPUs) Open(context.Context, *zap.Logger) (gpu.Inventory, error) {
	time.Sleep(g.s.open)
	g.s.n.Add(1)
	return g, nil
}
func (g slowGPUs) Close() error { g.s.n.Add(-1); return nil }

func (s *slow) spec(models ...ModelSpec) *Spec {
	sp := s.rig.spec(models...)
	sp.Engine, sp.GPUs = slowEngine{rigEngine{s.rig}, s}, slowGPUs{rigGPUs{s.rig}, s}
	return sp
}

func TestCloseWhileOpeningLeavesNothingOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{rig: newRig(time.Second, 16*worldGiB), open: 10 * time.Second}
		m := New()
		g := NewGeneration(s.spec(rigModel("a", 8)))
		m.Apply(g)
		m.Commit(g)
		time.Sleep(time.Second)
		if err := m.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := s.n.Load(); n != 0 {
			t.Errorf("%d of engine and inventory stay open", n)
		}
	})
}

func TestCloseWithADeafServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{rig: newRig(time.Second, 16*worldGiB), deaf: true}
		m := New()
		g := NewGeneration(s.spec(rigModel("a", 8)))
		m.Apply(g)
		m.Commit(g)
		mustHold(t, g, "a")()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		began := time.Now()
		err := m.Close(ctx)
		t.Logf("Close took %v: %v", time.Since(began), err)
		if n := s.n.Load(); n != 0 || err != nil {
			t.Errorf("%d of engine and inventory stay open, %d servers run: %v", n, s.count("running"), err)
		}
		s.mu.Lock()
		all := append([]*rigInstance(nil), s.running...)
		s.mu.Unlock()
		for _, i := range all {
			i.end(engine.Exit{})
		}
	})
}

func TestNothingStaysOpenAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{rig: newRig(time.Second, 16*worldGiB)}
		m := New()
		g := NewGeneration(s.spec(rigModel("a", 8)))
		m.Apply(g)
		m.Commit(g)
		mustHold(t, g, "a")()
		if err := m.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := s.n.Load(); n != 0 {
			t.Errorf("%d of engine and inventory stay open", n)
		}
		late := NewGeneration(s.spec(rigModel("a", 8)))
		m.Apply(late)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		if _, err := late.Find(ctx, "a"); ctx.Err() != nil {
			t.Errorf("a generation applied after Close keeps requests waiting: %v", err)
		}
	})
}

// The real owner, and what a passed drain deadline does to it.
func TestPassedDrainDeadlineDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(5*time.Minute, 16*worldGiB)
		a := rigModel("a", 8)
		sp := r.spec(a, rigModel("b", 8))
		sp.DrainTimeout = time.Minute
		m, g := r.open(t, sp)
		release := mustHold(t, g, "a")
		defer release()
		a.Launch.MaxModelLen = 1
		sp2 := r.spec(a, rigModel("b", 8))
		sp2.DrainTimeout = time.Minute
		next := NewGeneration(sp2)
		m.Apply(next)
		m.Commit(next)
		mustHold(t, next, "b")()
	})
}
