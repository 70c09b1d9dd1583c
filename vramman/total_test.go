package vramman

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var doors = flag.Int("doors", 40, "how many random worlds the simulation of admission plays")

// doorModels makes models without an owner, each with one ready instance.
func doorModels(n, slots, waiting int) (*Manager, map[string]*Model) {
	mgr, models := New(), make(map[string]*Model)
	for i := range n {
		m := readyModel(slots)
		m.name, m.mgr = fmt.Sprint("m", i), mgr
		m.setLimits(slots, waiting)
		models[m.name] = m
	}
	return mgr, models
}

// doorWorld plays clients in front of several models whose limits change.
type doorWorld struct {
	t      *testing.T
	mgr    *Manager
	models map[string]*Model
	mu     sync.Mutex
	rng    *rand.Rand

	serving atomic.Int64
	total   atomic.Int64 // the same in total; 0: not bounded
	served  atomic.Int64
}

func (w *doorWorld) random(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (w *doorWorld) pause(most time.Duration) {
	time.Sleep(time.Duration(w.random(int(most))))
}

// request is one request from its arrival to its end.
func (w *doorWorld) request(m *Model) {
	ctx := context.Background()
	if w.random(4) == 0 { // it will give up
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(w.random(int(20*time.Second))))
		defer cancel()
	}
	var t Ticket
	t.Request = Request{Client: fmt.Sprint(w.random(5)), Class: w.random(2), Cost: int64(w.random(1000))}
	now := time.Now()
	if w.random(6) == 0 {
		t.Request.Deadline = now.Add(time.Duration(w.random(int(30 * time.Second))))
	}
	if err := m.Admit(ctx, now, &t); err != nil {
		if e, ok := errors.AsType[*Error](err); !ok && ctx.Err() == nil {
			w.t.Errorf("refused with %v", err)
		} else if ok && e.Code == CodeShuttingDown {
			w.t.Errorf("refused with %v", e)
		}
		return
	}
	n := w.serving.Add(1)
	if limit := w.total.Load(); limit > 0 && n > limit {
		w.t.Errorf("%d are served, %d may be in total", n, limit)
	}
	w.served.Add(1)
	for range 1 + w.random(3) {
		w.pause(3 * time.Second)
		t.Served(int64(w.random(600)))
	}
	if w.random(2) == 0 {
		t.Used(int64(w.random(2000)), int64(w.random(500)))
	}
	w.serving.Add(-1)
	t.Return(time.Now())
}

// TestAdmissionSimulation has random clients come and go in front of models whose
// limits, their own and those in total, change all the time. In the bubble of
// synctest a place or a slot that is lost ends in a deadlock, which fails.
func TestAdmissionSimulation(t *testing.T) {
	for range *doors {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			w := &doorWorld{t: t, rng: rand.New(rand.NewPCG(seed, 0))}
			w.mgr, w.models = doorModels(1+w.random(4), 1+w.random(3), w.random(30))
			if w.random(2) == 0 { // a limit in total that is never less than this
				w.total.Store(int64(1 + w.random(4)))
				w.mgr.limitTotal(int(w.total.Load()), 5+w.random(40), w.models)
			}
			var clients sync.WaitGroup
			for _, m := range w.models {
				m.maxWait.Store(int64(time.Duration(1+w.random(3)) * time.Minute))
				for range 60 {
					clients.Go(func() {
						w.pause(time.Minute)
						w.request(m)
					})
				}
			}
			for range 20 { // reloads
				w.pause(5 * time.Second)
				for _, m := range w.models {
					m.setLimits(1+w.random(4), w.random(40))
				}
				if w.total.Load() == 0 {
					w.mgr.limitTotal(w.random(4), w.random(20), w.models)
				} else {
					w.mgr.limitTotal(int(w.total.Load()), w.random(30), w.models)
				}
			}
			clients.Wait()
			w.check()
		})
	}
}

