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
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// hanging is an instance whose server says something and then nothing more, until
// its client leaves.
func hanging(t *testing.T, id, said string, left chan<- struct{}) *fakeInstance {
	return speaking(t, id, func(c net.Conn) {
		_, _ = io.WriteString(c, said)
		_, _ = c.Read(make([]byte, 1))
		close(left)
	})
}

// A server that falls silent is given up: it is told so by the end of its
// connection, the client by an error.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	const short = caddy.Duration(50 * time.Millisecond)
	const told = `{"error":{"message":"the server of model tiny %s","type":"server_error","param":null,"code":"upstream_timeout"}}`
	late, silent := fmt.Sprintf(told, "did not begin to answer in time"), fmt.Sprintf(told, "fell silent in the middle of its answer")
	tests := []struct {
		name, said string
		limits     Timeouts
		status     int
		want       string
		cut        bool
	}{
		{"before the headers", "", Timeouts{RequestTimeout: short}, 504, late, false},
		{"before the first event", streamHead, Timeouts{RequestTimeout: short}, 200, "data: " + silent + "\n\n", false},
		{"after an event", streamHead + chunk("data: 1\n\n"), Timeouts{StreamIdleTimeout: new(short)}, 200, "data: 1\n\ndata: " + silent + "\n\n", false},
		{"in an answer that is no stream", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Timeouts{StreamIdleTimeout: new(short)}, 200, "{", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			p := proxyWithin(t, tt.limits, hanging(t, "a", tt.said, left))
			res := p.post(t, `{"stream":true}`)
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != tt.status || string(body) != tt.want || (err != nil) != tt.cut {
				t.Errorf("the client reads status %d, %q, %v, want %d, %q", res.StatusCode, body, err, tt.status, tt.want)
			}
			<-left
			if x := p.ended(t); x.retries != 0 || x.outcome == outcomeServed {
				t.Errorf("outcome %s after %d retries", x.outcome, x.retries)
			}
		})
	}
}

// A server that cannot be reached is a failed attempt like any other.
func TestConnectTimeout(t *testing.T) {
	deaf := &fakeInstance{"a", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}}
	p := proxyWithin(t, Timeouts{ConnectTimeout: caddy.Duration(20 * time.Millisecond)}, deaf,
		serving(t, "b", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }))
	res, err := p.Client().Post(p.URL+"/v1/responses", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer := text(t, res); res.StatusCode != http.StatusOK || answer != "ok" {
		t.Errorf("status %d, %s", res.StatusCode, answer)
	}
	if x := p.ended(t); x.retries != 1 {
		t.Errorf("%d retries", x.retries)
	}
}

// A client that stops sending counts as gone, but goes on to read. It must not
// take what it gets for a whole answer.
func TestHalfClosedClientSeesNoEnd(t *testing.T) {
	for _, media := range []string{"text/event-stream", "application/json"} {
		t.Run(media, func(t *testing.T) {
			began := make(chan struct{})
			p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", media)
				_ = http.NewResponseController(w).Flush()
				close(began)
				<-r.Context().Done()
			}))
			c, err := net.Dial("tcp", p.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", chatPath)
			<-began
			br := bufio.NewReader(c)
			res, err := http.ReadResponse(br, nil) // its headers are there
			if err != nil {
				t.Fatal(err)
			}
			_ = c.(*net.TCPConn).CloseWrite()
			body, err := io.ReadAll(res.Body)
			if len(body) != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the client reads %q and %v, want an answer that is cut", body, err)
			}
			if x := p.ended(t); x.outcome != outcomeGone {
				t.Errorf("outcome %s", x.outcome)
			}
		})
	}
}

func TestTrailersPass(t *testing.T) {
	p := proxyTo(t, serving(t, "a", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Usage, Server")
		_, _ = io.WriteString(w, "ok")
		w.Header().Set("X-Usage", "7")
		w.Header().Set("Server", "uvicorn")
	}))
	res := p.post(t, "{}")
	text(t, res)
	if res.Trailer.Get("X-Usage") != "7" || res.Trailer.Get("Server") != "" {
		t.Errorf("the trailers are %v", res.Trailer)
	}
	p.ended(t)
}

// Informational answers are the server's, and might tell of it.
func TestInformationalAnswersStayInside(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", say("HTTP/1.1 103 Early Hints\r\nLink: </secret>\r\nServer: uvicorn\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
	c, err := net.Dial("tcp", p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", chatPath)
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK\r\n") || strings.Contains(string(answer), "uvicorn") {
		t.Errorf("the client reads %q, %v", answer, err)
	}
	p.ended(t)
}

// A client that does not read holds the server back: nothing is gathered between
// them but what the sockets hold.
func TestSlowClientHoldsTheServerBack(t *testing.T) {
	const all = 256 << 20
	var sent atomic.Int64
	blocked := make(chan struct{})
	p := proxyTo(t, speaking(t, "a", func(c net.Conn) {
		_, _ = io.WriteString(c, streamHead)
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
		part := chunk("data: " + strings.Repeat("x", 64<<10) + "\n\n")
		for sent.Load() < all {
			// A write that takes so long waits for the other end.
			_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := io.WriteString(c, part)
			sent.Add(int64(n))
			if err != nil {
				break
			}
		}
		close(blocked)
	}))
	res := p.post(t, `{"stream":true}`)
	<-blocked
	if n := sent.Load(); n > all/2 {
		t.Errorf("%d MB of %d went to a client that read nothing", n>>20, all>>20)
	}
	_ = res.Body.Close()
	p.ended(t)
}

func TestStreamsAreMarkedForThoseInBetween(t *testing.T) {
	p := proxyTo(t, speaking(t, "a", say(streamHead+chunk("data: 1\n\n")+"0\r\n\r\n")))
	res := p.post(t, `{"stream":true}`)
	text(t, res)
	if res.Header.Get("Cache-Control") != "no-cache, no-transform" || res.Header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("the headers are %v", res.Header)
	}
	p.ended(t)
}

// Nor does such a client who has only been sent comments.
func TestHalfClosedClientAfterCommentsSeesNoEnd(t *testing.T) {
	a := appWith(t, &fakeEngine{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable) // it loads for ever
	})}, nil)
	admission := admissionTo(a, zapcore.NewNopCore())
	admission.Keepalive = caddy.Duration(5 * time.Millisecond)
	upstream := new(Upstream)
	upstream.open(zap.NewNop())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = admission.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			return upstream.ServeHTTP(w, r, nil)
		}))
	}))
	t.Cleanup(srv.Close)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const body = `{"model":"tiny","stream":true}`
	_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(body), body)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if comments, err := io.ReadAll(res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the client reads %q and %v, want an answer that is cut", comments, err)
	}
}
