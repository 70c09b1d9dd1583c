// This file owns what of a request's headers a server sees. What a client sees of
// the answer: response.go.

package caddymodule

import (
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
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

// rewrite makes the request for the server of the client's request. The
// Authorization header is each attempt's own.
func rewrite(pr *httputil.ProxyRequest) {
	out, route := pr.Out, exchangeOf(pr.In.Context()).route
	out.URL.Scheme, out.URL.Host, out.Host = "http", upstreamHost, ""
	out.URL.Path, out.URL.RawPath = route.Path, ""
	// No other inference route reads a query, and some clients put a key there.
	out.URL.RawQuery, out.URL.ForceQuery = "", false
	if route.ModelIn == openai.ModelInStore {
		out.URL.RawQuery = storedQuery(pr.In.URL.RawQuery)
	}
	for _, name := range hiddenFromServers {
		delete(out.Header, name)
	}
	// What is compressed cannot be passed on event by event, nor read here.
	out.Header["Accept-Encoding"] = []string{"identity"}
	if route.Socket {
		rewriteSocket(out.Header)
	}
	forward(pr.In, out.Header)
}

// echoRequestID tells the client its own request's ID in the answer, whatever
// becomes of the request, and says whether there is one.
func echoRequestID(w http.ResponseWriter, r *http.Request) bool {
	id := r.Header["X-Request-Id"]
	if len(id) == 0 {
		return false
	}
	w.Header()["X-Request-Id"] = id[:1]
	return true
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

// debugLog is a standard logger that writes debug lines.
func debugLog(to *zap.Logger) *log.Logger {
	l, err := zap.NewStdLogAt(to, zap.DebugLevel)
	if err != nil { // only for a level that zap does not know
		return zap.NewStdLog(to)
	}
	return l
}
