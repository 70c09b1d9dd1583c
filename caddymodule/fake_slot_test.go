package caddymodule

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// fakeInstance is an instance at an address of the test's choice.
type fakeInstance struct {
	id        string
	transport http.RoundTripper
}

func (i *fakeInstance) ID() string                   { return i.id }
func (i *fakeInstance) Transport() http.RoundTripper { return i.transport }
func (i *fakeInstance) Authorization() string        { return "Bearer key-of-" + i.id }

// instanceAt is an instance whose server listens at addr.
func instanceAt(t *testing.T, id, addr string) *fakeInstance {
	t.Helper()
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &fakeInstance{id, tr}
}

// serving is an instance whose server is h.
func serving(t *testing.T, id string, h http.HandlerFunc) *fakeInstance {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return instanceAt(t, id, srv.Listener.Addr().String())
}

// speaking is an instance whose server reads one request from each connection,
// then hands the connection to talk, and closes it.
func speaking(t *testing.T, id string, talk func(net.Conn)) *fakeInstance {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				readRequest(c)
				talk(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return instanceAt(t, id, ln.Addr().String())
}

// fakeSlot gives leases on its instances one after the other, the last one again
// and again.
type fakeSlot struct {
	mu        sync.Mutex
	instances []instance
	err       error    // given once the instances are used up, if set
	avoided   []string // what each acquire was to avoid; "" for nothing
	held      atomic.Int32
	released  atomic.Int32
}

func (s *fakeSlot) acquire(_ context.Context, avoid instance) (hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := ""
	if avoid != nil {
		id = avoid.ID()
	}
	s.avoided = append(s.avoided, id)
	if len(s.instances) == 0 {
		return nil, s.err
	}
	i := s.instances[0]
	if len(s.instances) > 1 || s.err != nil {
		s.instances = s.instances[1:]
	}
	s.held.Add(1)
	return &fakeHold{slot: s, i: i}, nil
}

type fakeHold struct {
	slot *fakeSlot
	i    instance
}

func (h *fakeHold) instance() instance { return h.i }

func (h *fakeHold) Release(time.Time) {
	h.slot.held.Add(-1)
	h.slot.released.Add(1)
}

// proxied is a server in front of a slot: requests come to it as they come from
// admission.
type proxied struct {
	*httptest.Server
	slot      *fakeSlot
	budget    byteBudget
	exchanges chan *exchange // of the requests that have ended
}

const chatPath = "/v1/chat/completions"

func proxyTo(t *testing.T, instances ...instance) *proxied {
	t.Helper()
	return proxyWithin(t, Timeouts{}, instances...)
}

// proxyWithin is proxyTo with timeouts.
func proxyWithin(t *testing.T, limits Timeouts, instances ...instance) *proxied {
	t.Helper()
	p := &proxied{slot: &fakeSlot{instances: instances}, exchanges: make(chan *exchange, 16)}
	u := &Upstream{Timeouts: limits}
	u.open(zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel), zaptest.WrapOptions(zap.IncreaseLevel(zap.FatalLevel))))
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		route, err := routeOf(r)
		if err != nil {
			openai.WriteError(w, openai.DialectOpenAI, openai.AsError(err))
			return
		}
		x := &exchange{route: route, model: "tiny", slot: p.slot}
		limits := bodyLimits{max: 1 << 20, memory: 1 << 30, budget: &p.budget}
		if x.body, err = limits.read(w, r); err != nil {
			t.Errorf("reading the body: %v", err)
			return
		}
		defer func() { p.exchanges <- x }()
		defer x.body.drop()
		_ = u.ServeHTTP(w, x.with(r), caddyhttp.HandlerFunc(nil))
	}))
	t.Cleanup(p.Close)
	return p
}

// post sends a body to the chat route.
func (p *proxied) post(t *testing.T, body string) *http.Response {
	t.Helper()
	res, err := p.Client().Post(p.URL+chatPath, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// text reads an answer to its end.
func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("reading the answer: %v after %q", err, b)
	}
	return string(b)
}

// ended waits for the request that ended next and checks that it holds nothing
// any more.
func (p *proxied) ended(t *testing.T) *exchange {
	t.Helper()
	x := <-p.exchanges
	if n := p.slot.held.Load(); n != 0 {
		t.Errorf("%d leases are held after the request", n)
	}
	if n := p.budget.used.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are counted after the request", n)
	}
	return x
}
