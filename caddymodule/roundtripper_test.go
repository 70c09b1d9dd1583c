package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// readRequest reads one request, body included.
func readRequest(c net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, req.Body)
}

// reset closes a connection so that its other end reads a reset.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// nobody is an instance at an address where nothing listens.
func nobody(t *testing.T, id string) *fakeInstance {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	return instanceAt(t, id, addr)
}

func say(s string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, s) }
}

const notReady = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nsorry"

func TestAttemptsBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		path    string
		first   func(*testing.T) *fakeInstance
		retried bool
		status  int // when it is not
	}{
		{"refused", chatPath, func(t *testing.T) *fakeInstance { return nobody(t, "a") }, true, 0},
		{"reset", chatPath, func(t *testing.T) *fakeInstance { return speaking(t, "a", reset) }, true, 0},
		{"closed without an answer", chatPath, func(t *testing.T) *fakeInstance { return speaking(t, "a", say("")) }, true, 0},
		{"closed within the headers", chatPath, func(t *testing.T) *fakeInstance {
			return speaking(t, "a", say("HTTP/1.1 200 OK\r\nContent-Type: app"))
		}, true, 0},
		{"503", chatPath, func(t *testing.T) *fakeInstance { return speaking(t, "a", say(notReady)) }, true, 0},
		{"not HTTP", chatPath, func(t *testing.T) *fakeInstance { return speaking(t, "a", say("220 mail.example.com\r\n\r\n")) }, false, 502},
		{"500", chatPath, func(t *testing.T) *fakeInstance {
			return speaking(t, "a", say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"))
		}, false, 500},
		{"429", chatPath, func(t *testing.T) *fakeInstance {
			return speaking(t, "a", say("HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"))
		}, false, 429},
		{"stores, refused", "/v1/responses", func(t *testing.T) *fakeInstance { return nobody(t, "a") }, true, 0},
		{"stores, reset", "/v1/responses", func(t *testing.T) *fakeInstance { return speaking(t, "a", reset) }, false, 502},
	}
	const body = `{"model":"tiny"}`
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			second := serving(t, "b", func(w http.ResponseWriter, r *http.Request) {
				got, _ := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s %s", r.Header.Get("Authorization"), r.URL.Path, got)
			})
			p := proxyTo(t, tt.first(t), second)
			res, err := p.Client().Post(p.URL+tt.path, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			answer := text(t, res)
			x := p.ended(t)
			if !tt.retried {
				if res.StatusCode != tt.status || x.retries != 0 {
					t.Errorf("status %d after %d retries, want %d after none: %s", res.StatusCode, x.retries, tt.status, answer)
				}
				return
			}
			if want := "Bearer key-of-b " + tt.path + " " + body; res.StatusCode != http.StatusOK || answer != want {
				t.Errorf("status %d, answer %q, want %q", res.StatusCode, answer, want)
			}
			if want := []string{"", "a"}; !slices.Equal(p.slot.avoided, want) {
				t.Errorf("avoided %q, want %q", p.slot.avoided, want)
			}
			if timing := res.Header.Get("Server-Timing"); !strings.Contains(timing, "retry;dur=") {
				t.Errorf("Server-Timing %q tells nothing of the retry", timing)
			}
		})
	}
}

func TestAttemptsEnd(t *testing.T) {
	t.Parallel()
	t.Run("all refused", func(t *testing.T) {
		t.Parallel()
		p := proxyTo(t, nobody(t, "a"))
		res := p.post(t, `{}`)
		answer := text(t, res)
		if res.StatusCode != http.StatusBadGateway || !strings.Contains(answer, `"code":"upstream_failed"`) || strings.Contains(answer, "127.0.0.1") {
			t.Errorf("status %d, %s", res.StatusCode, answer)
		}
		if x := p.ended(t); p.slot.released.Load() != maxRetries+1 || x.outcome != openai.CodeUpstreamFailed {
			t.Errorf("%d attempts, outcome %s", p.slot.released.Load(), x.outcome)
		}
	})
	t.Run("503 to the last", func(t *testing.T) {
		t.Parallel()
		p := proxyTo(t, speaking(t, "a", say(notReady)))
		res := p.post(t, `{}`)
		if answer := text(t, res); res.StatusCode != http.StatusServiceUnavailable || answer != "sorry" {
			t.Errorf("status %d, %s", res.StatusCode, answer)
		}
		if p.ended(t); p.slot.released.Load() != maxRetries+1 {
			t.Errorf("%d attempts", p.slot.released.Load())
		}
	})
	t.Run("no other instance", func(t *testing.T) {
		t.Parallel()
		p := proxyTo(t, nobody(t, "a"))
		p.slot.err = &vramman.Error{Code: vramman.CodeStartFailed, Model: "tiny", Message: "it does not start"}
		res := p.post(t, `{}`)
		answer := text(t, res)
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, `"code":"start_failed"`) || res.Header.Get("Retry-After") != "30" {
			t.Errorf("status %d, Retry-After %q, %s", res.StatusCode, res.Header.Get("Retry-After"), answer)
		}
		p.ended(t)
	})
}

// A server closes a connection that has been idle, just as a request is sent on
// it. The client sees nothing of that, whatever the request is.
func TestIdleConnectionRace(t *testing.T) {
	var conns atomic.Int32
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			// It answers one request, then closes as soon as the next begins to arrive.
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			go func() {
				_, _ = io.ReadFull(c, make([]byte, 1))
				reset(c)
			}()
		}
	}()
	i := instanceAt(t, "a", ln.Addr().String())
	p := proxyTo(t, i)
	for range 3 {
		res := p.post(t, `{}`)
		if answer := text(t, res); res.StatusCode != http.StatusOK || answer != "ok" {
			t.Errorf("status %d, %s", res.StatusCode, answer)
		}
		p.ended(t)
	}
	if slices.Contains(p.slot.avoided, "a") {
		t.Errorf("an instance was avoided that only closed an idle connection: %q", p.slot.avoided)
	}
	if conns.Load() < 2 {
		t.Errorf("%d connections: no idle one was used again", conns.Load())
	}
	_ = ln.Close()
	closeIdle(i)
	<-done
}

// transportFunc is a transport that makes no connections.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestBackoffFollowsTheRequestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var at []time.Duration
		start := time.Now()
		refused := &fakeInstance{"a", transportFunc(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			if len(at) == 3 {
				time.AfterFunc(time.Millisecond, cancel) // while it waits
			}
			return nil, errors.New("refused")
		})}
		s := &fakeSlot{instances: []instance{refused}}
		x := &exchange{model: "tiny", slot: s, body: &requestBody{budget: new(byteBudget)}}
		req, _ := http.NewRequestWithContext(context.WithValue(ctx, exchangeKey{}, x), http.MethodPost, "http://vllm/", nil)
		_, err := (&leasingTransport{zap.NewNop()}).RoundTrip(req)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if want := []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		if got := time.Since(start); got != 401*time.Millisecond {
			t.Errorf("it ended after %v", got)
		}
		if s.held.Load() != 0 {
			t.Error("a lease is held while nothing is tried")
		}
	})
}

func TestBackoffIsBounded(t *testing.T) {
	for attempt, want := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond, time.Second, time.Second} {
		if got := backoff(attempt); got != want {
			t.Errorf("after attempt %d: %v, want %v", attempt, got, want)
		}
	}
}
