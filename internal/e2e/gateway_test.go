package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/vllm-gateway/vllm-gateway"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// gateway is Caddy with the gateway, on ports of its own, through all reloads of
// a test.
type gateway struct {
	plain, secure string // URLs
	house         string // the options for engine and cards
	extra         string // further sites
	client        *http.Client
}

// start runs a gateway with models, which are the lines of the global option.
func start(t *testing.T, models string) *gateway {
	t.Helper()
	return startIn(t, fmt.Sprintf(`
		engine simulated {
			env VLLM_SIM_LOAD_TIME 100ms
		}
		gpus simulated {
			folder %q
			gpu GPU-1 80GiB
			gpu GPU-2 80GiB
		}
		defaults {
			vram 8GiB
		}`, filepath.Join(home, "cards")), models)
}

// startIn runs a gateway with another engine and other cards.
func startIn(t *testing.T, house, models string) *gateway {
	t.Helper()
	g := &gateway{
		house:  house,
		plain:  "http://" + address(t),
		secure: "https://localhost:" + strings.TrimPrefix(address(t), "127.0.0.1:"),
	}
	tr := &http.Transport{MaxIdleConnsPerHost: 1000}
	g.client = &http.Client{Transport: tr}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	if err := g.load(models); err != nil {
		t.Fatal(err)
	}
	return g
}

// address is one that nobody listens on.
func address(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// load puts a configuration in force, as a reload does.
func (g *gateway) load(models string) error {
	file := fmt.Sprintf(`{
	admin off
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	default_bind 127.0.0.1
	storage file_system %[1]q
	log {
		output file %[2]q
		level INFO
	}
	vramman {
		%[3]s
		%[4]s
	}
}
%[5]s {
	log
	vllm_gateway
}
%[6]s {
	tls internal
	vllm_gateway
}
%[7]s
`, filepath.Join(home, "storage"), filepath.Join(home, "caddy.log"), g.house, models, g.plain, g.secure, g.extra)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(file), nil)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// trusting is a client that trusts the gateway's own certificate authority.
func (g *gateway) trusting(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(home, "storage", "pki", "authorities", "local", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2}
	t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr}
	// Caddy serves before it has the certificate.
	eventually(t, "the gateway has a certificate", func() bool {
		res, err := client.Get(g.secure + "/health")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode == http.StatusOK
	})
	return client
}

// request is a chat request.
func (g *gateway) request(ctx context.Context, model string, stream bool) *http.Request {
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hello"}]}`, model, stream)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.plain+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		panic(err) // of a constant
	}
	r.Header.Set("Content-Type", "application/json")
	return r
}

// chat sends a chat request and returns the answer's status, headers and body.
func (g *gateway) chat(t *testing.T, model string) (int, http.Header, string) {
	t.Helper()
	res, err := g.client.Do(g.request(t.Context(), model, false))
	if err != nil {
		t.Error(err)
		return 0, nil, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, res.Header, string(body)
}

// stream sends a streaming chat request and reads its events. began is called at
// the first. The error says why the stream is not whole.
func (g *gateway) stream(ctx context.Context, model string, began func()) error {
	res, err := g.client.Do(g.request(ctx, model, true))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(res.Body)
		return fmt.Errorf("status %d: %s", res.StatusCode, body)
	}
	var events int
	var last string
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if events++; events == 1 && began != nil {
			began()
		}
		if last = string(data); strings.Contains(last, `"error"`) {
			return fmt.Errorf("event %d is %s", events, last)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after %d events: %w", events, err)
	}
	if last != "[DONE]" {
		return fmt.Errorf("the last of %d events is %s", events, last)
	}
	return nil
}

// status is the gateway's status.
type status struct {
	vramman.Status
	LogLevel string            `json:"log_level"`
	Version  map[string]string `json:"version"`
}

func (g *gateway) status(t *testing.T) status {
	t.Helper()
	var s status
	res, err := g.client.Get(g.plain + "/gateway/status")
	if err != nil {
		t.Error(err)
		return s
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&s); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("status %d: %v", res.StatusCode, err)
	}
	return s
}

// model finds a model in the status; the zero ModelStatus if there is none.
func (s status) model(name string) vramman.ModelStatus {
	for _, m := range s.Models {
		if m.Name == name {
			return m
		}
	}
	return vramman.ModelStatus{}
}

// instances are the IDs of a model's instances that are ready.
func (s status) instances(model string) []string {
	var ids []string
	for _, i := range s.Instances {
		if i.Model == model && i.State == "ready" {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("still not so: %s", what)
		}
	}
}
