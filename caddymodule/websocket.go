// This file owns WebSockets: how a request for one is let in, and how its
// connection is passed on for as long as it lives.

package caddymodule

import (
	"bufio"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// codeWebSocketRequired is told, with status 400, where a route takes nothing else.
const codeWebSocketRequired = "websocket_required"

// keyProtocol begins the subprotocol in which OpenAI's clients in browsers, which
// can set no headers, send their API key.
const keyProtocol = "openai-insecure-api-key."

// prepareSocket finds the model of a request that opens a WebSocket. It has no body.
//
// The connection has its ticket and its lease for as long as it lives, so its
// instance is busy and stays. A reload leaves it alone; it ends when either side
// ends it, with its instance, and with Caddy's own process.
func (a *Admission) prepareSocket(r *http.Request, x *exchange) (*vramman.Model, error) {
	if !opensSocket(r) {
		return nil, openai.Error{
			Status: http.StatusBadRequest, Code: codeWebSocketRequired, NoRetry: true,
			Message: "this route is a WebSocket: open one, over HTTP/1.1",
		}
	}
	name, err := openai.QueryModel(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	model, served, err := a.find(r.Context(), []byte(name))
	if err != nil {
		return nil, err
	}
	x.model, x.served = model.Name(), served
	x.body = &requestBody{budget: a.limits.budget}
	return model, nil
}

// opensSocket says whether a request opens a WebSocket as RFC 6455, section 4.1,
// has it. Extended CONNECT, the way of HTTP/2 and HTTP/3, is none.
func opensSocket(r *http.Request) bool {
	return r.ProtoMajor == 1 &&
		hasToken(r.Header["Connection"], "upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		r.Header.Get("Sec-WebSocket-Key") != ""
}

// hasToken says whether a header that is a list has a token.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// rewriteSocket makes the headers of a WebSocket's handshake fit for the server:
// without the client's key, which may be among the subprotocols.
func rewriteSocket(h http.Header) {
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	var protocols []string
	for _, line := range h["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.TrimSpace(p); p != "" && !strings.HasPrefix(p, keyProtocol) {
				protocols = append(protocols, p)
			}
		}
	}
	delete(h, "Sec-Websocket-Protocol")
	if len(protocols) > 0 {
		h["Sec-Websocket-Protocol"] = []string{strings.Join(protocols, ", ")}
	}
}

// socketWriter answers a request that opens a WebSocket. A WebSocket has no half:
// the connection it is handed over as ends whole, so that an instance which has
// died is not held by a client that has not noticed.
type socketWriter struct {
	http.ResponseWriter
	x *exchange
}

// Unwrap is for [http.ResponseController].
func (w socketWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack implements http.Hijacker. It answers the handshake itself, as any other
// answer begins, or else Caddy's log would know of no status; what the proxy writes
// of it is dropped.
func (w socketWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	maps.Copy(w.Header(), w.x.handshake)
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := rw.Flush(); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	// A client may have sent more already.
	whole := &wholeConn{Conn: conn, in: rw.Reader}
	return whole, bufio.NewReadWriter(rw.Reader, bufio.NewWriter(io.Discard)), nil
}

// wholeConn hides that a connection can be closed by half. The proxy leaves when one
// direction has ended, and the other may be at its last bytes; since Caddy counts
// them for its log, which is written next, Close waits for that one, too.
type wholeConn struct {
	net.Conn
	in io.Reader

	mu     sync.Mutex
	closed bool
	use    sync.WaitGroup // reads and writes under way
}

// begin says whether the connection may be used; then use is to be told of the end.
func (c *wholeConn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.use.Add(1)
	}
	return !c.closed
}

// Read implements io.Reader.
func (c *wholeConn) Read(p []byte) (int, error) {
	if !c.begin() {
		return 0, net.ErrClosed
	}
	defer c.use.Done()
	return c.in.Read(p)
}

// Write implements io.Writer.
func (c *wholeConn) Write(p []byte) (int, error) {
	if !c.begin() {
		return 0, net.ErrClosed
	}
	defer c.use.Done()
	return c.Conn.Write(p)
}

// Close ends what is under way, and returns when it has ended.
func (c *wholeConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.Conn.Close()
	c.use.Wait()
	return err
}

// wholeBody does so for the server's side.
type wholeBody struct{ io.ReadWriteCloser }

// Interface guards
var _ http.Hijacker = socketWriter{}
