package vllmsim

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func ask(r *running) (int, string) { return r.post("/v1/completions", `{"prompt":"a"}`) }

func TestDieAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_DIE_AFTER": "2"}, "m")
		for range 2 {
			if status, body := ask(r); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
		}
		res, err := r.client.Do(request(t, "POST", "/v1/completions", `{"prompt":"a"}`))
		if err == nil {
			res.Body.Close()
			t.Errorf("status %d of the request that kills", res.StatusCode)
		}
		if status := r.end(); status != 1 {
			t.Errorf("status %d", status)
		}
		if !strings.Contains(r.out.String(), "EngineCore encountered a fatal error") {
			t.Errorf("it died silently:\n%s", r.out)
		}
	})
}

func TestDieMidStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_DIE_MID_STREAM": "2", "VLLM_SIM_REPLY_TOKENS": "10"}, "m")
		if status, _ := ask(r); status != 200 {
			t.Errorf("an answer that is no stream: %d", status)
		}
		// Another request under way dies too.
		other := make(chan error, 1)
		slow := request(t, "POST", "/v1/completions", `{"prompt":"a","max_tokens":5000,"ignore_eos":true}`)
		go func() {
			res, err := r.client.Do(slow)
			if err == nil {
				res.Body.Close()
			}
			other <- err
		}()
		synctest.Wait()
		events, err := r.streamed(request(t, "POST", "/v1/completions", `{"prompt":"a","stream":true}`))
		if err == nil || len(events) != 2 {
			t.Errorf("%d events, then %v", len(events), err)
		}
		if err := <-other; err == nil {
			t.Error("the other request was answered")
		}
		if status := r.end(); status != 1 {
			t.Errorf("status %d", status)
		}
	})
}

func TestHangAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_HANG_AFTER": "1"}, "m")
		if status, _ := ask(r); status != 200 {
			t.Fatalf("status %d", status)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := r.client.Do(request(t, "POST", "/v1/completions", `{"prompt":"a"}`).WithContext(ctx))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if status, _ := r.get("/health"); status != 200 {
			t.Errorf("/health %d", status)
		}
	})
}

func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_503": "2"}, "m")
		for _, want := range []int{503, 503, 200} {
			status, body := ask(r)
			if status != want || want == 503 && !strings.Contains(body, `"code":503`) {
				t.Errorf("%d %s, want %d", status, body, want)
			}
			if status, _ := r.get("/health"); status != http.StatusOK {
				t.Errorf("/health %d", status)
			}
		}
	})
}
