package caddymodule

import (
	"errors"
	"fmt"
	"net/http/httptest"
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
	tests := []struct {
		err    error
		status int
		after  string // Retry-After
		ms     string // retry-after-ms
		retry  string // x-should-retry
		code   string
	}{
		{after(vramman.CodeQueueFull, 1500*time.Millisecond), 429, "2", "1500", "", "queue_full"},
		{after(vramman.CodeQueueFull, 0), 429, "30", "30000", "", "queue_full"},
		{after(vramman.CodeQueueFull, time.Millisecond), 429, "1", "1000", "", "queue_full"},
		{after(vramman.CodeQueueFull, time.Hour), 429, "60", "60000", "", "queue_full"},
		{after(vramman.CodeQueueTimeout, 0), 504, "", "", "", "queue_timeout"},
		{after(vramman.CodeStartFailed, 10*time.Second), 503, "10", "10000", "", "start_failed"},
		{after(vramman.CodeNoEngine, 0), 503, "30", "30000", "", "engine_unavailable"},
		{after(vramman.CodeModelRemoved, 0), 503, "30", "30000", "", "model_removed"},
		{after(vramman.CodeShuttingDown, 5*time.Second), 503, "5", "5000", "", "shutting_down"},
		{&vramman.Error{Code: vramman.CodeUnplaceable, Message: "m", NoRetry: true}, 503, "", "", "false", "vram_unavailable"},
		{fmt.Errorf("wrapped: %w", after(vramman.CodeQueueFull, time.Second)), 429, "1", "1000", "", "queue_full"},
		{openai.RouteNotFound(), 404, "", "", "", "route_not_found"},
		{errors.New("dial tcp 10.0.0.1:8000: secret"), 500, "", "", "", "internal_error"},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		openai.WriteError(w, openai.DialectOpenAI, refusal(tt.err))
		got := []string{w.Header().Get("Retry-After"), w.Header().Get("Retry-After-Ms"), w.Header().Get("X-Should-Retry")}
		want := []string{tt.after, tt.ms, tt.retry}
		if w.Code != tt.status || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: status %d with %q, want %d with %q", tt.err, w.Code, got, tt.status, want)
		}
		if body := w.Body.String(); !strings.Contains(body, `"code":"`+tt.code+`"`) || strings.Contains(body, "secret") {
			t.Errorf("%v: %s", tt.err, body)
		}
	}
}
