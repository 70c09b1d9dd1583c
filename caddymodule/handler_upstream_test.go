package caddymodule

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestHeadersToServersAndClients(t *testing.T) {
	seen := make(chan http.Header, 1)
	p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		if r.Host != upstreamHost || r.URL.RequestURI() != chatPath {
			t.Errorf("the server sees http://%s%s", r.Host, r.URL.RequestURI())
		}
		h := w.Header()
		h.Set("Server", "uvicorn")
		h.Set("Location", "http://10.0.0.1:8000/")
		h.Set("Set-Cookie", "a=b")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("X-Powered-By", "vLLM")
		h.Set("X-Worker", "10.0.0.1:8000")
		h.Set("X-Request-Id", "r1-1a2b3c4d")
		_, _ = io.WriteString(w, "{}")
	}))
	req, _ := http.NewRequest(http.MethodPost, p.URL+chatPath+"?api_key=secret", strings.NewReader("{}"))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer secret", "X-Api-Key": "secret", "Cookie": "secret",
		"X-Data-Parallel-Rank": "3", "Accept-Encoding": "gzip", "Connection": "X-Mine, Upgrade", "X-Mine": "1", "Upgrade": "h2c",
		"Proxy-Authorization": "secret", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "Forwarded": "for=1.2.3.4",
		"X-Request-Id": "r1", "Traceparent": "00-1-2-01",
	} {
		req.Header.Set(name, value)
	}
	res, err := p.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text(t, res)
	got := <-seen
	for _, name := range []string{"X-Api-Key", "Cookie", "X-Data-Parallel-Rank", "X-Mine", "Upgrade", "Connection", "Proxy-Authorization", "Forwarded"} {
		if v, ok := got[name]; ok {
			t.Errorf("the server sees %s: %q", name, v)
		}
	}
	for name, want := range map[string]string{
		"Authorization": "Bearer key-of-a", "Accept-Encoding": "identity", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": strings.TrimPrefix(p.URL, "http://"), "X-Request-Id": "r1", "Traceparent": "00-1-2-01",
	} {
		if got.Get(name) != want {
			t.Errorf("the server sees %s: %q, want %q", name, got[name], want)
		}
	}
	for _, name := range []string{"Server", "Location", "Set-Cookie", "X-Hop", "X-Powered-By", "X-Worker"} {
		if v, ok := res.Header[name]; ok {
			t.Errorf("the client sees %s: %q", name, v)
		}
	}
	if res.Header.Get("X-Request-Id") != "r1" || !strings.HasPrefix(res.Header.Get("Server-Timing"), "queue;dur=0, load;dur=0, connect;dur=") {
		t.Errorf("the client sees %v", res.Header)
	}
	p.ended(t)
}

func TestForwardedForBelievesTrustedProxiesOnly(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		in := httptest.NewRequest(http.MethodPost, chatPath, nil)
		in.RemoteAddr = "10.0.0.9:1234"
		in.Header.Set("X-Forwarded-For", "1.2.3.4")
		in.Header.Set("X-Forwarded-Proto", "https")
		in.Header.Set("X-Forwarded-Host", "llm.example.com")
		in = in.WithContext(context.WithValue(in.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.TrustedProxyVarKey: trusted}))
		out := make(http.Header)
		forward(in, out)
		want := "10.0.0.9 http example.com"
		if trusted {
			want = "1.2.3.4, 10.0.0.9 https llm.example.com"
		}
		if got := out.Get("X-Forwarded-For") + " " + out.Get("X-Forwarded-Proto") + " " + out.Get("X-Forwarded-Host"); got != want {
			t.Errorf("trusted %t: %q, want %q", trusted, got, want)
		}
	}
}

// Each event arrives while the next has not been sent.
func TestEventsPassAtOnce(t *testing.T) {
	next := make(chan struct{})
	p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}))
	res := p.post(t, `{"stream":true}`)
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		if n := p.budget.used.Load(); n != 0 {
			t.Errorf("%d bytes of bodies are counted after the first byte of the answer", n)
		}
		_, _ = lines.ReadString('\n')
		next <- struct{}{}
	}
	text(t, res)
	if x := p.ended(t); x.outcome != outcomeServed {
		t.Errorf("outcome %s", x.outcome)
	}
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
	errorEvent = `data: {"error":{"message":"the server of model tiny ended in the middle of its answer","type":"server_error","param":null,"code":"upstream_failed"}}` + "\n\n"
)

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

