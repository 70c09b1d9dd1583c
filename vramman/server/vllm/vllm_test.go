package vllm

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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
	pinned := place
	pinned.Context, pinned.KVBytes = gib1, 5_000_000_000
	full := Server{}.Args(server.Model{
		Name: "qwen3-30b", Repo: "Qwen/Qwen3-30B-A3B", TensorParallel: 2, MaxModelLen: 16384, MaxNumSeqs: 8,
		DType: "bfloat16", Quantization: "fp8", EnforceEager: true, Sleep: true, Args: []string{"--enable-prefix-caching"},
	}, pinned, listen)
	want := "--model Qwen/Qwen3-30B-A3B --served-model-name qwen3-30b --host 127.0.0.1 --port 4711" +
		" --tensor-parallel-size 2 --max-model-len 16384 --max-num-seqs 8 --dtype bfloat16 --quantization fp8" +
		" --enforce-eager --enable-sleep-mode --gpu-memory-utilization 0.4875 --kv-cache-memory-bytes 5000000000 --shutdown-timeout 30 --enable-prefix-caching"
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
		charge, total, free, context int64
		want                         string
	}{
		{charge: 40 * gib1, total: 80 * gib1, want: "0.4937"},        // 39.5/80 = 0.49375
		{charge: 72*gib1 + gib1/2, total: 80 * gib1, want: "0.9000"}, // exactly
		{charge: 80 * gib1, total: 80 * gib1, want: "0.9937"},        // the whole card
		{charge: 90 * gib1, total: 80 * gib1, want: "1.0000"},        // more than the card
		{charge: 1 << 62, total: 80 * gib1, want: "1.0000"},
		{charge: gib1, total: 80 * gib1, want: "0.0062"},
		{charge: gib1 / 2, total: 80 * gib1, want: "0.0001"}, // the context alone
		{charge: gib1 / 4, total: 80 * gib1, want: "0.0001"}, // less than the context
		{charge: 0, total: 80 * gib1, want: "0.0001"},
		{charge: 150_000_000_000, total: 150_754_820_096, want: "0.9914"}, // an H200
		{charge: 16*gib1 - 1, total: 24*gib1 - 300<<20, want: "0.6538"},
		{charge: contextAllowance + 1, total: 1, want: "1.0000"},
		{charge: contextAllowance + 8_999_999, total: 10_000_000, want: "0.8999"}, // down, never up

		{charge: 40 * gib1, total: 80 * gib1, free: 60 * gib1, want: "0.4937"}, // more is free than it needs
		{charge: 40 * gib1, total: 80 * gib1, free: 30 * gib1, want: "0.3687"}, // 29.5/80
		{charge: 40 * gib1, total: 80 * gib1, free: gib1 / 4, want: "0.0001"},
		{charge: 40 * gib1, total: 80 * gib1, context: gib1, want: "0.4875"},
		{charge: 40 * gib1, total: 80 * gib1, free: 40 * gib1, context: 2 * gib1, want: "0.4750"},
	} {
		p := server.Place{Charge: c.charge, CardTotal: c.total, Free: c.free, Context: c.context}
		if got := utilization(p); got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
}

// vLLM starts only where its share is free after its context is there, and with
// its context takes no more than its charge.
func TestUtilizationNeverAsksForMoreThanThereIs(t *testing.T) {
	const seed = 11
	draw := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		total := gib1 + draw.Int64N(200*gib1)
		p := server.Place{Charge: draw.Int64N(total + gib1), CardTotal: total, Free: draw.Int64N(total + 1), Context: draw.Int64N(gib1)}
		share, err := strconv.ParseFloat(utilization(p), 64)
		if err != nil || share <= 0 || share > 1 {
			t.Fatalf("seed %d: %+v gives %v (%v)", seed, p, share, err)
		}
		context := cmp.Or(p.Context, contextAllowance)
		asked := share * float64(total)
		if share == 0.0001 {
			continue // it fails and says why
		}
		if p.Free > 0 && asked > float64(p.Free-context)+1 || asked+float64(context) > float64(p.Charge)+1 {
			t.Fatalf("seed %d: of %+v it asks for %.0f", seed, p, asked)
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
	env = Server{}.Env(server.Model{Sleep: true}, server.Place{})
	if !slices.Contains(env, "VLLM_SERVER_DEV_MODE=1") {
		t.Errorf("it cannot be put to sleep with %q", env)
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

// Each request is sent as it is to wherever the instance is, and is its
// caller's own.
func TestRequests(t *testing.T) {
	var seen string
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Method + " " + r.URL.String() }))
	defer ts.Close()
	for want, request := range map[string]func() *http.Request{
		"GET /health":                   Server{}.ReadyRequest,
		"POST /sleep?level=1&mode=wait": Server{}.SleepRequest,
		"POST /wake_up":                 Server{}.WakeRequest,
	} {
		r := request().WithContext(t.Context())
		r.URL.Host = ts.Listener.Addr().String()
		resp, err := ts.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if seen != want {
			t.Errorf("asks %s, want %s", seen, want)
		}
		if again := request(); again.URL.Host == r.URL.Host {
			t.Errorf("%s: two callers share a request", want)
		}
	}
}
