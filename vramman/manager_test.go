package vramman

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

func TestRequestStartsItsModelOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(30*time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		began := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { mustHold(t, g, "a")() })
		}
		wg.Wait()
		if took := time.Since(began); took < 30*time.Second || took > 31*time.Second {
			t.Errorf("the first request took %v, the load takes 30s", took)
		}
		began = time.Now()
		mustHold(t, g, "a")()
		if took := time.Since(began); took != 0 {
			t.Errorf("a request to a ready model took %v", took)
		}
		if r.count("start a") != 1 {
			t.Errorf("%d starts", r.count("start a"))
		}
		s := mustStatus(t, m)
		if s.GPUs[0].Charged != 8*worldGiB || s.GPUs[0].Foreign != 0 || s.GPUs[0].Free != 8*worldGiB || s.Models[0].State != "ready" {
			t.Errorf("status: %+v", s)
		}
	})
}

func TestLeastRecentlyUsedMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8), rigModel("b", 8), rigModel("c", 8)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		time.Sleep(time.Minute)
		mustHold(t, g, "a")()
		mustHold(t, g, "c")()
		if r.count("stop b") != 1 || r.count("stop a") != 0 {
			t.Errorf("stops: %v, want b alone", r.counts())
		}
		var evicted bool
		for _, d := range mustStatus(t, m).Decisions {
			evicted = evicted || d.Action == "evict" && d.Model == "b" && strings.Contains(d.Reason, "c needs its room")
		}
		if !evicted {
			t.Error("the status does not say why b was evicted")
		}
	})
}

func TestBusyModelIsDrainedForAnothersTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(rigModel("a", 16), rigModel("b", 16)))
		release := mustHold(t, g, "a")
		time.Sleep(time.Minute)
		began := time.Now()
		got := make(chan func())
		go func() { got <- mustHold(t, g, "b") }()
		time.Sleep(2*time.Minute - time.Second)
		mustHold(t, g, "a")() // not yet drained: still served
		time.Sleep(2 * time.Second)
		synctest.Wait()
		again := make(chan func())
		go func() { again <- mustHold(t, g, "a") }() // drained: waits behind b
		time.Sleep(time.Minute)
		if r.count("stop a") != 0 {
			t.Fatal("a leased instance was stopped")
		}
		release()
		releaseB := <-got
		if waited := time.Since(began); waited > 4*time.Minute {
			t.Errorf("b waited %v", waited)
		}
		releaseB()
		(<-again)()
	})
}

func TestDrainDeadlineCutsWhatOutlivesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(rigModel("a", 16), rigModel("b", 16)))
		release := mustHold(t, g, "a")
		defer release()
		began := time.Now()
		mustHold(t, g, "b")()
		if waited := time.Since(began); waited < 12*time.Minute || waited > 13*time.Minute {
			t.Errorf("b waited %v: its turn comes after 2m, the drain ends after 10m", waited)
		}
	})
}

func TestFailedStartIsToldAndBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		r.fail["a"] = "CUDA out of memory"
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		_, err := hold(t, t.Context(), g, "a")
		if e := wantCode(t, err, CodeStartFailed); !strings.Contains(e.Message, "does not fit") {
			t.Errorf("the error does not say why: %v", e)
		}
		_, err = hold(t, t.Context(), g, "a")
		if e := wantCode(t, err, CodeStartFailed); e.RetryAfter <= 0 || e.RetryAfter > 10*time.Second {
			t.Errorf("Retry-After is %v, the back-off is 10s", e.RetryAfter)
		}
		if r.count("start a") != 1 {
			t.Errorf("%d starts: the back-off does not hold", r.count("start a"))
		}
		time.Sleep(10 * time.Second)
		r.fix("a")
		mustHold(t, g, "a")()
		if s := mustStatus(t, m); s.Models[0].Failure != nil {
			t.Errorf("a success leaves the failure: %+v", s.Models[0].Failure)
		}
	})
}

func TestModelThatCannotFitIsRefusedWithFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(rigModel("a", 40)))
		_, err := hold(t, t.Context(), g, "a")
		e := wantCode(t, err, CodeUnplaceable)
		for _, want := range []string{"40.0 GiB", "pool all", "16.0 GiB"} {
			if !strings.Contains(e.Message, want) {
				t.Errorf("%q is not in: %s", want, e.Message)
			}
		}
	})
}

func TestDeadInstanceIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(rigModel("a", 8)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		i := r.running[0]
		r.mu.Unlock()
		i.end(engine.Exit{Code: -1, Signal: "killed"})
		synctest.Wait()
		mustHold(t, g, "a")()
		if r.count("start a") != 2 {
			t.Errorf("%d starts", r.count("start a"))
		}
	})
}

func TestQueueIsBoundedInSizeAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(rigModel("a", 8)))
		defer mustHold(t, g, "a")()
		defer mustHold(t, g, "a")()
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error)
		for n := range 4 {
			c := t.Context()
			if n == 0 {
				c = ctx
			}
			go func() {
				_, err := hold(t, c, g, "a")
				results <- err
			}()
			synctest.Wait()
		}
		_, err := hold(t, t.Context(), g, "a")
		wantCode(t, err, CodeQueueFull)
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the request that was cancelled got %v", err)
		}
		for range 3 {
			wantCode(t, <-results, CodeQueueTimeout)
		}
		m, _ := g.Find(t.Context(), "a")
		if q := m.Queue(); q.Depth != 0 || q.Serving != 2 || q.Refused != 1 {
			t.Errorf("queue: %+v", q)
		}
	})
}

func TestIdleModelIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		a := rigModel("a", 8)
		a.IdleTimeout = 5 * time.Minute
		m, g := r.open(t, r.spec(a))
		release := mustHold(t, g, "a")
		time.Sleep(20 * time.Minute)
		release()
		time.Sleep(5*time.Minute - time.Second)
		if r.count("stop a") != 0 {
			t.Fatal("stopped before its idle timeout")
		}
		time.Sleep(3 * time.Second)
		if s := mustStatus(t, m); r.count("stop a") != 1 || s.GPUs[0].Charged != 0 {
			t.Errorf("stops %d, charged %d", r.count("stop a"), s.GPUs[0].Charged)
		}
	})
}

func TestAlwaysOnStartsByItselfAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		a := rigModel("a", 8)
		a.AlwaysOn, a.IdleTimeout = true, time.Minute
		m, g := r.open(t, r.spec(a, rigModel("b", 16)))
		time.Sleep(time.Hour)
		_, err := hold(t, t.Context(), g, "b")
		if e := wantCode(t, err, CodeUnplaceable); strings.Contains(e.Message, "a-1") || strings.Contains(e.Message, "GPU-0") {
			t.Errorf("the refusal names cards or other models: %s", e.Message)
		}
		ds := mustStatus(t, m).Decisions
		if last := ds[len(ds)-1]; !strings.Contains(last.Reason, "a-1 holds 8.0 GiB (always on)") {
			t.Errorf("the status does not give the reason: %s", last.Reason)
		}
		if r.count("start a") != 1 || r.count("stop a") != 0 {
			t.Errorf("counts: %v", r.counts())
		}
	})
}

func TestReloadRestartsOnlyWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 64*worldGiB)
		changed := rigModel("changed", 8)
		m, g := r.open(t, r.spec(rigModel("same", 8), changed, rigModel("gone", 8)))
		same, old, gone := mustHold(t, g, "same"), mustHold(t, g, "changed"), mustHold(t, g, "gone")

		// A configuration that fails elsewhere changes nothing.
		changed.Launch.MaxModelLen = 1000
		bad := NewGeneration(r.spec(rigModel("new", 8)))
		m.Apply(bad)
		m.Withdraw(bad)
		synctest.Wait()
		if r.count("stop") != 0 || len(mustStatus(t, m).Models) != 3 {
			t.Fatal("a withdrawn configuration had an effect")
		}

		next := NewGeneration(r.spec(rigModel("same", 8), changed, rigModel("new", 8)))
		m.Apply(next)
		m.Commit(next)
		m.Withdraw(g)
		mustHold(t, next, "new")()
		mustHold(t, next, "same")()
		if _, err := g.Find(t.Context(), "new"); err != nil {
			t.Errorf("the old configuration's handlers do not find the new model: %v", err)
		}
		if _, err := next.Find(t.Context(), "gone"); err == nil {
			t.Error("a removed model is still found")
		}
		time.Sleep(time.Minute)
		if r.count("stop") != 0 {
			t.Fatalf("stopped under their requests: %v", r.counts())
		}
		old()
		gone()
		time.Sleep(time.Minute)
		same()
		mustHold(t, next, "changed")()
		if r.count("stop changed") != 1 || r.count("stop gone") != 1 || r.count("stop same") != 0 || r.count("start changed") != 2 {
			t.Errorf("counts: %v", r.counts())
		}
	})
}

func TestQueuedRequestsKeepTheirPlaceOverAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		changed := rigModel("a", 8)
		changed.MaxConcurrent = 1 // one at a time: the order can be seen
		m, g := r.open(t, r.spec(changed))
		one := mustHold(t, g, "a")
		served := make(chan int, 3)
		for n := range 3 {
			go func() {
				release := mustHold(t, g, "a")
				served <- n
				release()
			}()
			synctest.Wait()
		}
		changed.MaxQueue, changed.Launch.MaxNumSeqs = 1, 4
		next := NewGeneration(r.spec(changed))
		m.Apply(next)
		m.Commit(next)
		m.Withdraw(g)
		one()
		for want := range 3 {
			if got := <-served; got != want {
				t.Errorf("request %d was served in place of %d", got, want)
			}
		}
	})
}

func TestCloseRefusesWaitersAndStopsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Hour, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		got := make(chan error)
		go func() {
			_, err := hold(t, t.Context(), g, "a")
			got <- err
		}()
		time.Sleep(time.Minute)
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantCode(t, <-got, CodeShuttingDown)
		if r.count("running") != 0 {
			t.Errorf("%d instances outlive the manager", r.count("running"))
		}
		_, err := hold(t, t.Context(), g, "a")
		wantCode(t, err, CodeShuttingDown)
	})
}

func TestServersLiveOnWhereTheEngineLetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 32*worldGiB)
		r.keep = true
		m, g := r.open(t, r.spec(rigModel("a", 8), rigModel("b", 8)))
		mustHold(t, g, "a")()
		go func() { _, _ = hold(t, t.Context(), g, "b") }()
		time.Sleep(5 * time.Second) // b is starting: nobody would know it again
		if err := m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if r.count("stop a") != 0 || r.count("stop b") != 1 {
			t.Errorf("counts: %v", r.counts())
		}
		r.mu.Lock()
		a := r.running[0]
		r.mu.Unlock()
		a.end(engine.Exit{}) // or its connections would outlive the test
	})
}

// TestHammer has many goroutines use few cards at once: everybody is served or
// told why not, and nothing is left.
func TestHammer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2*time.Second, 16*worldGiB, 16*worldGiB)
		var models []ModelSpec
		for n := range 6 {
			m := rigModel(fmt.Sprintf("m%d", n), int64(6+n))
			m.MaxConcurrent, m.MaxQueue = 4, 1000
			models = append(models, m)
		}
		m, g := r.open(t, r.spec(models...))
		var wg sync.WaitGroup
		for n := range 64 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(n), 1))
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(600))*time.Second)
					release, err := hold(t, ctx, g, models[rng.IntN(len(models))].Name)
					if err == nil {
						time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
						release()
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("refused: %v", err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		for _, s := range mustStatus(t, m).Models {
			if s.Queue.Serving != 0 || s.Queue.Depth != 0 {
				t.Errorf("%s: %+v", s.Name, s.Queue)
			}
		}
	})
}
