package vramman

import (
	"context"
	"testing"
	"time"
)

// readyModel makes a model with one ready instance and no owner: the hot path
// needs none.
func readyModel(slots int) *Model {
	m := &Model{name: "a", mgr: New()}
	m.maxWait.Store(int64(time.Minute))
	m.setLimits(slots, 10)
	i := &Instance{id: "a-1", model: m}
	i.word.set(StateReady)
	m.ready.Store(&[]*Instance{i})
	return m
}

// request is one request's bookkeeping: ticket and lease, in and out.
func request(ctx context.Context, m *Model, t *Ticket) error {
	now := time.Now()
	t.Request = Request{Client: "somebody", Cost: 250}
	if err := m.Admit(ctx, now, t); err != nil {
		return err
	}
	l, err := t.Acquire(ctx, nil)
	if err != nil {
		return err
	}
	l.Release(now)
	t.Used(200, 100)
	t.Return(now)
	return nil
}

func TestReadyModelCostsNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	m, ticket := readyModel(10), new(Ticket)
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if err := request(ctx, m, ticket); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for one request", n)
	}
}

func BenchmarkBookkeeping(b *testing.B) {
	b.Run("1", func(b *testing.B) {
		m, ticket := readyModel(10), new(Ticket)
		b.ReportAllocs()
		for b.Loop() {
			if err := request(context.Background(), m, ticket); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64", func(b *testing.B) {
		m := readyModel(1000)
		b.SetParallelism(32)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			ticket := new(Ticket)
			for pb.Next() {
				if err := request(context.Background(), m, ticket); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
