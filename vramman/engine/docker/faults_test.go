// This file owns how the tests break the connection to Docker, and look at what
// is asked through it.

package docker

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/client"
)

// relay stands between an engine and Docker.
type relay struct {
	host string // what the engine is given

	mu     sync.Mutex
	broken bool
	asked  []string                                      // method and path of each request
	answer func(w http.ResponseWriter, path string) bool // instead of Docker's, if it returns true
	open   []net.Conn
}

// newRelay listens on a socket of its own.
func newRelay(t *testing.T) *relay {
	t.Helper()
	address := strings.TrimPrefix(dockerHost(), "unix://")
	r := new(relay)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", address)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	proxy.Transport = tr
	proxy.FlushInterval = -1
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	socket := filepath.Join(t.TempDir(), "docker.sock")
	r.host = "unix://" + socket
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		broken, answer := r.broken, r.answer
		r.asked = append(r.asked, req.Method+" "+req.URL.Path)
		r.mu.Unlock()
		switch {
		case broken:
			panic(http.ErrAbortHandler)
		case answer != nil && answer(w, req.URL.Path):
		default:
			proxy.ServeHTTP(w, req)
		}
	})}
	go server.Serve(&listener{Listener: ln, relay: r})
	t.Cleanup(func() { server.Close() })
	return r
}

// listener keeps the connections, to cut them.
type listener struct {
	net.Listener
	relay *relay
}

// cut breaks every connection, and all that are tried from now on.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = true
	for _, c := range r.open {
		c.Close()
	}
	r.open = nil
}

// mend lets new connections through.
func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = false
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.relay.mu.Lock()
		l.relay.open = append(l.relay.open, c)
		l.relay.mu.Unlock()
	}
	return c, err
}

// requests are those so far with a part in their path.
func (r *relay) requests(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, a := range r.asked {
		if strings.Contains(a, part) {
			n++
		}
	}
	return n
}

// answers has the relay answer requests whose path ends so, as Docker does when
// it fails.
func (r *relay) answers(end string, status int, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(w http.ResponseWriter, path string) bool {
		if !strings.HasSuffix(path, end) {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":`+strconv.Quote(message)+`}`)
		return true
	}
}

// dockerHost is where Docker listens.
func dockerHost() string {
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		return host
	}
	return client.DefaultDockerHost
}
