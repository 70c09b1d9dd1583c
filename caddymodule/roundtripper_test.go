package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
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
		{"stores, 503", "/v1/responses", func(t *testing.T) *fakeInstance { return speaking(t, "a", say(notReady)) }, false, 503},
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
		answer := text(t, res)
		if res.StatusCode != http.StatusServiceUnavailable || strings.Contains(answer, "sorry") || !strings.Contains(answer, `"code":"upstream_failed"`) ||
			res.Header.Get("Retry-After") != "30" {
			t.Errorf("status %d, Retry-After %q, %s", res.StatusCode, res.Header.Get("Retry-After"), answer)
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
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, `"code":"start_failed"`) || res.Header.Get("Retry-After") == "" {
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
		if x := p.ended(t); x.retries != 0 {
			t.Errorf("%d retries are counted for a connection that was closed", x.retries)
		}
	}
	if want := []string{"", "", ""}; !slices.Equal(p.slot.avoided, want) {
		t.Errorf("the leases were taken on others than %q, want %q", p.slot.avoided, want)
	}
	if conns.Load() < 2 {
		t.Errorf("%d connections: no idle one was used again", conns.Load())
	}
	_ = ln.Close()
	closeIdle(i)
	<-done
}

// A request that must not be sent twice is never sent on a connection that the
// server may be about to close.
func TestRequestThatStoresGetsAConnectionOfItsOwn(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "{}") }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	p := proxyTo(t, instanceAt(t, "a", srv.Listener.Addr().String()))
	for _, path := range []string{chatPath, chatPath, "/v1/responses", "/v1/responses"} {
		res, err := p.Client().Post(p.URL+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		text(t, res)
		_ = res.Body.Close()
		p.ended(t)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections, want one for both chats and one for each of the others", n)
	}
}

// A server whose own queue is full is not asked again, but another is, at once.
func TestFullServer(t *testing.T) {
	t.Parallel()
	const message = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
	busy := func(id string) *fakeInstance {
		return serving(t, id, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"error":{"message":%q,"type":"ServiceUnavailable","param":null,"code":503}}`, message)
		})
	}
	t.Run("another", func(t *testing.T) {
		p := proxyTo(t, busy("a"), serving(t, "b", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }))
		res := p.post(t, `{}`)
		if answer := text(t, res); res.StatusCode != http.StatusOK || answer != "ok" {
			t.Errorf("status %d, %s", res.StatusCode, answer)
		}
		p.ended(t)
	})
	t.Run("no other", func(t *testing.T) {
		p := proxyTo(t, busy("a"))
		res := p.post(t, `{}`)
		answer := text(t, res)
		if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(answer, `"code":"server_busy"`) || !strings.Contains(answer, message) ||
			res.Header.Get("Retry-After") != "5" {
			t.Errorf("status %d, Retry-After %q, %s", res.StatusCode, res.Header.Get("Retry-After"), answer)
		}
		if p.ended(t); len(p.slot.avoided) != 2 {
			t.Errorf("%d leases, want one, and one to see that there is no other instance", len(p.slot.avoided))
		}
	})
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
		_, err := (&leasingTransport{log: zap.NewNop(), timeouts: new(Timeouts).inForce(), chance: func() float64 { return 0.5 }}).RoundTrip(req)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if want := []time.Duration{0, 130 * time.Millisecond, 455 * time.Millisecond}; !slices.Equal(at, want) {
			t.Errorf("attempts at %v, want %v", at, want)
		}
		if got := time.Since(start); got != 456*time.Millisecond {
			t.Errorf("it ended after %v", got)
		}
		if s.held.Load() != 0 {
			t.Error("a lease is held while nothing is tried")
		}
	})
}

// No attempt is made after the ticket's deadline.
func TestNoAttemptAfterTheDeadline(t *testing.T) {
	a := appWith(t, &fakeEngine{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})}, func(m *vramman.ModelSpec) { m.MaxWait = time.Nanosecond })
	model, err := a.generation.Find(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeSlot{instances: []instance{nobody(t, "a")}}
	x := &exchange{model: "tiny", slot: s, body: &requestBody{budget: new(byteBudget)}}
	if err := model.Admit(t.Context(), time.Now(), &x.ticket); err != nil {
		t.Fatal(err)
	}
	defer x.ticket.Return(time.Now())
	req, _ := http.NewRequestWithContext(context.WithValue(t.Context(), exchangeKey{}, x), http.MethodPost, "http://vllm/", nil)
	_, err = (&leasingTransport{log: zap.NewNop(), timeouts: new(Timeouts).inForce()}).RoundTrip(req)
	if _, ok := errors.AsType[*upstreamError](err); !ok || s.released.Load() != 1 {
		t.Errorf("error %v after %d attempts", err, s.released.Load())
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for _, chance := range []float64{0, 0.5, 0.999} {
		tr := &leasingTransport{chance: func() float64 { return chance }}
		last := time.Duration(0)
		for attempt := range 5 {
			d := tr.backoff(attempt)
			if d < minBackoff || d > maxBackoff || d < last {
				t.Errorf("with chance %v, after attempt %d: %v", chance, attempt, d)
			}
			last = d
		}
		if last != maxBackoff {
			t.Errorf("with chance %v it ends at %v", chance, last)
		}
	}
	if d := (&leasingTransport{}).backoff(0); d < minBackoff || d > maxBackoff {
		t.Errorf("by chance: %v", d)
	}
}
