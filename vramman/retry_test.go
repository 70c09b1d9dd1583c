package vramman

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A start that found less memory than the cards were read with is tried again at
// once, twice, before the model backs off.
func TestShortMemoryIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		r.fail["a"] = "Free memory is less than desired"
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		time.AfterFunc(2500*time.Millisecond, func() { r.fix("a") }) // while it starts for the third time
		began := time.Now()
		_, err := hold(t, t.Context(), g, "a")
		e := wantCode(t, err, CodeStartFailed)
		if n := r.count("start a"); n != 3 {
			t.Fatalf("%d starts: %v", n, e)
		}
		if waited := time.Since(began); waited > 9*time.Second {
			t.Errorf("it was told after %v", waited)
		}
		time.Sleep(10 * time.Second)
		mustHold(t, g, "a")()
		if s := mustStatus(t, m); s.Models[0].Failure != nil {
			t.Errorf("a success leaves the failure: %+v", s.Models[0].Failure)
		}
	})
}

func TestShortMemoryThatPassesIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		r.fail["a"] = "Free memory is less than desired"
		m, g := r.open(t, r.spec(rigModel("a", 8)))
		time.AfterFunc(500*time.Millisecond, func() { r.fix("a") })
		mustHold(t, g, "a")()
		var reasons []string
		for _, d := range mustStatus(t, m).Decisions {
			if d.Action == "failed" {
				reasons = append(reasons, d.Reason)
			}
		}
		if r.count("start a") != 2 || len(reasons) != 1 || !strings.Contains(reasons[0], "less was free") {
			t.Errorf("%d starts, failures: %q", r.count("start a"), reasons)
		}
	})
}
