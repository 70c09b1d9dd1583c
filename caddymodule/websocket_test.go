package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// socketTo is a request that opens a WebSocket.
func socketTo(target string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for name, value := range map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Websocket-Version": "13",
	} {
		r.Header.Set(name, value)
	}
	return r
}

// gatewayOf serves an app's models: admission, then upstream.
func gatewayOf(t *testing.T, a *App) *httptest.Server {
	t.Helper()
	admission, upstream := admissionTo(a, zapcore.NewNopCore()), new(Upstream)
	upstream.open(zap.NewNop())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := admission.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return upstream.ServeHTTP(w, r, nil)
		}))
		if err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

// leases are how many requests an app's instances serve.
func leases(t *testing.T, a *App) int {
	t.Helper()
	s, err := a.manager.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, i := range s.Instances {
		n += i.Leases
	}
	return n
}

// until waits until a condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("still not so: %s", what)
		}
	}
}

// echoSocket is a server of WebSockets that sends back what it gets, as it gets it.
// What it saw of the handshake goes to seen.
func echoSocket(seen chan<- *http.Request, end <-chan struct{}) http.HandlerFunc {
	return healthy(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(context.Background())
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: realtime\r\nServer: uvicorn\r\n\r\n")
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(c, rw)
		}()
		select {
		case <-done:
		case <-end:
		}
	})
}

// open opens a WebSocket at a gateway. early is sent with the request.
func open(t *testing.T, srv *httptest.Server, protocols, early string) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	r := socketTo("/v1/realtime?model=tiny-alias&api_key=secret")
	r.Header.Set("Authorization", "Bearer secret")
	r.Header.Set("Sec-Websocket-Protocol", protocols)
	var request bytes.Buffer
	if err := r.Write(&request); err != nil {
		t.Fatal(err)
	}
	request.WriteString(early)
	if _, err := c.Write(request.Bytes()); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, r)
	if err != nil {
		t.Fatal(err)
	}
	return c, br, res
}

func TestWebSocket(t *testing.T) {
	seen, end := make(chan *http.Request, 1), make(chan struct{})
	a := appWith(t, &fakeEngine{handler: echoSocket(seen, end)}, nil)
	srv := gatewayOf(t, a)
	c, br, res := open(t, srv, "realtime, openai-insecure-api-key.sk-secret, openai-beta.realtime-v1", "early")
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-Websocket-Accept") == "" ||
		res.Header.Get("Sec-Websocket-Protocol") != "realtime" || res.Header.Get("Server") != "" {
		t.Fatalf("the client reads %s, %v", res.Status, res.Header)
	}
	r := <-seen
	if got := r.Header.Get("Sec-Websocket-Protocol"); got != "realtime, openai-beta.realtime-v1" {
		t.Errorf("the server sees the subprotocols %q", got)
	}
	if got := r.URL.RequestURI() + " " + r.Header.Get("Upgrade") + " " + r.Header.Get("Connection"); got != "/v1/realtime websocket Upgrade" {
		t.Errorf("the server sees %s", got)
	}
	if got := fmt.Sprint(r.Header); strings.Contains(got, "secret") {
		t.Errorf("the server sees %s", got)
	}
	early := make([]byte, len("early"))
	if _, err := io.ReadFull(br, early); err != nil || string(early) != "early" {
		t.Errorf("what was sent early comes back as %q, %v", early, err)
	}
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != text {
			t.Errorf("%q comes back as %q, %v", text, got, err)
		}
	}
	say("one")
	if n := leases(t, a); n != 1 {
		t.Errorf("%d leases are held for an open WebSocket", n)
	}
	// A reload that changes nothing of the model's server.
	a.manager.Apply(a.generation)
	a.manager.Commit(a.generation)
	say("two")
	// It ends with its server, whatever the client does.
	close(end)
	if rest, err := io.ReadAll(br); len(rest) != 0 || err != nil {
		t.Errorf("after the server's end the client reads %q, %v", rest, err)
	}
	until(t, "no lease is held", func() bool { return leases(t, a) == 0 })
	model, err := a.generation.Find(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "its slot is free", func() bool { return model.Queue().Serving == 0 })
}

func TestWebSocketEndsWithItsClient(t *testing.T) {
	seen := make(chan *http.Request, 1)
	a := appWith(t, &fakeEngine{handler: echoSocket(seen, nil)}, func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 1, 0 })
	srv := gatewayOf(t, a)
	c, _, _ := open(t, srv, "realtime", "")
	if _, _, res := open(t, srv, "realtime", ""); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("beyond the model's limit the client reads %s", res.Status)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	until(t, "no lease is held", func() bool { return leases(t, a) == 0 })
}

// A server that has no such route says so as any other.
func TestWebSocketThatIsRefused(t *testing.T) {
	a := appWith(t, &fakeEngine{handler: healthy(http.NotFound)}, nil)
	_, _, res := open(t, gatewayOf(t, a), "realtime", "")
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusNotFound || !strings.Contains(string(body), `"code":"refused_by_server"`) {
		t.Errorf("the client reads %s, %s", res.Status, body)
	}
	until(t, "no lease is held", func() bool { return leases(t, a) == 0 })
}
