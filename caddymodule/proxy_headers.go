// This file owns what of a request's headers a server sees, and what of an
// answer's headers a client sees.

package caddymodule

import (
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// upstreamHost is the host that servers read in requests. It is a name of no
// machine: an instance's transport knows where to go.
const upstreamHost = "vllm"

// hiddenFromServers are request headers that a server must not see: the client's
// credentials; what the gateway has dealt with itself; what would steer the server
// past the gateway (X-data-parallel-rank, in vLLM's chat completions).
var hiddenFromServers = []string{
	"Authorization", "Cookie", "X-Api-Key", "Api-Key",
	"Accept-Encoding", "Expect", "Incremental", "Connection", "Upgrade",
	"X-Data-Parallel-Rank",
}

// hiddenFromClients are response headers that tell of the server behind the
// gateway, or speak for a site that is not its own.
var hiddenFromClients = []string{
	"Server", "Via", "X-Powered-By", "Location", "Set-Cookie", "Www-Authenticate",
	"Alt-Svc", "Strict-Transport-Security",
}

// rewrite makes the request for the server of the client's request. The
// Authorization header is each attempt's own.
func rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	out.URL.Scheme, out.URL.Host, out.Host = "http", upstreamHost, ""
	out.URL.Path, out.URL.RawPath = exchangeOf(pr.In.Context()).route.Path, ""
	// No inference route reads a query, and some clients put a key there.
	out.URL.RawQuery, out.URL.ForceQuery = "", false
	for _, name := range hiddenFromServers {
		delete(out.Header, name)
	}
	forward(pr.In, out.Header)
}

// forward sets the X-Forwarded headers by Caddy's idea of the client: what a
// trusted proxy said stays, anything else does not.
func forward(in *http.Request, h http.Header) {
	trusted, _ := caddyhttp.GetVar(in.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	proto, host := "http", in.Host
	if in.TLS != nil {
		proto = "https"
	}
	var chain []string
	if trusted {
		chain = append(chain, in.Header["X-Forwarded-For"]...)
		if p := in.Header["X-Forwarded-Proto"]; len(p) > 0 {
			proto = p[len(p)-1]
		}
		if p := in.Header["X-Forwarded-Host"]; len(p) > 0 {
			host = p[len(p)-1]
		}
	}
	if peer, _, err := net.SplitHostPort(in.RemoteAddr); err == nil {
		peer, _, _ = strings.Cut(peer, "%")
		chain = append(chain, peer)
	}
	if len(chain) > 0 {
		h["X-Forwarded-For"] = []string{strings.Join(chain, ", ")}
	}
	h["X-Forwarded-Proto"] = []string{proto}
	h["X-Forwarded-Host"] = []string{host}
}

// modifyResponse makes a server's answer fit for the client. Its errors become
// answers of the gateway's own.
func modifyResponse(res *http.Response) error {
	x := exchangeOf(res.Request.Context())
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return errKeyRefused
	case http.StatusSwitchingProtocols:
		return errProtocol
	}
	for _, name := range hiddenFromClients {
		delete(res.Header, name)
	}
	res.Header["Server-Timing"] = []string{x.serverTiming()}
	if isEventStream(res) {
		res.Body = &eventStream{ReadCloser: res.Body, ctx: res.Request.Context(), x: x}
	}
	return nil
}

// debugLog is a standard logger that writes debug lines.
func debugLog(to *zap.Logger) *log.Logger {
	l, err := zap.NewStdLogAt(to, zap.DebugLevel)
	if err != nil { // only for a level that zap does not know
		return zap.NewStdLog(to)
	}
	return l
}
