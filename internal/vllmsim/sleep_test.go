package vllmsim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// residual is what sleeping servers of these tests keep: the default.
const residual = context512 + 640<<20

// sleeper starts a server on half of each card in a new folder, able to sleep.
func sleeper(t *testing.T, folder string, e env, args ...string) *running {
	t.Helper()
	all := env{"VLLM_SERVER_DEV_MODE": "1", "VLLM_SIM_CARDS": folder}
	maps.Copy(all, e)
	return serve(t, all, append([]string{"m", "--enable-sleep-mode", "--gpu-memory-utilization", "0.5"}, args...)...)
}

// must sends a POST and demands status 200.
func (r *running) must(path string) {
	r.t.Helper()
	if status, body := r.post(path, ""); status != 200 || body != "" {
		r.t.Fatalf("%s: %d %s", path, status, body)
	}
}

func (r *running) wantSleeping(want bool) {
	r.t.Helper()
	if status, body := r.get("/is_sleeping"); status != 200 || body != fmt.Sprintf(`{"is_sleeping":%t}`, want) {
		r.t.Errorf("is_sleeping: %d %s, want %t", status, body, want)
	}
}

func wantUsed(t *testing.T, folder, uuid string, want int64, phase simcard.Phase) {
	t.Helper()
	c := readCard(t, folder, uuid)
	if c.Used() != want {
		t.Errorf("%d bytes used of %s, want %d", c.Used(), uuid, want)
	}
	if len(c.Uses) == 0 || c.Uses[0].Phase != phase {
		t.Errorf("uses %+v of %s, want phase %s", c.Uses, uuid, phase)
	}
}

func TestSleepRoutesNeedBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, r := range []*running{
			serve(t, nil, "m", "--enable-sleep-mode"),
			serve(t, env{"VLLM_SERVER_DEV_MODE": "1"}, "m"),
		} {
			for _, path := range []string{"/sleep", "/wake_up"} {
				if status, _ := r.post(path, ""); status != http.StatusNotFound {
					t.Errorf("%s: %d", path, status)
				}
			}
			if status, _ := r.get("/is_sleeping"); status != http.StatusNotFound {
				t.Errorf("/is_sleeping: %d", status)
			}
		}
	})
}

func TestSleepAndWake(t *testing.T) {
	folder := newCards(t, "GPU-a", "GPU-b")
	synctest.Test(t, func(t *testing.T) {
		r := sleeper(t, folder, env{"VLLM_SIM_SLEEP_TIME": "3s", "VLLM_SIM_WAKE_TIME": "2s", "VLLM_SIM_WEIGHTS": fmt.Sprint(4 * gib)},
			"-tp", "2", "--api-key", "sesame") // development routes want no key
		r.wantSleeping(false)
		begin := time.Now()
		r.must("/sleep")
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("asleep after %v", took)
		}
		r.wantSleeping(true)
		for _, uuid := range []string{"GPU-a", "GPU-b"} {
			wantUsed(t, folder, uuid, residual, simcard.Asleep)
		}
		wantOrder(t, r.out.String(), "(Worker_TP0 pid=", "Sleep mode freed 11.38 GiB memory, 1.12 GiB memory is still in use.",
			"(Worker_TP1 pid=", "Sleep mode freed 11.38 GiB memory, 1.12 GiB memory is still in use.", "It took 3.000000 seconds to fall asleep.")
		if status, _ := r.get("/health"); status != 200 {
			t.Errorf("/health %d", status)
		}
		for state, want := range map[string]string{"awake": "0", "weights_offloaded": "1", "discard_all": "0"} {
			if got := r.metric(`engine_sleep_state{sleep_state="` + state + `"}`); got != want {
				t.Errorf("%s is %s, want %s", state, got, want)
			}
		}

		r.must("/wake_up?tags=weights")
		r.wantSleeping(true)
		wantUsed(t, folder, "GPU-a", residual+4*gib, simcard.Asleep)
		begin = time.Now()
		r.must("/wake_up")
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("awake after %v", took)
		}
		r.wantSleeping(false)
		for _, uuid := range []string{"GPU-a", "GPU-b"} {
			wantUsed(t, folder, uuid, 12*gib+context512, simcard.Serving)
		}

		r.must("/sleep?level=2&mode=wait")
		r.must("/sleep") // it is asleep already
		if got := r.metric(`engine_sleep_state{sleep_state="discard_all"}`); got != "1" {
			t.Errorf("discard_all is %s", got)
		}
		r.must("/wake_up?tags=weights&tags=kv_cache")
		r.must("/wake_up") // it is awake already
		r.wantSleeping(false)
	})
}

func TestSleepWithoutCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SERVER_DEV_MODE": "1"}, "m", "--enable-sleep-mode")
		r.must("/sleep")
		wantOrder(t, r.out.String(), "Sleep mode freed 21.46 GiB memory, 1.12 GiB memory is still in use.")
		r.must("/wake_up")
		if status, body := ask(r); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	})
}

func TestSleepRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SERVER_DEV_MODE": "1"}, "m", "--enable-sleep-mode")
		for _, path := range []string{"/sleep?level=x", "/sleep?level=3", "/sleep?mode=now", "/wake_up?tags=graphs"} {
			if status, body := r.post(path, ""); status != http.StatusBadRequest {
				t.Errorf("%s: %d %s", path, status, body)
			}
		}
		if status, _ := r.get("/sleep"); status != http.StatusMethodNotAllowed {
			t.Errorf("GET /sleep: %d", status)
		}
		r.wantSleeping(false)
	})
}

// TestSleepHoldsRequests has requests wait that come to a sleeping server.
func TestSleepHoldsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, path := range []string{"/sleep", "/sleep?level=0"} {
			r := serve(t, env{"VLLM_SERVER_DEV_MODE": "1"}, "m", "--enable-sleep-mode", "--max-num-seqs", "1")
			r.must(path)
			r.wantSleeping(true)
			answers := make(chan int, 3)
			for range 3 {
				go func() { status, _ := ask(r); answers <- status }()
			}
			time.Sleep(time.Hour) // fake time
			if run, wait := r.slots.counts(); run != 0 || wait != 3 || len(answers) != 0 {
				t.Errorf("%s: %d run, %d wait, %d are answered", path, run, wait, len(answers))
			}
			r.must("/wake_up?tags=scheduling") // of a sleeping one it wakes nothing
			r.must("/wake_up")
			for range 3 {
				if status := <-answers; status != 200 {
					t.Errorf("%s: status %d", path, status)
				}
			}
		}
	})
}

// TestSleepModes has a stream of 10 s under way when the server is put to sleep.
func TestSleepModes(t *testing.T) {
	for mode, want := range map[string]struct {
		finish string
		asleep time.Duration // after the order
		events int
	}{
		"abort": {"abort", 100 * time.Millisecond, 5}, // 3 tokens, the end, [DONE]
		"wait":  {"stop", 6600 * time.Millisecond, 11},
		"keep":  {"stop", 100 * time.Millisecond, 11},
	} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := env{"VLLM_SERVER_DEV_MODE": "1"}
				maps.Copy(e, slow)
				r := serve(t, e, "m", "--enable-sleep-mode")
				var woken time.Time
				events, err := during(t, r, func() {
					begin := time.Now()
					r.must("/sleep?mode=" + mode)
					if took := time.Since(begin); took != want.asleep {
						t.Errorf("asleep after %v, want %v", took, want.asleep)
					}
					time.Sleep(time.Hour) // fake time
					r.must("/wake_up")
					woken = time.Now()
				})
				if err != nil {
					t.Fatal(err)
				}
				if got := finish(t, events); got != want.finish || len(events) != want.events {
					t.Errorf("finish %q after %d events", got, len(events))
				}
				if frozen := time.Since(woken) > time.Second; frozen != (mode == "keep") {
					t.Errorf("it ended %v after the waking", time.Since(woken))
				}
				if status, body := ask(r); status != 200 || !strings.Contains(body, `"stop"`) {
					t.Errorf("afterwards: %d %s", status, body)
				}
			})
		})
	}
}

// TestSleepAbortsWaiting has one request run and one wait for the only place.
func TestSleepAbortsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SERVER_DEV_MODE": "1", "VLLM_SIM_TTFT": "1h"}, "m", "--enable-sleep-mode", "--max-num-seqs", "1")
		answers := make(chan string, 3)
		for range 2 {
			go func() { _, body := ask(r); answers <- body }()
		}
		go func() { _, body := r.post("/v1/embeddings", `{"input":"a"}`); answers <- body }()
		synctest.Wait()
		r.must("/sleep")
		aborted := 0
		for range 3 {
			if body := <-answers; strings.Contains(body, `"finish_reason":"abort"`) || strings.Contains(body, "put to sleep") {
				aborted++
			}
		}
		if run, wait := r.slots.counts(); aborted != 3 || run != 0 || wait != 0 {
			t.Errorf("%d aborted, %d run, %d wait", aborted, run, wait)
		}
	})
}

