// Servers for the tests: in a bubble of fake time, reached through pipes, with
// every real part but the network and the clock.

package vllmsim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a network of one listener.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// output gathers what a server prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// running is a server under test.
type running struct {
	*Server
	t      *testing.T
	pipes  *pipes
	client *http.Client
	out    *output
	stop   context.CancelFunc // asks the server to end, as SIGTERM does
	exited chan struct{}
	status int // valid once exited
}

type env map[string]string

// configure parses arguments and environment; what is not given is quick.
func configure(t *testing.T, e env, args ...string) Config {
	t.Helper()
	cfg, err := ParseConfig(args, func(name string) string { return e[name] })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// launch starts a server, to be called in a bubble.
func launch(t *testing.T, e env, args ...string) *running {
	t.Helper()
	network := newPipes()
	r := &running{t: t, pipes: network, out: &output{}, exited: make(chan struct{})}
	r.Server = New(configure(t, e, args...), r.out, r.out)
	r.listen = func(string, string) (net.Listener, error) { return network, nil }
	r.client = &http.Client{Transport: &http.Transport{DialContext: network.dial, MaxIdleConnsPerHost: 100}}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() {
		defer close(r.exited)
		r.status = r.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-r.exited
		r.client.CloseIdleConnections()
		synctest.Wait()
	})
	return r
}

// serve starts a server and waits until it is ready.
func serve(t *testing.T, e env, args ...string) *running {
	t.Helper()
	r := launch(t, e, args...)
	select {
	case <-r.Ready():
	case <-r.exited:
		t.Fatalf("the server ended with status %d:\n%s", r.status, r.out)
	}
	return r
}

// dialRaw opens a connection without an HTTP client on it.
func (r *running) dialRaw() (net.Conn, error) { return r.pipes.dial(r.t.Context(), "", "") }

// end waits for the server's exit status.
func (r *running) end() int {
	r.t.Helper()
	<-r.exited
	return r.status
}

func request(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://sim"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return req
}

// do sends a request and returns the status and the body.
func (r *running) do(req *http.Request) (int, string) {
	r.t.Helper()
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (r *running) get(path string) (int, string) {
	r.t.Helper()
	return r.do(request(r.t, "GET", path, ""))
}

func (r *running) post(path, body string) (int, string) {
	r.t.Helper()
	return r.do(request(r.t, "POST", path, body))
}

// metric returns the value of one line of the metrics, by its text before the
// value and without the prefix and the common labels.
func (r *running) metric(name string) string {
	r.t.Helper()
	_, text := r.get("/metrics")
	base, more, _ := strings.Cut(name, "{")
	want := `vllm:` + base + `{engine="0",model_name="` + labelValue(r.cfg.ServedNames[0]) + `"`
	if more != "" {
		want += "," + strings.TrimSuffix(more, "}") + "} "
	} else {
		want += "} "
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, want); ok {
			return strings.TrimSpace(value)
		}
	}
	r.t.Fatalf("no metric %s", want)
	return ""
}

// event is one server-sent event and when it came.
type event struct {
	data string
	at   time.Duration // since the stream was asked for
}

// streamed is a stream's events, and the error that ended it if it did not end well.
func (r *running) streamed(req *http.Request) (events []event, err error) {
	r.t.Helper()
	begin := time.Now()
	res, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		r.t.Errorf("content type %q", got)
	}
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF && line == "" {
			return events, nil
		}
		if err != nil {
			return events, err
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			events = append(events, event{strings.TrimSpace(data), time.Since(begin)})
		} else if line != "\n" {
			r.t.Errorf("line %q in a stream", line)
		}
	}
}

// chatAnswer is what tests look at in chat answers and events.
type chatAnswer struct {
	ID, Object, Model string
	Choices           []struct {
		Index   int
		Text    string
		Message struct{ Role, Content string }
		Delta   struct{ Role, Content string }
		Finish  string `json:"finish_reason"`
	}
	Usage *usage
}

func parse[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// wantOrder demands that the parts occur in a text in this order.
func wantOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Fatalf("%q is missing, or too early, in:\n%s", p, text)
		}
		rest = after
	}
}
