package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests many swaps in a row.

func TestManySwaps(t *testing.T)       { t.Parallel(); swapMany(t, simulated, 60) }
func TestDockerManySwaps(t *testing.T) { t.Parallel(); swapMany(t, docker, 40) }

// swapMany has three clients ask for five models, of which two fit awake: three can
// sleep. Each request is served, no card is ever used for more than is charged, and
// no two servers are at one card's memory together, which is looked for at the end
// of each test.
func swapMany(t *testing.T, engine string, swaps int) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var options strings.Builder
	models := []string{"s1", "s2", "s3", "n1", "n2"}
	for _, m := range models {
		fmt.Fprintf(&options, "model %[1]s {\n repo org/%[1]s\n", m)
		if m[0] == 's' {
			options.WriteString("sleep\n")
		}
		options.WriteString("}\n")
	}
	a := startApart(t, engine, "gpu GPU-1 8GiB\ngpu GPU-2 10GiB", `
		defaults {
			`+sleepy+`
			env VLLM_SIM_SLEEP_TIME 30ms
			env VLLM_SIM_WAKE_TIME 30ms
			env VLLM_SIM_STOP_TIME 30ms
		}
		`+options.String())

	eventually(t, "the cards are there", func() bool { return len(a.status(t).GPUs) == 2 })
	over := make(chan struct{})
	watched := make(chan int, 1)
	go func() { watched <- a.watch(t, over) }()
	done := func() int {
		n := 0
		for _, action := range a.actions(t, "") {
			if strings.HasPrefix(action, "start ") || strings.HasPrefix(action, "wake ") {
				n++
			}
		}
		return n
	}
	var clients sync.WaitGroup
	for c := range uint64(3) {
		chance := rand.New(rand.NewPCG(seed, c))
		clients.Go(func() {
			for done() < swaps && !t.Failed() {
				if code, _, body := a.chat(t, models[chance.IntN(len(models))]); code != http.StatusOK {
					t.Errorf("status %d: %s", code, body)
				}
			}
		})
	}
	clients.Wait()
	close(over)
	if n := <-watched; n == 0 {
		t.Error("nobody looked at the cards while they were in use")
	}
	slept, stopped := 0, 0
	for _, m := range models {
		n := a.count(t, "asleep", m)
		if m[0] == 'n' && n > 0 {
			t.Errorf("%s was put to sleep", m)
		}
		slept += n
		stopped += a.count(t, "evict", m)
		if n := a.count(t, "failed", m) + a.count(t, "unreleased", m); n > 0 {
			t.Errorf("%s: %q", m, a.actions(t, m))
		}
	}
	t.Logf("%d times a model was put to sleep, %d times one was stopped, for %d others", slept, stopped, done())
	if slept == 0 || stopped == 0 {
		t.Errorf("%q", a.actions(t, ""))
	}
	for _, f := range a.findings(t) {
		if f.Kind != vramman.FindingOverdrawn || engine == simulated { // see sizes
			t.Errorf("the audit has found %+v", f)
		}
	}
}

// watch looks until it is over whether each card is charged with all that is used
// of it and with no more than its budget, and returns how often it could tell.
func (a *apart) watch(t *testing.T, over <-chan struct{}) (looks int) {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-over:
			return looks
		case <-again.C:
		}
		used := func() map[string]int64 {
			all := make(map[string]int64)
			for _, uuid := range []string{"GPU-1", "GPU-2"} {
				all[uuid] = a.used(t, uuid)
			}
			return all
		}
		before, s, after := used(), a.status(t), used()
		for _, g := range s.GPUs {
			var sum int64
			for _, h := range g.Holders {
				sum += h.Charged
			}
			// Of a server that starts, its processes may not be known yet.
			foreign := g.Foreign > 0 && !strings.HasPrefix(g.Gate, "start ")
			if sum != g.Charged || g.Charged > g.Budget || foreign {
				t.Errorf("a card is %+v", g)
			}
			if u := before[g.UUID]; u > 0 && u == after[g.UUID] {
				looks++
				if g.Charged < u {
					t.Errorf("%d bytes of %s are in use and only %d charged: %+v", u, g.UUID, g.Charged, g)
				}
			}
		}
		for _, f := range s.Audit.Findings {
			if f.Kind == vramman.FindingSums {
				t.Errorf("%+v", f)
			}
		}
	}
}
