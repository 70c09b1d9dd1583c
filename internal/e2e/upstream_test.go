package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exchanged is one request and its answer as they are on the wire, but for what
// differs from one to the next.
func exchanged(t *testing.T, g *gateway, model string, stream bool) (status int, header http.Header, body string) {
	t.Helper()
	res, err := g.client.Do(g.request(t.Context(), model, stream))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("reading the answer: %v after %q", err, text)
	}
	return res.StatusCode, res.Header, changing.ReplaceAllString(string(text), "$1:0")
}

// changing are members of an answer that differ each time.
var changing = regexp.MustCompile(`("id"|"created"):("[^"]*"|\d+)`)

// caddyLog is what Caddy has logged, all tests together.
func caddyLog(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(home, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// retriesOf are the attempts at a model that were tried again, by the log after
// what was there before.
func retriesOf(t *testing.T, before, model string) []int {
	t.Helper()
	var attempts []int
	for line := range strings.Lines(strings.TrimPrefix(caddyLog(t), before)) {
		var l struct {
			Level, Msg, Model, Instance string
			Attempt                     int
		}
		if json.Unmarshal([]byte(line), &l) == nil && strings.Contains(l.Msg, "Transient connection error") && l.Model == model {
			if l.Level != "warn" || l.Instance == "" {
				t.Errorf("a retry is logged as %s", line)
			}
			attempts = append(attempts, l.Attempt)
		}
	}
	return attempts
}

const upstreamError = `{"error":{"message":"the server of model %s %s","type":"server_error","param":null,"code":%q}}`

// A server that is not ready to serve for a moment is asked again; one that stays
// so is told of.
func TestServerSays503(t *testing.T) {
	g := start(t, `
		model hesitant {
			repo org/hesitant
			env VLLM_SIM_503 2
		}
		model refusing {
			repo org/refusing
			env VLLM_SIM_503 1000
		}`)
	before := caddyLog(t)
	status, _, body := exchanged(t, g, "hesitant", false)
	if status != 200 || !strings.Contains(body, `"content":"You said: hello"`) {
		t.Errorf("the client reads status %d, %s", status, body)
	}
	if got := retriesOf(t, before, "hesitant"); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("the log tells of attempts %v", got)
	}
	for _, stream := range []bool{false, true} {
		status, header, body := exchanged(t, g, "refusing", stream)
		want := fmt.Sprintf(upstreamError, "refusing", "cannot take requests at present: The server is overloaded.", "upstream_failed")
		if status != 503 || body != want || header.Get("Retry-After") != "30" {
			t.Errorf("the client reads status %d, Retry-After %q, %s, want %s", status, header.Get("Retry-After"), body, want)
		}
	}
	if got := retriesOf(t, before, "refusing"); !slices.Equal(got, []int{1, 2, 3, 1, 2, 3}) {
		t.Errorf("the log tells of attempts %v", got)
	}
}

// A server that dies of a request, before it answers: the client gets its answer
// from the server that takes its place. Where each dies of the same request, the
// client is told so, and soon.
func TestServerDiesOfARequest(t *testing.T) {
	g := start(t, `
		model mortal {
			repo org/mortal
			env VLLM_SIM_DIE_AFTER 1
		}
		model poisoned {
			repo org/poisoned
			env VLLM_SIM_DIE_AFTER 0
		}`)
	before := caddyLog(t)
	for i := range 2 { // the second kills the first server
		status, _, body := exchanged(t, g, "mortal", i == 1)
		if status != 200 || !strings.Contains(body, "hello") || strings.Contains(body, `"error"`) {
			t.Errorf("request %d: the client reads status %d, %s", i, status, body)
		}
	}
	if got := retriesOf(t, before, "mortal"); len(got) == 0 || got[0] != 1 {
		t.Errorf("the log tells of attempts %v", got)
	}
	status, _, body := exchanged(t, g, "poisoned", true)
	var told struct {
		Error struct{ Message, Type, Code string }
	}
	if err := json.Unmarshal([]byte(body), &told); err != nil || told.Error.Type != "server_error" ||
		!(status == 502 && told.Error.Code == "upstream_failed" || status == 503 && told.Error.Code == "start_failed") {
		t.Errorf("the client reads status %d, %s", status, body)
	}
	if n := len(retriesOf(t, before, "poisoned")); n > 3 {
		t.Errorf("it was tried again %d times", n)
	}
}

// A server that dies in the middle of a stream: what came stays as it is, then an
// error ends the stream in its own grammar.
func TestServerDiesMidStreamByteByByte(t *testing.T) {
	g := start(t, `
		model dying {
			repo org/dying
			env VLLM_SIM_REPLY_TOKENS 20
			env VLLM_SIM_DIE_MID_STREAM 2
		}
		model healthy {
			repo org/healthy
			env VLLM_SIM_REPLY_TOKENS 20
		}`)
	_, _, whole := exchanged(t, g, "healthy", true)
	status, header, body := exchanged(t, g, "dying", true)
	events := strings.SplitAfter(strings.ReplaceAll(whole, "healthy", "dying"), "\n\n")
	want := strings.Join(events[:3], "") + "data: " +
		fmt.Sprintf(upstreamError, "dying", "ended in the middle of its answer", "upstream_failed") + "\n\n"
	if status != 200 || body != want {
		t.Errorf("the client reads status %d, %q, want %q", status, body, want)
	}
	if header.Get("Content-Type") != "text/event-stream; charset=utf-8" || header.Get("Server") != "Caddy" {
		t.Errorf("the headers are %v", header)
	}
}

// A server that answers no more is given up after request_timeout.
func TestServerHangs(t *testing.T) {
	const models = "model hung {\n repo org/hung\n env VLLM_SIM_HANG_AFTER 0\n}\n"
	g := start(t, models)
	before := caddyLog(t)
	site := "http://" + address(t)
	g.extra = site + " {\n vllm_gateway {\n request_timeout 300ms\n }\n}\n"
	if err := g.load(models); err != nil {
		t.Fatal(err)
	}
	g.plain = site
	want := fmt.Sprintf(upstreamError, "hung", "did not begin to answer in time", "upstream_timeout")
	if status, _, body := exchanged(t, g, "hung", false); status != 504 || body != want {
		t.Errorf("the client reads status %d, %q, want %q", status, body, want)
	}
	want = "data: " + fmt.Sprintf(upstreamError, "hung", "fell silent in the middle of its answer", "upstream_timeout") + "\n\n"
	if status, _, body := exchanged(t, g, "hung", true); status != 200 || body != want {
		t.Errorf("the client reads status %d, %q, want %q", status, body, want)
	}
	if got := retriesOf(t, before, "hung"); len(got) != 0 {
		t.Errorf("the log tells of attempts %v", got)
	}
	// The server hears of it: it has nothing to do any more.
	eventually(t, "the server has been told", func() bool {
		return gauge(t, "http://"+listening(t, "hung")+"/metrics", "vllm:num_requests_running") == 0
	})
}

// A server that does not end when it is asked to: a stream that goes on is served
// to its end, and the next request by the server that takes its place.
func TestServerIgnoresTheSignal(t *testing.T) {
	model := func(env string) string {
		return "model deaf {\n repo org/deaf\n stop_grace 200ms\n env VLLM_SIM_IGNORE_TERM 1\n env VLLM_SIM_REPLY_TOKENS 100\n env " + env + "\n}\n"
	}
	g := start(t, model("GENERATION 1"))
	began, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- g.stream(t.Context(), "deaf", func() { close(began) }) }()
	<-began
	if err := g.load(model("GENERATION 2")); err != nil {
		t.Fatal(err)
	}
	if status, _, body := exchanged(t, g, "deaf", false); status != 200 || !strings.Contains(body, "hello") {
		t.Errorf("the client reads status %d, %s", status, body)
	}
	if err := <-done; err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	eventually(t, "the deaf server is gone", func() bool { return len(g.status(t).Instances) == 1 })
}

