package vllm

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

const gib1 = 1 << 30

func TestArgs(t *testing.T) {
	listen := engine.Listen{Host: "127.0.0.1", Port: 4711}
	place := server.Place{Charge: 40 * gib1, CardTotal: 80 * gib1, Key: "sk-secret", StopGrace: 40 * time.Second}
	full := Server{}.Args(server.Model{
		Name: "qwen3-30b", Repo: "Qwen/Qwen3-30B-A3B", TensorParallel: 2, MaxModelLen: 16384, MaxNumSeqs: 8,
		DType: "bfloat16", Quantization: "fp8", EnforceEager: true, Args: []string{"--enable-prefix-caching"},
	}, place, listen)
	want := "--model Qwen/Qwen3-30B-A3B --served-model-name qwen3-30b --host 127.0.0.1 --port 4711" +
		" --tensor-parallel-size 2 --max-model-len 16384 --max-num-seqs 8 --dtype bfloat16 --quantization fp8" +
		" --enforce-eager --gpu-memory-utilization 0.4937 --shutdown-timeout 30 --enable-prefix-caching"
	if got := strings.Join(full, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	least := Server{}.Args(server.Model{Name: "m", Repo: "/models/m", TensorParallel: 1}, place, listen)
	want = "--model /models/m --served-model-name m --host 127.0.0.1 --port 4711 --gpu-memory-utilization 0.4937 --shutdown-timeout 30"
	if got := strings.Join(least, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if strings.Contains(strings.Join(full, " "), place.Key) {
		t.Error("the key is among the arguments")
	}
	// What the gateway sets, it also keeps users from setting.
	for _, arg := range full[:len(full)-1] {
		if strings.HasPrefix(arg, "--") && (Server{}).Managed([]string{arg}) != arg {
			t.Errorf("%s is set and not managed", arg)
		}
	}
}

func TestUtilization(t *testing.T) {
	for _, c := range []struct {
		charge, total int64
		want          string
	}{
		{40 * gib1, 80 * gib1, "0.4937"},        // 39.5/80 = 0.49375
		{72*gib1 + gib1/2, 80 * gib1, "0.9000"}, // exactly
		{80 * gib1, 80 * gib1, "0.9937"},        // the whole card
		{90 * gib1, 80 * gib1, "1.0000"},        // more than the card
		{1 << 62, 80 * gib1, "1.0000"},
		{gib1, 80 * gib1, "0.0062"},
		{gib1 / 2, 80 * gib1, "0.0001"}, // the context alone
		{gib1 / 4, 80 * gib1, "0.0001"}, // less than the context
		{0, 80 * gib1, "0.0001"},
		{150_000_000_000, 150_754_820_096, "0.9914"}, // an H200
		{16*gib1 - 1, 24*gib1 - 300<<20, "0.6538"},
		{contextAllowance + 1, 1, "1.0000"},
		{contextAllowance + 8_999_999, 10_000_000, "0.8999"}, // down, never up
	} {
		if got := utilization(c.charge, c.total); got != c.want {
			t.Errorf("%d of %d: got %s, want %s", c.charge, c.total, got, c.want)
		}
	}
}

func TestEnv(t *testing.T) {
	env := Server{}.Env(server.Model{Env: []string{"OF_THE_MODEL=1"}}, server.Place{Key: "sk-1", StartTimeout: 30*time.Minute + time.Millisecond})
	want := []string{"VLLM_HTTP_TIMEOUT_KEEP_ALIVE=120", "VLLM_ENGINE_READY_TIMEOUT_S=1861", "VLLM_NO_USAGE_STATS=1", "VLLM_API_KEY=sk-1"}
	if !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
	env = Server{}.Env(server.Model{}, server.Place{StartTimeout: time.Minute})
	if want := []string{"VLLM_HTTP_TIMEOUT_KEEP_ALIVE=120", "VLLM_ENGINE_READY_TIMEOUT_S=600", "VLLM_NO_USAGE_STATS=1"}; !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
	if (Server{}).KeepAlive() != 120*time.Second {
		t.Error("another keep-alive than vLLM is told")
	}
}

func TestShutdownTimeout(t *testing.T) {
	for grace, want := range map[time.Duration]string{
		0: "0", time.Second: "0", 5 * time.Second: "2", 10 * time.Second: "5",
		20 * time.Second: "10", 30 * time.Second: "20", 10 * time.Minute: "590",
	} {
		if got := seconds(shutdownTimeout(grace)); got != want {
			t.Errorf("of %s: %s s, want %s", grace, got, want)
		}
	}
}

func TestReadyRequest(t *testing.T) {
	var seen string
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Method + " " + r.URL.String() }))
	defer ts.Close()
	r := Server{}.ReadyRequest().WithContext(t.Context())
	r.URL.Host = ts.Listener.Addr().String()
	resp, err := ts.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if seen != "GET /health" {
		t.Errorf("asks %s", seen)
	}
	if (Server{}).ReadyRequest().URL.Host == r.URL.Host {
		t.Error("two callers share a request")
	}
}
