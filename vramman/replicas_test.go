package vramman

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// throng has so many requests come for a model, each of which is served for a time.
// The returned function waits for them and says how many were refused.
func throng(t *testing.T, g *Generation, name string, n int, service time.Duration) (wait func() (refused int)) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for range n {
		wg.Go(func() {
			release, err := hold(t, t.Context(), g, name)
			if err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
				return
			}
			time.Sleep(service)
			release()
		})
	}
	return func() int {
		wg.Wait()
		return refused
	}
}

func replicaModel(name string, gib int64, replicas int) ModelSpec {
	m := rigModel(name, gib)
	m.Replicas, m.MaxQueue, m.MaxWait = replicas, 100, time.Hour
	return m
}

func ready(t *testing.T, m *Manager, model string) (n int) {
	t.Helper()
	for _, i := range mustStatus(t, m).Instances {
		if i.Model == model && i.State == "ready" {
			n++
		}
	}
	return n
}

// A long queue brings a second instance, which serves with the first and goes when
// it is idle, long before the first.
func TestReplicaForALongQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		model := replicaModel("a", 12, 4)
		model.IdleTimeout = 30 * time.Minute
		m, g := r.open(t, r.spec(model))
		mustHold(t, g, "a")()
		wait := throng(t, g, "a", 20, 30*time.Second) // two at a time: five minutes
		time.Sleep(time.Minute)
		if n := ready(t, m, "a"); n != 2 {
			t.Errorf("%d instances serve", n)
		}
		began := time.Now()
		if refused := wait(); refused > 0 {
			t.Errorf("%d are refused", refused)
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("the crowd is served %v later: by one instance", took)
		}
		time.Sleep(7 * time.Minute)
		if n := ready(t, m, "a"); n != 1 || r.count("stop a") != 1 {
			t.Errorf("%d instances are left, %v", n, r.counts())
		}
		mustHold(t, g, "a")()
		if r.count("start a") != 2 { // the third would have found no room
			t.Errorf("%v", r.counts())
		}
	})
}

// A replica makes nobody go, and a short queue is no reason for one.
func TestReplicaTakesFreeRoomOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		m, g := r.open(t, r.spec(replicaModel("a", 12, 2), rigModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		wait := throng(t, g, "a", 12, 30*time.Second)
		time.Sleep(2 * time.Minute)
		if n := ready(t, m, "a"); n != 1 || r.count("stop") != 0 {
			t.Errorf("%d instances serve, %v", n, r.counts())
		}
		wait()
		if len(mustStatus(t, m).Instances) != 2 {
			t.Errorf("%+v", mustStatus(t, m).Instances)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		m, g := r.open(t, r.spec(replicaModel("a", 12, 2)))
		mustHold(t, g, "a")()
		wait := throng(t, g, "a", 3, 2*time.Minute) // one waits, and two are served at once
		time.Sleep(time.Minute)
		if n := ready(t, m, "a"); n != 1 {
			t.Errorf("%d instances serve", n)
		}
		wait()
	})
}

// Others may have a replica's room, though its model is busy.
func TestReplicaMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		model := replicaModel("a", 12, 2)
		model.AlwaysOn = true
		m, g := r.open(t, r.spec(model, rigModel("b", 12)))
		time.Sleep(time.Minute)
		throng(t, g, "a", 12, 30*time.Second)()
		if n := ready(t, m, "a"); n != 2 {
			t.Fatalf("%d instances serve", n)
		}
		release := mustHold(t, g, "a") // on one of them
		mustHold(t, g, "b")()
		release()
		if n := ready(t, m, "a"); n != 1 || r.count("stop a") != 1 {
			t.Errorf("%d instances serve, %v", n, r.counts())
		}
	})
}

// When the first instance dies, the other serves on, and nobody is told.
func TestReplicaTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		m, g := r.open(t, r.spec(replicaModel("a", 12, 2)))
		mustHold(t, g, "a")()
		throng(t, g, "a", 12, 30*time.Second)()
		if n := ready(t, m, "a"); n != 2 {
			t.Fatalf("%d instances serve", n)
		}
		r.mu.Lock()
		first := r.running[0]
		r.mu.Unlock()
		first.end(first.exit)
		time.Sleep(time.Second)
		began := time.Now()
		mustHold(t, g, "a")()
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("it was away for %v", waited)
		}
		if s := mustStatus(t, m); s.Models[0].State != "ready" || s.Models[0].Failure != nil {
			t.Errorf("%+v", s.Models[0])
		}
	})
}

// A replica that does not come up is nobody's trouble, and is tried again later.
func TestReplicaThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		m, g := r.open(t, r.spec(replicaModel("a", 12, 2)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		r.fail["a"] = "CUDA out of memory"
		r.mu.Unlock()
		wait := throng(t, g, "a", 12, 30*time.Second)
		time.Sleep(25 * time.Second)
		r.fix("a")
		if refused := wait(); refused > 0 {
			t.Errorf("%d are refused", refused)
		}
		if s := mustStatus(t, m); s.Models[0].Failure != nil || r.count("start a") != 3 {
			t.Errorf("%+v, %v", s.Models[0].Failure, r.counts())
		}
	})
}

func TestFewerReplicasAreWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB, 16*worldGiB)
		m, g := r.open(t, r.spec(replicaModel("a", 12, 2)))
		mustHold(t, g, "a")()
		throng(t, g, "a", 12, 30*time.Second)()
		if n := ready(t, m, "a"); n != 2 {
			t.Fatalf("%d instances serve", n)
		}
		g2 := NewGeneration(r.spec(replicaModel("a", 12, 1)))
		m.Apply(g2)
		m.Commit(g2)
		m.Withdraw(g)
		time.Sleep(10 * time.Second)
		if n := ready(t, m, "a"); n != 1 || r.count("start a") != 2 {
			t.Errorf("%d instances serve, %v", n, r.counts())
		}
	})
}
