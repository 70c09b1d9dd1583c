package vramman

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/host"
)

// sleeperModel is a model whose server can be put to sleep.
func sleeperModel(name string, gib int64) ModelSpec {
	m := rigModel(name, gib)
	m.Server, m.Launch.Sleep = rigSleeper{}, true
	return m
}

// actions are the decisions about a model, in words.
func actions(t *testing.T, m *Manager, model string) (all []string) {
	t.Helper()
	for _, d := range mustStatus(t, m).Decisions {
		if d.Model == model {
			all = append(all, d.Action)
		}
	}
	return all
}

func napRig(residual int64) *rig {
	r := newRig(30*time.Second, 16*worldGiB)
	r.nap = rigNap{residual: residual, takes: 2 * time.Second}
	return r
}

// A model that makes room for another sleeps, and is woken when it is asked for:
// twice, so that what it is charged goes down and up as often as it does.
func TestModelsTakeTurnsAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		m, g := r.open(t, r.spec(sleeperModel("a", 12), sleeperModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if c := mustStatus(t, m).GPUs[0].Charged; c != 13*worldGiB {
			t.Errorf("charged %d, with one awake and one asleep", c)
		}
		for range 3 {
			for _, name := range []string{"a", "b"} {
				began := time.Now()
				mustHold(t, g, name)()
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("%s was back after %v: it was not woken", name, took)
				}
			}
		}
		if r.count("start a") != 1 || r.count("start b") != 1 || r.count("stop") != 0 || r.count("wake_up a") != 3 {
			t.Errorf("%v", r.counts())
		}
		if got := fmt.Sprint(actions(t, m, "a")); !strings.HasPrefix(got, "[start ready sleep asleep wake ready sleep asleep wake") {
			t.Errorf("a: %s", got)
		}
		s := mustStatus(t, m)
		if s.Models[0].State != "asleep" || s.Models[1].State != "ready" || s.Host.Asleep != 24*worldGiB {
			t.Errorf("%s, %s, %d of the host's memory", s.Models[0].State, s.Models[1].State, s.Host.Asleep)
		}
	})
}

// Who does not free its VRAM asleep is stopped, and is not put to sleep again.
func TestSleeperThatFreesNothingIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(11 * worldGiB)
		m, g := r.open(t, r.spec(sleeperModel("a", 12), sleeperModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if r.count("stop a") != 1 || mustStatus(t, m).GPUs[0].Charged != 12*worldGiB {
			t.Errorf("%v, charged %d", r.counts(), mustStatus(t, m).GPUs[0].Charged)
		}
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if r.count("sleep a") != 1 {
			t.Errorf("put to sleep %d times", r.count("sleep a"))
		}
	})
}

func TestSleepThatFailsStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		r.nap.failSleep = true
		m, g := r.open(t, r.spec(sleeperModel("a", 12), sleeperModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if r.count("stop a") != 1 || mustStatus(t, m).GPUs[0].Charged != 12*worldGiB {
			t.Errorf("%v", r.counts())
		}
	})
}

// Who dies of being put to sleep is not put to sleep again, whether its end is told
// first or that it did not answer.
func TestDeathOfSleepIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		_, g := r.open(t, r.spec(sleeperModel("a", 12), rigModel("b", 12)))
		mustHold(t, g, "a")()
		r.mu.Lock()
		i := r.running[0]
		r.mu.Unlock()
		time.AfterFunc(time.Second, func() { i.end(i.exit) }) // it takes 2 s to fall asleep
		mustHold(t, g, "b")()
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if r.count("sleep a") != 1 || r.count("stop a") != 1 {
			t.Errorf("%v", r.counts())
		}
	})
}

func TestWakingThatFailsStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		r.nap.failWake = true
		m, g := r.open(t, r.spec(sleeperModel("a", 12), rigModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		mustHold(t, g, "a")()
		if r.count("start a") != 2 || r.count("wake_up a") != 1 || mustStatus(t, m).GPUs[0].Charged != 12*worldGiB {
			t.Errorf("%v", r.counts())
		}
	})
}

// Who never answers is stopped after two minutes, and whoever waited for its room, or
// for it, is served.
func TestNapThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		_, g := r.open(t, r.spec(sleeperModel("a", 12), rigModel("b", 12), sleeperModel("c", 12)))
		takes := func(d time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.nap.takes = d
		}
		waits := func(name string) {
			t.Helper()
			began := time.Now()
			mustHold(t, g, name)()
			if took := time.Since(began); took < 2*time.Minute || took > 4*time.Minute {
				t.Errorf("%s was served after %v", name, took)
			}
		}
		mustHold(t, g, "a")()
		takes(time.Hour)
		waits("b") // in the place of a, which hangs on the way to sleep
		takes(time.Second)
		mustHold(t, g, "c")()
		mustHold(t, g, "b")() // c sleeps
		takes(time.Hour)
		waits("c") // which hangs on the way back
		if r.count("start a") != 1 || r.count("stop a") != 1 || r.count("start c") != 2 || r.count("stop c") != 1 {
			t.Errorf("%v", r.counts())
		}
	})
}