// A client that leaves ends its request at the server at once.
func TestLeavingReachesTheServer(t *testing.T) {
	g := start(t, "model left {\n repo org/left\n env VLLM_SIM_REPLY_TOKENS 100000\n}\n")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	began, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- g.stream(ctx, "left", func() { close(began) }) }()
	<-began
	metrics := "http://" + listening(t, "left") + "/metrics"
	if n := gauge(t, metrics, "vllm:num_requests_running"); n != 1 {
		t.Errorf("the server runs %d requests", n)
	}
	leave()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
	eventually(t, "the server runs nothing", func() bool { return gauge(t, metrics, "vllm:num_requests_running") == 0 })
}

// A client that stops sending and goes on to read gets no proper end of a stream
// that was given up.
func TestHalfClosedClient(t *testing.T) {
	g := start(t, "model halved {\n repo org/halved\n env VLLM_SIM_REPLY_TOKENS 100000\n}\n")
	c, err := net.Dial("tcp", strings.TrimPrefix(g.plain, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := `{"model":"halved","stream":true,"messages":[{"role":"user","content":"hello"}]}`
	_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		strings.TrimPrefix(g.plain, "http://"), len(body), body)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client reads status %d, %d bytes, %v, want an answer that is cut", res.StatusCode, len(text), err)
	}
	if l := accessLines(t, "halved", 1)[0]; l.VLLM.Outcome != "client_gone" || l.Duration <= 0 {
		t.Errorf("the access log has %+v", l)
	}
}

// Caddy's compression leaves streams alone, whatever the client accepts.
func TestStreamsAreNotCompressed(t *testing.T) {
	g := start(t, "model plain {\n repo org/plain\n env VLLM_SIM_REPLY_TOKENS 50\n}\n")
	site := "http://" + address(t)
	g.extra = site + " {\n encode gzip\n vllm_gateway\n}\n"
	if err := g.load("model plain {\n repo org/plain\n env VLLM_SIM_REPLY_TOKENS 50\n}\n"); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []bool{true, false} {
		g := &gateway{plain: site}
		r := g.request(t.Context(), "plain", stream)
		r.Header.Set("Accept-Encoding", "gzip")
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		encoding := res.Header.Get("Content-Encoding")
		if err != nil || stream && (encoding != "" || !bytes.HasPrefix(body, []byte("data: "))) {
			t.Errorf("stream %t: encoding %q, %q, %v", stream, encoding, body, err)
		}
	}
}
