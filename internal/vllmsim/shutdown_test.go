package vllmsim

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow is a server whose answers take 1 s to begin and 10 s in all.
var slow = env{"VLLM_SIM_TTFT": "1s", "VLLM_SIM_TOKENS_PER_SECOND": "1", "VLLM_SIM_REPLY_TOKENS": "10"}

// during starts a stream, waits 3.5 s and lets f happen; it returns the stream.
func during(t *testing.T, r *running, f func()) (events []event, err error) {
	t.Helper()
	done := make(chan struct{})
	req := request(t, "POST", "/v1/completions", `{"prompt":"a","stream":true}`)
	go func() {
		defer close(done)
		events, err = r.streamed(req)
	}()
	time.Sleep(3500 * time.Millisecond) // fake time
	synctest.Wait()
	f()
	<-done
	return events, err
}

func finish(t *testing.T, events []event) string {
	t.Helper()
	if n := len(events); n < 2 || events[n-1].data != "[DONE]" {
		t.Fatalf("the stream did not end well: %v", events)
	}
	return parse[chatAnswer](t, events[len(events)-2].data).Choices[0].Finish
}

func TestShutdownAborts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, slow, "m", "--max-num-seqs", "1")
		whole := make(chan string, 1)
		go func() {
			time.Sleep(time.Second) // fake time; this one will be waiting
			status, body := r.post("/v1/completions", `{"prompt":"a"}`)
			if status != 200 {
				t.Errorf("%d %s", status, body)
			}
			whole <- body
		}()
		begin := time.Now()
		events, err := during(t, r, r.stop)
		if err != nil {
			t.Fatal(err)
		}
		if got := finish(t, events); got != "abort" || len(events) != 5 { // 3 tokens, the end, [DONE]
			t.Errorf("finish %q after %d events", got, len(events))
		}
		if c := parse[chatAnswer](t, <-whole).Choices[0]; c.Finish != "abort" || c.Text != "" {
			t.Errorf("the waiting request got %+v", c)
		}
		if status := r.end(); status != 0 {
			t.Errorf("status %d", status)
		}
		if took := time.Since(begin); took > 3500*time.Millisecond+closeGrace {
			t.Errorf("the shutdown took %v", took)
		}
		wantOrder(t, r.out.String(), "[shutdown] Aborting 2 requests", "[shutdown] Complete.")
	})
}

func TestShutdownDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, slow, "m", "--shutdown-timeout", "60")
		events, err := during(t, r, func() {
			r.stop()
			synctest.Wait()
			if status, body := r.post("/v1/completions", `{"prompt":"a"}`); status != 503 || !strings.Contains(body, "shutting down") {
				t.Errorf("a new request got %d %s", status, body)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := finish(t, events); got != "stop" || len(events) != 11 {
			t.Errorf("finish %q after %d events", got, len(events))
		}
		if status := r.end(); status != 0 {
			t.Errorf("status %d", status)
		}
		wantOrder(t, r.out.String(), "[shutdown] Draining 1 requests, timeout=60s", "[shutdown] Complete.")
	})
}

func TestShutdownDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, slow, "m", "--shutdown-timeout", "2")
		events, err := during(t, r, r.stop)
		if err != nil {
			t.Fatal(err)
		}
		last := events[len(events)-1]
		if got := finish(t, events); got != "abort" || last.at != 5500*time.Millisecond {
			t.Errorf("finish %q after %v", got, last.at)
		}
		if status := r.end(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

// TestShutdownStuckClient has a client that does not read what it asked for.
func TestShutdownStuckClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TOKENS_PER_SECOND": "0"}, "m")
		conn, err := r.dialRaw()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := `{"prompt":"a","stream":true,"max_tokens":1000,"ignore_eos":true}`
		if _, err := fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nHost: sim\r\nContent-Type: application/json\r\n"+
			"Content-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // fake time
		if n := r.requests.count(); n != 1 {
			t.Fatalf("%d requests are stuck, want 1", n)
		}
		begin := time.Now()
		r.stop()
		if status := r.end(); status != 0 {
			t.Errorf("status %d", status)
		}
		if took := time.Since(begin); took > abortGrace+closeGrace {
			t.Errorf("the shutdown took %v", took)
		}
	})
}

func TestDeathWhileDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := env{"VLLM_SIM_DIE_MID_STREAM": "5"}
		maps.Copy(e, slow)
		r := serve(t, e, "m", "--shutdown-timeout", "60")
		events, err := during(t, r, r.stop)
		if err == nil || len(events) != 5 {
			t.Errorf("%d events, then %v", len(events), err)
		}
		if status := r.end(); status != 1 {
			t.Errorf("status %d", status)
		}
	})
}
