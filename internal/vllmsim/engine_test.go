package vllmsim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestHold keeps requests from their first token until a file is gone, and counts the
// most that ever ran.
func TestHold(t *testing.T) {
	hold := filepath.Join(t.TempDir(), "hold")
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "0s", "VLLM_SIM_HOLD": hold}, "m")
		var clients sync.WaitGroup
		for range 3 {
			clients.Go(func() {
				if status, body := r.post("/v1/completions", `{"prompt":"a","max_tokens":1}`); status != 200 {
					t.Errorf("%d %s", status, body)
				}
			})
		}
		time.Sleep(time.Hour) // fake time
		if got := r.metric("num_requests_running"); got != "3" {
			t.Errorf("%s run, want 3", got)
		}
		if err := os.Remove(hold); err != nil {
			t.Fatal(err)
		}
		clients.Wait()
		if _, text := r.get("/metrics"); !strings.Contains(text, `vllm_sim:num_requests_running_peak{engine="0",model_name="m"} 3`) {
			t.Errorf("the peak is not 3 in %s", text)
		}
	})
}

// TestBatch runs three requests of 2 s each on a server that runs two at a time.
func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "1s", "VLLM_SIM_TOKENS_PER_SECOND": "2", "VLLM_SIM_REPLY_TOKENS": "3"},
			"m", "--max-num-seqs", "2")
		begin := time.Now()
		var took [3]time.Duration
		var clients sync.WaitGroup
		for i := range took {
			clients.Go(func() {
				if status, body := r.post("/v1/completions", `{"prompt":"a"}`); status != 200 {
					t.Errorf("%d %s", status, body)
				}
				took[i] = time.Since(begin)
			})
			synctest.Wait() // so that they arrive in order
		}
		if got := r.metric("num_requests_running"); got != "2" {
			t.Errorf("%s run, want 2", got)
		}
		if got := r.metric("num_requests_waiting"); got != "1" {
			t.Errorf("%s wait, want 1", got)
		}
		if got := r.metric(`num_requests_waiting_by_reason{reason="capacity"}`); got != "1" {
			t.Errorf("%s wait for capacity, want 1", got)
		}
		if got := r.metric("kv_cache_usage_perc"); !strings.HasPrefix(got, "1.") || !strings.HasSuffix(got, "e-06") { // 2 of 1,447,024 tokens
			t.Errorf("KV cache usage %s", got)
		}
		clients.Wait()
		if got := fmt.Sprint(took); got != "[2s 2s 4s]" {
			t.Errorf("answers after %s", got)
		}
		for name, want := range map[string]string{
			"num_requests_running":                           "0",
			"num_requests_waiting":                           "0",
			"kv_cache_usage_perc":                            "0",
			"prompt_tokens_total":                            "3",
			"generation_tokens_total":                        "9",
			`request_success_total{finished_reason="stop"}`:  "3",
			`request_success_total{finished_reason="abort"}`: "0",
			`time_to_first_token_seconds_bucket{le="0.75"}`:  "0",
			`time_to_first_token_seconds_bucket{le="1.0"}`:   "2",
			`time_to_first_token_seconds_bucket{le="+Inf"}`:  "3",
			"time_to_first_token_seconds_sum":                "5", // 1 + 1 + 3
			"request_queue_time_seconds_sum":                 "2",
			"inter_token_latency_seconds_count":              "6",
			"inter_token_latency_seconds_sum":                "3",
			"request_time_per_output_token_seconds_sum":      "1.5",
			"e2e_request_latency_seconds_sum":                "8",
			`cache_config_info{block_size="16",num_gpu_blocks="90439",kv_cache_size_tokens="1447024",kv_cache_max_concurrency="44.16"}`: "1",
			`engine_sleep_state{sleep_state="awake"}`: "1",
		} {
			// The reason of a reply of fixed length within the limit is "stop".
			if got := r.metric(name); got != want {
				t.Errorf("%s %s, want %s", name, got, want)
			}
		}
	})
}

func TestClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "1h"}, "m", "--max-num-seqs", "1")
		ask := func(stream bool) context.CancelFunc {
			ctx, leave := context.WithCancel(t.Context())
			req := request(t, "POST", "/v1/completions", fmt.Sprintf(`{"prompt":"a","stream":%t}`, stream)).WithContext(ctx)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := r.client.Do(req); err == nil {
					_, _ = res.Body.Read(make([]byte, 1))
					res.Body.Close()
				}
			}()
			synctest.Wait()
			return func() { leave(); <-done; synctest.Wait() }
		}
		running, waiting, last := ask(true), ask(false), ask(true)
		if run, wait := r.slots.counts(); run != 1 || wait != 2 {
			t.Fatalf("%d run and %d wait", run, wait)
		}
		waiting()
		if run, wait := r.slots.counts(); run != 1 || wait != 1 {
			t.Errorf("after a waiting one left: %d run and %d wait", run, wait)
		}
		running() // its place goes to the last
		if run, wait := r.slots.counts(); run != 1 || wait != 0 {
			t.Errorf("after the running one left: %d run and %d wait", run, wait)
		}
		last()
		if run, wait := r.slots.counts(); run != 0 || wait != 0 {
			t.Errorf("after all left: %d run and %d wait", run, wait)
		}
		if got := r.metric(`request_success_total{finished_reason="abort"}`); got != "3" {
			t.Errorf("%s aborted, want 3", got)
		}
	})
}

func TestPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, "m", "--scheduling-policy", "priority")
		if status, body := r.post("/v1/completions", `{"prompt":"a","priority":3}`); status != 200 {
			t.Errorf("%d %s", status, body)
		}
	})
}

// TestIdleConnection measures how long a connection lives on which nothing happens.
func TestIdleConnection(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 5 * time.Second, "120": 2 * time.Minute} {
		t.Run(value, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := serve(t, env{"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": value}, "m")
				conn, err := r.dialRaw()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: sim\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				answered := time.Time{}
				buffer := make([]byte, 1000)
				for {
					_, err := conn.Read(buffer)
					if err != nil {
						break
					}
					answered = time.Now()
				}
				if lived := time.Since(answered); lived != want {
					t.Errorf("closed after %v, want %v", lived, want)
				}
			})
		})
	}
}

func TestKeepAliveOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "0"}, "m")
		res, err := r.client.Do(request(t, "GET", "/health", ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if !res.Close {
			t.Error("the connection stays open")
		}
	})
}
