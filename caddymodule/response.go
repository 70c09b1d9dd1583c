// This file owns what a client sees of a server's answer: which headers, which
// errors, and how its body is read.

package caddymodule

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// shownToClients are the headers of an answer that a client sees. Any other may
// tell of the server behind the gateway, or speak for a site that is not its own.
var shownToClients = map[string]bool{
	"Content-Type":          true,
	"Content-Length":        true,
	"Content-Encoding":      true,
	"Content-Language":      true,
	"Content-Disposition":   true,
	"Cache-Control":         true,
	"Date":                  true,
	"Retry-After":           true,
	"X-Accel-Buffering":     true,
	"X-Request-Id":          true,
	"Endpoint-Load-Metrics": true, // ORCA: asked for by a header of the same name
}

// shownOfSockets are those that a WebSocket's handshake has besides.
var shownOfSockets = map[string]bool{
	"Connection":               true,
	"Upgrade":                  true,
	"Sec-Websocket-Accept":     true,
	"Sec-Websocket-Protocol":   true,
	"Sec-Websocket-Extensions": true,
}

// hiddenTrailers are trailers that tell of the server behind the gateway.
var hiddenTrailers = []string{
	"Server", "Via", "X-Powered-By", "Location", "Set-Cookie", "Www-Authenticate",
	"Alt-Svc", "Strict-Transport-Security",
}

// modifyResponse makes a server's answer fit for the client. An error is told by
// the proxy's error handler in the answer's place.
func (u *Upstream) modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	switched := res.StatusCode == http.StatusSwitchingProtocols
	switch {
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return errKeyRefused
	case switched && !(x.route.Socket && strings.EqualFold(res.Header.Get("Upgrade"), "websocket")):
		return errProtocol
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return errRedirect
	}
	events := isEventStream(res)
	for name := range res.Header {
		if !shownToClients[name] && !(switched && shownOfSockets[name]) {
			delete(res.Header, name)
		}
	}
	if x.echoed { // the client's own, told already
		delete(res.Header, "X-Request-Id")
	}
	if switched {
		x.timer.rest() // it may be silent for as long as it likes
		if both, ok := res.Body.(io.ReadWriteCloser); ok {
			res.Body = wholeBody{both}
		}
		x.handshake = res.Header
		return nil
	}
	res.Header["Server-Timing"] = []string{x.serverTiming()}
	if x.answerer != "" {
		res.Header[headerFallback] = []string{x.answerer}
	}
	res.Body = &answer{ReadCloser: res.Body, res: res, x: x, timer: x.timer, idle: u.timeouts.idle, begun: !events}
	if res.StatusCode >= 400 {
		return tellServerError(res, x)
	}
	if x.route.Path == responsesPath {
		res.Body = &responseHead{ReadCloser: res.Body, events: events, found: x.noteStored}
	}
	if events {
		// Nothing between here and the client may gather events: not Caddy's encode,
		// which heeds the one, nor nginx, which heeds the other.
		res.Header["Cache-Control"] = []string{"no-cache, no-transform"}
		res.Header["X-Accel-Buffering"] = []string{"no"}
		res.Body = &maskedEvents{ReadCloser: res.Body}
	}
	watch(res, x)
	return nil
}

// tellServerError makes a server's error fit for the client. One of the client's
// making passes in the server's own shape, with paths and addresses masked; one of
// the server's making gets the gateway's shape around the server's message, if it
// has one that is JSON.
func tellServerError(res *http.Response, x *exchange) error {
	body, whole := readError(res)
	said, known := parseServerError(body)
	if res.StatusCode < 500 && whole && isJSON(res) {
		if masked, ok := maskJSON(body); ok {
			res.Body = io.NopCloser(bytes.NewReader(masked))
			res.ContentLength = int64(len(masked))
			res.Header["Content-Length"] = []string{strconv.Itoa(len(masked))}
			return nil
		}
	}
	e := openai.Error{Status: res.StatusCode, Code: openai.CodeUpstreamFailed, RetryAfter: retryAfterOf(res.Header)}
	switch {
	case known:
		e.Message = mask(said.Message)
	case res.StatusCode < 500:
		e.Code, e.Message = codeRefusedByServer, "the server of model "+x.model+" refused the request"
	default:
		e.Message = "the server of model " + x.model + " failed at the request"
	}
	return e
}

// isJSON says whether an answer says that it is JSON.
func isJSON(res *http.Response) bool {
	media, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// answer is the body of an answer as the server sends it. It is read only as fast
// as the client takes it, and given up when the server is silent for too long.
type answer struct {
	io.ReadCloser
	res   *http.Response
	x     *exchange
	timer *attemptTimer
	idle  time.Duration
	begun bool // something has come; before, the time to the first byte still counts
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	if a.begun {
		a.timer.wait(a.idle, errStreamTimeout)
	}
	n, err := a.ReadCloser.Read(p)
	if n > 0 {
		a.timer.rest() // how long the client takes is not the server's matter
		a.begun = true
	}
	if err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		for _, name := range hiddenTrailers {
			delete(a.res.Trailer, name)
		}
		return n, io.EOF
	}
	if timeout := timedOut(a.res.Request.Context()); timeout != nil {
		err = timeout
	}
	a.x.broke = err
	return n, err
}

// Interface guards
var _ io.ReadCloser = (*answer)(nil)