// The host's memory bounds who sleeps: by what there is, and by what is allowed.
func TestHostMemoryBoundsSleep(t *testing.T) {
	for name, c := range map[string]struct {
		host    host.Memory
		allowed int64
		sleeps  bool
	}{
		"enough":      {host.Memory{Total: 64 * worldGiB, Available: 40 * worldGiB}, 0, true},
		"not free":    {host.Memory{Total: 64 * worldGiB, Available: 20 * worldGiB}, 0, false},
		"not allowed": {host.Memory{Total: 640 * worldGiB, Available: 400 * worldGiB}, 20 * worldGiB, false},
		"not half":    {host.Memory{Total: 40 * worldGiB, Available: 39 * worldGiB}, 0, false},
		"allowed":     {host.Memory{Total: 40 * worldGiB, Available: 39 * worldGiB}, 30 * worldGiB, true},
		"not known":   {host.Memory{}, 0, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := napRig(worldGiB)
			spec := r.spec(sleeperModel("a", 12), rigModel("b", 12))
			spec.SleepMemory = c.allowed
			m := New()
			m.readHost = func(bool) (host.Memory, error) { return c.host, nil }
			g := r.openIn(t, m, spec)
			mustHold(t, g, "a")()
			mustHold(t, g, "b")()
			if got := r.count("sleep a") == 1; got != c.sleeps {
				t.Errorf("%s: sleeps %v: %v", name, got, actions(t, m, "a"))
			}
		})
	}
}

func TestIdleTimeoutSleepsThenStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		model := sleeperModel("a", 12)
		model.IdleTimeout = 10 * time.Minute
		m, g := r.open(t, r.spec(model))
		mustHold(t, g, "a")()
		time.Sleep(11 * time.Minute)
		if s := mustStatus(t, m); s.Models[0].State != "asleep" || s.GPUs[0].Charged != worldGiB {
			t.Fatalf("after 11 minutes it is %s, charged %d", s.Models[0].State, s.GPUs[0].Charged)
		}
		time.Sleep(10 * time.Minute)
		if s := mustStatus(t, m); s.Models[0].State != "stopped" || s.GPUs[0].Charged != 0 || r.count("running") != 0 {
			t.Errorf("after 21 minutes it is %s, charged %d", s.Models[0].State, s.GPUs[0].Charged)
		}
	})
}

func TestSleeperOfAnotherConfigurationGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		spec := r.spec(sleeperModel("a", 12), rigModel("b", 12))
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		next := *spec
		next.Models = slices.Clone(spec.Models)
		next.Models[0].Launch.MaxModelLen = 4096
		g2 := NewGeneration(&next)
		m.Apply(g2)
		m.Commit(g2)
		m.Withdraw(g)
		time.Sleep(10 * time.Second)
		if r.count("stop a") != 1 || mustStatus(t, m).GPUs[0].Charged != 12*worldGiB {
			t.Errorf("%v", r.counts())
		}
		mustHold(t, g2, "a")()
		if r.count("start a") != 2 || r.count("wake_up a") != 0 {
			t.Errorf("%v", r.counts())
		}
	})
}

func TestServerThatDiesAsleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		m, g := r.open(t, r.spec(sleeperModel("a", 12), rigModel("b", 4)))
		model := sleeperModel("a", 12)
		model.IdleTimeout = time.Minute
		spec := r.spec(model)
		g2 := NewGeneration(spec)
		mustHold(t, g, "a")()
		m.Apply(g2)
		m.Commit(g2)
		time.Sleep(90 * time.Second)
		if s := mustStatus(t, m); s.Models[0].State != "asleep" {
			t.Fatalf("it is %s", s.Models[0].State)
		}
		r.mu.Lock()
		i := r.running[0]
		r.mu.Unlock()
		i.end(i.exit)
		time.Sleep(time.Second)
		if c := mustStatus(t, m).GPUs[0].Charged; c != 0 {
			t.Errorf("dead, and charged %d", c)
		}
		mustHold(t, g2, "a")()
		if r.count("start a") != 2 {
			t.Errorf("%v", r.counts())
		}
	})
}

// Nobody is put to sleep whose restart is as quick.
func TestQuickLoadIsNotSlept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := napRig(worldGiB)
		r.load = time.Second
		_, g := r.open(t, r.spec(sleeperModel("a", 12), rigModel("b", 12)))
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		if r.count("sleep a") != 0 || r.count("stop a") != 1 {
			t.Errorf("%v", r.counts())
		}
	})
}