func TestStreamThatBreaksOff(t *testing.T) {
	tests := []struct{ name, sent, want string }{
		{"before the first event", "", errorEvent},
		{"between events", chunk("data: 1\n\n") + chunk("data: 2\n\n"), "data: 1\n\ndata: 2\n\n" + errorEvent},
		{"after an event with carriage returns", chunk("data: 1\r\n\r\n"), "data: 1\r\n\r\n" + errorEvent},
		{"within an event", chunk("data: 1\n\n") + chunk("data: 2\n"), "data: 1\n\ndata: 2\n\n\n" + errorEvent},
		{"within a chunk", chunk("data: 1\n\n") + "ff\r\ndata: 2", "data: 1\n\ndata: 2\n\n" + errorEvent},
		{"properly ended", chunk("data: 1\n\n") + "0\r\n\r\n", "data: 1\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := proxyTo(t, speaking(t, "a", say(streamHead+tt.sent)))
			res := p.post(t, `{"stream":true}`)
			if got := text(t, res); got != tt.want {
				t.Errorf("the client reads %q, want %q", got, tt.want)
			}
			want := outcomeCut
			if tt.name == "properly ended" {
				want = outcomeServed
			}
			if x := p.ended(t); x.outcome != want || x.retries != 0 {
				t.Errorf("outcome %s after %d retries", x.outcome, x.retries)
			}
		})
	}
}

func TestErrorEventSpeaksTheRoutesDialect(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", say(streamHead+chunk("event: ping\ndata: {}\n\n"))))
	res, err := p.Client().Post(p.URL+"/v1/messages", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := text(t, res); !strings.Contains(got, "event: error\ndata: {\"type\":\"error\"") {
		t.Errorf("the client reads %q", got)
	}
	p.ended(t)
}

// An answer that is no stream cannot be ended properly: the client must see that
// it is not whole.
func TestAnswerThatBreaksOffIsCut(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":")))
	res := p.post(t, "{}")
	if b, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client reads %q and %v", b, err)
	}
	if x := p.ended(t); x.outcome != outcomeCut {
		t.Errorf("outcome %s", x.outcome)
	}
}

func TestClientThatLeavesEndsTheRequestAtTheServer(t *testing.T) {
	for _, when := range []string{"before the answer", "within the answer"} {
		t.Run(when, func(t *testing.T) {
			arrived, left := make(chan struct{}), make(chan struct{})
			p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if when == "within the answer" {
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "data: 1\n\n")
					_ = http.NewResponseController(w).Flush()
				}
				close(arrived)
				<-r.Context().Done()
				close(left)
			}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+chatPath, strings.NewReader("{}"))
			go func() {
				<-arrived
				cancel()
			}()
			if res, err := p.Client().Do(req); err == nil {
				_, _ = io.ReadAll(res.Body)
				_ = res.Body.Close()
			}
			<-left
			if x := p.ended(t); x.outcome != outcomeGone || x.retries != 0 {
				t.Errorf("outcome %s after %d retries", x.outcome, x.retries)
			}
		})
	}
}

// Whatever panics, the lease is given back.
func TestPanicGivesTheLeaseBack(t *testing.T) {
	p := proxyTo(t, &fakeInstance{"a", transportFunc(func(*http.Request) (*http.Response, error) {
		panic(http.ErrAbortHandler)
	})})
	if res, err := p.Client().Post(p.URL+chatPath, "application/json", strings.NewReader("{}")); err == nil {
		_ = res.Body.Close()
		t.Errorf("status %d", res.StatusCode)
	}
	p.ended(t)
}

// A server that switches protocols would give the client a way past the routes.
func TestNoUpgrade(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")))
	req, _ := http.NewRequest(http.MethodPost, p.URL+chatPath, strings.NewReader("{}"))
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "h2c")
	res, err := p.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusBadGateway {
		t.Errorf("status %d", res.StatusCode)
	}
	p.ended(t)
}
