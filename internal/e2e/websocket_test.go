package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realtimeCommand is this program's argument that makes it one.
const realtimeCommand = "realtime-sim"

// realtime is a server of WebSockets in a process of its own, in the place of vLLM:
// it sends back what it gets.
func realtime(args []string) int {
	port := slices.Index(args, "--port")
	if port < 0 || port+1 == len(args) {
		return 2
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v1/realtime", func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
		_, _ = io.Copy(c, rw)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+args[port+1], mux))
	return 1
}

// A WebSocket through the whole of Caddy: it outlives reloads, holds its instance
// while it lives, and its end is seen by both sides.
func TestWebSocketThroughCaddy(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const models = "model spoken {\n repo org/spoken\n vram 8GiB\n}\n"
	g := startIn(t, fmt.Sprintf("engine process {\n command %q %s\n}\ngpus simulated {\n folder %q\n gpu GPU-1 80GiB\n}\n",
		program, realtimeCommand, filepath.Join(home, "cards")), models)
	host := strings.TrimPrefix(g.plain, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "GET /v1/realtime?model=spoken HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", host)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", res, err)
	}
	say := func(text string) {
		t.Helper()
		_, _ = io.WriteString(c, text)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(br, got); err != nil || string(got) != text {
			t.Errorf("%q comes back as %q, %v", text, got, err)
		}
	}
	serving := func() int { return g.status(t).model("spoken").Queue.Serving }
	say("before")
	if n := serving(); n != 1 {
		t.Errorf("%d requests are served", n)
	}
	if err := g.load(models + "model other {\n repo org/other\n vram 8GiB\n}\n"); err != nil {
		t.Fatal(err)
	}
	say("after a reload")
	_ = c.Close()
	eventually(t, "nothing is served", func() bool { return serving() == 0 })
	if l := accessLines(t, "spoken", 1)[0]; l.Status != http.StatusSwitchingProtocols || l.VLLM.Outcome != "served" {
		t.Errorf("the access log has %+v", l)
	}
}