// check looks for what is left when everybody is gone.
func (w *doorWorld) check() {
	w.t.Helper()
	if w.served.Load() == 0 {
		w.t.Error("nobody was served")
	}
	for name, m := range w.models {
		if q := m.Queue(); q.Serving != 0 || q.Depth != 0 {
			w.t.Errorf("%s: %d slots and %d places leak", name, q.Serving, q.Depth)
		}
	}
	if used, queued := w.mgr.total.used.Load(), w.mgr.total.queued.Load(); used != 0 || queued != 0 {
		w.t.Errorf("%d slots and %d places leak in total", used, queued)
	}
}

// occupy has n requests take slots or places of a model, and returns what ends them
// one by one, in the order in which they were admitted.
func occupy(t *testing.T, m *Model, n int, r Request, admitted chan<- string, leave <-chan struct{}) {
	t.Helper()
	for range n {
		go func() {
			ticket := Ticket{Request: r}
			if err := m.Admit(t.Context(), time.Now(), &ticket); err != nil {
				t.Errorf("%s: %v", m.name, err)
				return
			}
			admitted <- m.name
			<-leave
			ticket.Return(time.Now())
		}()
		synctest.Wait()
	}
}

func TestSlotsInTotalGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mgr, models := doorModels(3, 10, 100)
		mgr.limitTotal(1, 0, models)
		admitted, leave := make(chan string, 100), make(chan struct{})
		occupy(t, models["m0"], 4, Request{}, admitted, leave)
		occupy(t, models["m1"], 2, Request{}, admitted, leave)
		occupy(t, models["m2"], 1, Request{Class: 1}, admitted, leave)
		order := ""
		for range 7 {
			order += <-admitted + " "
			leave <- struct{}{}
			synctest.Wait()
		}
		if want := "m0 m2 m0 m1 m0 m1 m0 "; order != want {
			t.Errorf("slots went to %s, want %s", order, want)
		}
	})
}

func TestPlacesInTotalAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mgr, models := doorModels(2, 1, 100)
		admitted, leave := make(chan string, 100), make(chan struct{})
		occupy(t, models["m0"], 4, Request{}, admitted, leave) // 1 served, 3 wait
		mgr.limitTotal(0, 4, models)                           // and count from now on
		occupy(t, models["m1"], 2, Request{}, admitted, leave) // 1 served, 1 waits
		var ticket Ticket
		err := models["m1"].Admit(t.Context(), time.Now(), &ticket)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeQueueFull {
			t.Errorf("the fifth that waits is told %v", err)
		}
		mgr.limitTotal(0, 0, models)
		occupy(t, models["m1"], 1, Request{}, admitted, leave)
		if q := mgr.total.queued.Load(); q != 0 {
			t.Errorf("%d places count where there is no limit", q)
		}
		for range 7 {
			leave <- struct{}{}
		}
		synctest.Wait()
	})
}

// Without limits in total, requests touch nothing that models share.
func TestNothingIsSharedWithoutTotals(t *testing.T) {
	m, ticket := readyModel(1), new(Ticket)
	m.mgr.total.mu.Lock() // whoever takes it hangs
	for range 3 {
		if err := request(t.Context(), m, ticket); err != nil {
			t.Fatal(err)
		}
	}
	if used := m.mgr.total.used.Load(); used != 0 {
		t.Errorf("%d slots are counted in total", used)
	}
}

func TestRaisedLimitInTotalLetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mgr, models := doorModels(2, 10, 100)
		mgr.limitTotal(1, 0, models)
		admitted, leave := make(chan string, 100), make(chan struct{})
		occupy(t, models["m0"], 3, Request{}, admitted, leave)
		occupy(t, models["m1"], 3, Request{}, admitted, leave)
		for _, limit := range []int{3, 0} { // 0 is no limit
			mgr.limitTotal(limit, 0, models)
			synctest.Wait()
			want := limit
			if limit == 0 {
				want = 6
			}
			if len(admitted) != want {
				t.Errorf("%d are served where %d may be", len(admitted), want)
			}
		}
		for range 6 {
			leave <- struct{}{}
		}
	})
}