// TestWakeNeedsRoom takes the card's memory while the server sleeps.
func TestWakeNeedsRoom(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		r := sleeper(t, folder, nil)
		r.must("/sleep")
		desktop, err := simcard.Hold(folder, "GPU-a", "desktop", 20*gib)
		if err != nil {
			t.Fatal(err)
		}
		defer desktop.Close()
		if status, body := r.post("/wake_up", ""); status != 500 || !strings.Contains(body, "CUDA out of memory. Tried to allocate 11.38 GiB.") {
			t.Errorf("%d %s", status, body)
		}
		if status := r.end(); status != 1 {
			t.Errorf("status %d", status)
		}
		wantOrder(t, r.out.String(), "EngineCore encountered a fatal error.", "CUDA out of memory")
		if got := readCard(t, folder, "GPU-a").Used(); got != 20*gib {
			t.Errorf("%d bytes used afterwards", got)
		}
	})
}

// TestSleepOverlaps puts a server to sleep, and wakes it, while another starts.
func TestSleepOverlaps(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		r := sleeper(t, folder, env{"VLLM_SIM_SLEEP_TIME": "1s", "VLLM_SIM_WAKE_TIME": "1s"})
		launch(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "100s"},
			"two", "--gpu-memory-utilization", "0.3", "--kv-cache-memory-bytes", "1G")
		time.Sleep(20 * time.Second) // fake time
		r.must("/sleep")
		r.must("/wake_up")
		overlaps, err := simcard.Overlaps(folder)
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, o := range overlaps {
			seen = append(seen, fmt.Sprintf("%s %s/%s %s", o.Who, o.Phase, o.Other, o.OtherPhase))
		}
		if got := strings.Join(seen, ", "); got != "m sleeping/two starting, m waking/two starting" {
			t.Errorf("overlaps: %s", got)
		}
	})
}

func TestSleepFaults(t *testing.T) {
	full := int64(12*gib + context512)
	for _, test := range []struct {
		name, sleep, wake string
		path              string // the request that goes wrong
		status            int    // 0: none comes
		used              int64  // afterwards
		phase             simcard.Phase
		dead              bool
	}{
		{"sleep error", "error", "", "/sleep", 500, full, simcard.Serving, false},
		{"sleep hang", "hang", "", "/sleep", 0, full, simcard.Sleeping, false},
		{"sleep keep", "keep", "", "/sleep", 200, full - (full-residual)/10, simcard.Asleep, false},
		{"sleep die", "die", "", "/sleep", 0, 0, "", true},
		{"wake error", "", "error", "/wake_up", 500, residual, simcard.Asleep, false},
		{"wake hang", "", "hang", "/wake_up", 0, residual, simcard.Waking, false},
		{"wake die", "", "die", "/wake_up", 0, 0, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := newCards(t, "GPU-a")
			synctest.Test(t, func(t *testing.T) {
				r := sleeper(t, folder, env{"VLLM_SIM_FAIL_SLEEP": test.sleep, "VLLM_SIM_FAIL_WAKE": test.wake})
				if test.path == "/wake_up" {
					r.must("/sleep")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				res, err := r.client.Do(request(t, "POST", test.path, "").WithContext(ctx))
				status := 0
				if err == nil {
					status = res.StatusCode
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if hangs := errors.Is(err, context.DeadlineExceeded); status != test.status || hangs != strings.HasSuffix(test.name, "hang") {
					t.Errorf("status %d, %v", status, err)
				}
				if test.dead {
					if status := r.end(); status != 1 {
						t.Errorf("exit status %d", status)
					}
					return
				}
				wantUsed(t, folder, "GPU-a", test.used, test.phase)
				r.wantSleeping(true)
			})
		})
	}
}

// TestStopAsleep ends a server that sleeps, with a request that waits for it.
func TestStopAsleep(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		r := sleeper(t, folder, nil)
		r.must("/sleep")
		answer := make(chan string, 1)
		go func() { _, body := ask(r); answer <- body }()
		synctest.Wait()
		r.stop()
		if body := <-answer; !strings.Contains(body, `"finish_reason":"abort"`) {
			t.Errorf("the waiting request got %s", body)
		}
		if status := r.end(); status != 0 || readCard(t, folder, "GPU-a").Used() != 0 {
			t.Errorf("status %d", status)
		}
	})
}
