package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// accessLine is what these tests read of a line of the access log.
type accessLine struct {
	Msg      string
	Status   int
	Duration float64
	VLLM     struct {
		Model, Instance, Outcome string
		Streamed                 bool
		Load                     float64
		FirstByte                float64 `json:"first_byte"`
		Stream                   float64
	}
}

// accessLines waits for n lines of the access log on a model.
func accessLines(t *testing.T, model string, n int) []accessLine {
	t.Helper()
	var lines []accessLine
	eventually(t, "the access log is written", func() bool {
		text, err := os.ReadFile(filepath.Join(home, "caddy.log"))
		if err != nil {
			t.Fatal(err)
		}
		lines = nil
		for line := range strings.Lines(string(text)) {
			var l accessLine
			if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "handled request" && l.VLLM.Model == model {
				lines = append(lines, l)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// The access log says where a request's time went and how it ended, also when its
// client left, and nothing of what was said.
func TestAccessLog(t *testing.T) {
	g := start(t, `
		model logged {
			repo org/logged
			env VLLM_SIM_REPLY_TOKENS 1000
			env VLLM_SIM_TOKENS_PER_SECOND 2000
		}`)
	const secret = "sk-client-secret"
	if err := g.stream(t.Context(), "logged", nil); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r := g.request(ctx, "logged", true)
	r.Header.Set("Authorization", "Bearer "+secret)
	res, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	leave()
	_, _ = io.Copy(io.Discard, res.Body)

	lines := accessLines(t, "logged", 2)
	first, second := lines[0], lines[1]
	if first.Status != 200 || first.VLLM.Outcome != "served" || first.VLLM.Instance == "" || !first.VLLM.Streamed ||
		first.VLLM.Load <= 0 || first.VLLM.FirstByte <= 0 || first.VLLM.Stream <= 0 {
		t.Errorf("the first line is %+v", first)
	}
	if second.VLLM.Outcome != "client_gone" || second.Duration <= 0 || second.VLLM.Load != 0 {
		t.Errorf("the second line is %+v", second)
	}
	eventually(t, "nothing is served", func() bool { return g.status(t).model("logged").Queue.Serving == 0 })
	text, err := os.ReadFile(filepath.Join(home, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{secret, "hello", "Bearer"} {
		if strings.Contains(string(text), word) {
			t.Errorf("the log has %q", word)
		}
	}
}

// A server that dies in the middle of a stream: the client is told so in the
// stream, and the model comes back for the next request.
func TestServerDiesMidStream(t *testing.T) {
	g := start(t, `
		model fragile {
			repo org/fragile
			env VLLM_SIM_REPLY_TOKENS 20
			env VLLM_SIM_DIE_MID_STREAM 5
		}`)
	err := g.stream(t.Context(), "fragile", nil)
	if err == nil || !strings.Contains(err.Error(), `"code":"upstream_failed"`) {
		t.Errorf("the stream ended with %v", err)
	}
	if l := accessLines(t, "fragile", 1)[0]; l.VLLM.Outcome != "cut" {
		t.Errorf("the access log has %+v", l)
	}
	eventually(t, "the model is back", func() bool {
		code, _, _ := g.chat(t, "fragile")
		return code == 200
	})
}

// The status has everything that an operator asks for.
func TestStatus(t *testing.T) {
	g := start(t, "model told {\n repo org/told\n alias told-too\n}")
	if code, _, body := g.chat(t, "told-too"); code != 200 {
		t.Fatalf("status %d: %s", code, body)
	}
	s := g.status(t)
	m := s.model("told")
	if m.State != "ready" || m.Queue.MaxConcurrent != 50 || m.Queue.MaxQueue != 200 || len(m.Aliases) != 1 {
		t.Errorf("the model is %+v", m)
	}
	if s.LogLevel != "info" || s.Version["caddy"] == "" || s.Version["gateway"] == "" || s.Gateway != "main" {
		t.Errorf("the status is of %q, log level %q, versions %v", s.Gateway, s.LogLevel, s.Version)
	}
	if len(s.GPUs) != 2 || len(s.instances("told")) != 1 || len(s.Decisions) == 0 {
		t.Fatalf("the status is %+v", s)
	}
	for _, gpu := range s.GPUs {
		holds := slices.ContainsFunc(gpu.Holders, func(h vramman.Holder) bool { return h.Instance == s.instances("told")[0] })
		if holds && gpu.Charged < 8<<30 || gpu.Foreign != 0 || gpu.Free <= 0 || gpu.Charged+gpu.Free > gpu.Total {
			t.Errorf("a card is %+v", gpu)
		}
	}
	if reason := s.Decisions[0].Reason; reason == "" {
		t.Errorf("a decision without a reason: %+v", s.Decisions[0])
	}
}

// A client that hangs up while it waits gives its place to the next.
func TestClientLeavesTheQueue(t *testing.T) {
	g := start(t, "model awaited {\n repo org/awaited\n"+slow+"}\n")
	began, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- g.stream(t.Context(), "awaited", func() { close(began) }) }()
	<-began
	depth := func(n int) func() bool {
		return func() bool { return g.status(t).model("awaited").Queue.Depth == n }
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	left := make(chan error, 1)
	go func() { left <- g.stream(ctx, "awaited", nil) }()
	eventually(t, "the second waits", depth(1))
	leave()
	eventually(t, "its place is free", depth(0))
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the second ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the first ended with %v", err)
	}
	if l := accessLines(t, "awaited", 2)[0]; l.Status != 499 || l.VLLM.Outcome != "client_gone" || l.VLLM.Instance != "" {
		t.Errorf("the access log has %+v", l)
	}
}
