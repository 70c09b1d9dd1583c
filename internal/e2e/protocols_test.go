package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// overQUIC is a client of HTTP/3 that trusts the gateway's own authority.
func (g *gateway) overQUIC(t *testing.T) *http.Client {
	t.Helper()
	g.trusting(t, true) // there is a certificate
	root, err := os.ReadFile(filepath.Join(home, "storage", "pki", "authorities", "local", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(func() { _ = tr.Close() })
	return &http.Client{Transport: tr}
}

// Whatever a client speaks: each event comes while the next is held back, the stream
// ends properly, a server's death is an event, and leaving reaches the server.
func TestStreamsOverEachProtocol(t *testing.T) {
	g := start(t, `
		model even {
			repo org/even
			env VLLM_SIM_REPLY_TOKENS 50
			env VLLM_SIM_TOKENS_PER_SECOND 500
		}
		model endless {
			repo org/endless
			env VLLM_SIM_REPLY_TOKENS 1000000
		}
		model frail {
			repo org/frail
			env VLLM_SIM_REPLY_TOKENS 20
			env VLLM_SIM_DIE_MID_STREAM 5
		}`)
	plain := g.plain
	for _, tt := range []struct {
		proto, site string
		client      func() *http.Client
	}{
		{"HTTP/1.1", plain, func() *http.Client { return g.client }},
		{"HTTP/2.0", g.secure, func() *http.Client { return g.trusting(t, true) }},
		{"HTTP/3.0", g.secure, func() *http.Client { return g.overQUIC(t) }},
	} {
		t.Run(tt.proto, func(t *testing.T) {
			site := &gateway{plain: tt.site, client: tt.client()}
			if err := site.stream(t.Context(), "even", nil); err != nil {
				t.Errorf("the stream ended with %v", err)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			res, err := site.client.Do(site.request(ctx, "endless", true))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.Proto != tt.proto {
				t.Errorf("the answer came by %s", res.Proto)
			}
			if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: ") {
				t.Errorf("the first event of a stream without end is %q, %v", line, err)
			}
			leave()
			_, _ = io.Copy(io.Discard, res.Body)
			metrics := "http://" + listening(t, "endless") + "/metrics"
			eventually(t, "the server runs nothing", func() bool { return gauge(t, metrics, "vllm:num_requests_running") == 0 })
			eventually(t, "its death is told as an event", func() bool {
				err := site.stream(t.Context(), "frail", nil)
				// Until it is up again, requests are refused.
				return err != nil && strings.Contains(err.Error(), `"code":"upstream_failed"`) && strings.HasPrefix(err.Error(), "event ")
			})
		})
	}
}
