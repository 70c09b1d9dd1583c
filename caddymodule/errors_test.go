package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func TestRefusals(t *testing.T) {
	after := func(c vramman.Code, d time.Duration) error {
		return &vramman.Error{Code: c, Message: "m", RetryAfter: d}
	}
	never := func(c vramman.Code) error {
		return &vramman.Error{Code: c, Message: "m", NoRetry: true}
	}
	tests := []struct {
		err    error
		status int
		after  time.Duration // Retry-After, give or take a fifth; 0: none
		retry  string        // x-should-retry
		code   string
	}{
		{after(vramman.CodeQueueFull, 1500*time.Millisecond), 429, 1500 * time.Millisecond, "", "queue_full"},
		{after(vramman.CodeQueueFull, 0), 429, 30 * time.Second, "", "queue_full"},
		{after(vramman.CodeQueueFull, time.Millisecond), 429, time.Second, "", "queue_full"},
		{after(vramman.CodeQueueFull, time.Hour), 429, time.Minute, "", "queue_full"},
		{after(vramman.CodeQueueTimeout, 0), 504, 30 * time.Second, "", "queue_timeout"},
		{after(vramman.CodeQueueTimeout, 20*time.Second), 504, 20 * time.Second, "", "queue_timeout"},
		{never(vramman.CodeUnreachable), 504, 0, "false", "deadline_unreachable"},
		{never(vramman.CodeDeadline), 504, 0, "false", "deadline_exceeded"},
		{fmt.Errorf("trying: %w", context.DeadlineExceeded), 504, 0, "false", "deadline_exceeded"},
		{after(vramman.CodeStartFailed, 10*time.Second), 503, 10 * time.Second, "", "start_failed"},
		{after(vramman.CodeNoEngine, 0), 503, 30 * time.Second, "", "engine_unavailable"},
		{after(vramman.CodeModelRemoved, 0), 503, 30 * time.Second, "", "model_removed"},
		{never(vramman.CodeModelRemoved), 503, 0, "false", "model_removed"},
		{after(vramman.CodeShuttingDown, 5*time.Second), 503, 5 * time.Second, "", "shutting_down"},
		{never(vramman.CodeUnplaceable), 503, 0, "false", "vram_unavailable"},
		{after(vramman.CodeUnplaceable, 0), 503, 30 * time.Second, "", "vram_unavailable"},
		{never(vramman.CodeUnknownModel), 404, 0, "false", "model_not_found"},
		{openai.ModelNotFound([]byte("x")), 404, 0, "false", "model_not_found"},
		{fmt.Errorf("wrapped: %w", after(vramman.CodeQueueFull, time.Second)), 429, time.Second, "", "queue_full"},
		{openai.RouteNotFound(), 404, 0, "", "route_not_found"},
		{errors.New("dial tcp 10.0.0.1:8000: secret"), 500, 0, "", "internal_error"},
	}
	for _, tt := range tests {
		for range 20 {
			w := httptest.NewRecorder()
			openai.WriteError(w, openai.DialectOpenAI, refusal(tt.err))
			if w.Code != tt.status || w.Header().Get("X-Should-Retry") != tt.retry {
				t.Errorf("%v: status %d with %v", tt.err, w.Code, w.Header())
			}
			checkRetryAfter(t, tt.err, w, tt.after)
			if body := w.Body.String(); !strings.Contains(body, `"code":"`+tt.code+`"`) || strings.Contains(body, "secret") {
				t.Errorf("%v: %s", tt.err, body)
			}
		}
	}
}

// checkRetryAfter holds what a client is told against what is meant.
func checkRetryAfter(t *testing.T, err error, w *httptest.ResponseRecorder, want time.Duration) {
	t.Helper()
	seconds, ms := w.Header().Get("Retry-After"), w.Header().Get("Retry-After-Ms")
	if want == 0 {
		if seconds != "" || ms != "" {
			t.Errorf("%v: Retry-After %q, %q", err, seconds, ms)
		}
		return
	}
	s, _ := strconv.Atoi(seconds)
	n, _ := strconv.Atoi(ms)
	told := time.Duration(n) * time.Millisecond
	if told < max(time.Second, want*4/5) || told > min(time.Minute, want*6/5)+time.Millisecond {
		t.Errorf("%v: told to come back in %v, want %v give or take a fifth", err, told, want)
	}
	if s != (n+999)/1000 {
		t.Errorf("%v: Retry-After is %d, and %d ms", err, s, n)
	}
}

// Those who are refused together do not come back together, and the same seed
// tells the same times.
func TestJitterSpreads(t *testing.T) {
	a, b := newJitter(7), newJitter(7)
	seen := make(map[time.Duration]bool)
	early := 0
	for range 1000 {
		d := a.spread(30 * time.Second)
		if d != b.spread(30*time.Second) {
			t.Fatal("the same seed tells another time")
		}
		if d < 24*time.Second || d > 36*time.Second {
			t.Fatalf("30s became %v", d)
		}
		if d < 30*time.Second {
			early++
		}
		seen[d] = true
	}
	if len(seen) < 900 || early < 400 || early > 600 {
		t.Errorf("%d different times, %d of a thousand below the middle", len(seen), early)
	}
	for range 1000 {
		if d := a.spread(time.Hour); d < 48*time.Second || d > time.Minute {
			t.Fatalf("an hour became %v", d)
		}
		if d := a.spread(0); d < time.Second || d > 1200*time.Millisecond {
			t.Fatalf("nothing became %v", d)
		}
	}
}
