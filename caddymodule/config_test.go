// This file tests what configurations become, and what JSON is refused for.

package caddymodule

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/vramman"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// quietConfig is a JSON configuration that opens nothing but the app.
func quietConfig(vrammanJSON string) []byte {
	return fmt.Appendf(nil, `{
		"admin": {"disabled": true, "config": {"persist": false}},
		"logging": {"logs": {"default": {"level": "FATAL"}}},
		"apps": {"vramman": %s}
	}`, vrammanJSON)
}

// guests are an engine and a card, as members of the app's JSON.
const guests = `"engine": {"engine": "simulated"}, "gpus": {"source": "simulated", "gpus": [{"uuid": "GPU-1", "memory": 25769803776}]}`

// provision returns the app of a configuration as it is before it starts.
func provision(t *testing.T, config []byte) *App {
	t.Helper()
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &cfg); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.AppIfConfigured("vramman")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.(*App).Cleanup(); err != nil {
			t.Error(err)
		}
	})
	return app.(*App)
}

// specOf returns what the manager is given for options of a Caddyfile.
func specOf(t *testing.T, options string) *vramman.Spec {
	t.Helper()
	config, _, err := adapt(vrammanFile(options))
	if err != nil {
		t.Fatal(err)
	}
	return provision(t, config).Generation().Spec()
}

func TestStandardValues(t *testing.T) {
	spec := specOf(t, "model a {\n repo org/a\n}")
	if spec.Name != "main" || spec.Eviction.Name() != "lru" || spec.MaxWaitForTurn != 2*time.Minute || spec.DrainTimeout != 10*time.Minute {
		t.Errorf("got %+v", spec)
	}
	if want := []vramman.Pool{{Name: "all", Budget: 0.92}}; !reflect.DeepEqual(spec.Pools, want) {
		t.Errorf("got pools %+v, want %+v", spec.Pools, want)
	}
	got := spec.Models[0]
	if got.Pool != "all" || got.Launch.Name != "a" || got.Launch.Repo != "org/a" || got.Launch.TensorParallel != 1 ||
		got.Need != (placement.Need{}) || got.AlwaysOn || got.Launch.EnforceEager {
		t.Errorf("got %+v", got)
	}
	if got.IdleTimeout != 30*time.Minute || got.MinResidency != 90*time.Second || got.StartTimeout != 10*time.Minute ||
		got.StopGrace != 30*time.Second || got.MaxConcurrent != 50 || got.MaxQueue != 200 || got.MaxWait != 15*time.Minute {
		t.Errorf("got limits of %+v", got)
	}
}

func TestPoolBudgets(t *testing.T) {
	spec := specOf(t, "budget 0.5\npool p {\n gpu GPU-1\n}\npool q {\n gpu GPU-2 GPU-3\n budget 0.7\n placement whole_card\n}")
	want := []vramman.Pool{
		{Name: "p", GPUs: []string{"GPU-1"}, Budget: 0.5},
		{Name: "q", GPUs: []string{"GPU-2", "GPU-3"}, Budget: 0.7, WholeCard: true},
	}
	if !reflect.DeepEqual(spec.Pools, want) {
		t.Errorf("got %+v, want %+v", spec.Pools, want)
	}
	if got := specOf(t, "budget 0.5").Pools; got[0].Budget != 0.5 {
		t.Errorf("got %+v, want a budget of 0.5", got)
	}
}

func TestOnlyPoolIsTheDefault(t *testing.T) {
	if got := specOf(t, "pool p {\n gpu GPU-1\n}\nmodel a {\n repo r\n}").Models[0].Pool; got != "p" {
		t.Errorf("got pool %q, want p", got)
	}
}

// TestDefaults shows what a model takes from where.
func TestDefaults(t *testing.T) {
	spec := specOf(t, `
		idle_timeout 0s
		max_queue 0
		max_wait 1m
		max_concurrent 9
		pool p {
			gpu GPU-1 GPU-2
		}
		pool q {
			gpu GPU-3
		}
		model own {
			repo r
			pool q
			vram 3GiB
			tensor_parallel 1
			max_model_len 10
			max_num_seqs 20
			dtype half
			quantization awq
			enforce_eager off
			always_on off
			args --own 2
			env B own
			env C own
			request_defaults `+"`{\"own\": 1}`"+`
			idle_timeout 1h
			max_queue 3
			max_wait 3m
		}
		model theirs {
			repo r
		}
		defaults {
			pool p
			gpu_memory_utilization 0.5
			tensor_parallel 2
			max_model_len 100
			max_num_seqs 200
			dtype float16
			quantization fp8
			enforce_eager
			always_on
			args --theirs 1
			env A theirs
			env B theirs
			request_defaults `+"`{\"theirs\": 1}`"+`
			min_residency 0s
			max_queue 2
			max_concurrent 5
		}`)
	own, theirs := spec.Models[0], spec.Models[1]

	if l := own.Launch; own.Pool != "q" || l.TensorParallel != 1 || l.MaxModelLen != 10 || l.MaxNumSeqs != 20 ||
		l.DType != "half" || l.Quantization != "awq" || l.EnforceEager || own.AlwaysOn {
		t.Errorf("own options do not count: %+v", own)
	}
	if own.Need != (placement.Need{Bytes: 3 << 30}) {
		t.Errorf("own vram does not replace the defaults' share: %+v", own.Need)
	}
	if want := []string{"--theirs", "1", "--own", "2"}; !slices.Equal(own.Launch.Args, want) {
		t.Errorf("got args %q, want %q", own.Launch.Args, want)
	}
	if want := []string{"A=theirs", "B=own", "C=own"}; !slices.Equal(own.Launch.Env, want) {
		t.Errorf("got env %q, want %q", own.Launch.Env, want)
	}
	if own.IdleTimeout != time.Hour || own.MinResidency != 0 || own.MaxQueue != 3 || own.MaxConcurrent != 5 || own.MaxWait != 3*time.Minute {
		t.Errorf("got limits of %+v", own)
	}

	if l := theirs.Launch; theirs.Pool != "p" || l.TensorParallel != 2 || l.MaxModelLen != 100 || l.MaxNumSeqs != 200 ||
		l.DType != "float16" || l.Quantization != "fp8" || !l.EnforceEager || !theirs.AlwaysOn {
		t.Errorf("the defaults do not count: %+v", theirs)
	}
	if theirs.Need != (placement.Need{Share: 0.5}) {
		t.Errorf("got need %+v, want half a card", theirs.Need)
	}
	if want := []string{"--theirs", "1"}; !slices.Equal(theirs.Launch.Args, want) {
		t.Errorf("got args %q, want %q", theirs.Launch.Args, want)
	}
	// From the top level, the defaults, and the program, in this order.
	if theirs.IdleTimeout != 0 || theirs.MaxWait != time.Minute || theirs.MinResidency != 0 || theirs.MaxQueue != 2 ||
		theirs.MaxConcurrent != 5 || theirs.StartTimeout != 10*time.Minute {
		t.Errorf("got limits of %+v", theirs)
	}
}

func TestRequestDefaults(t *testing.T) {
	config, _, err := adapt(vrammanFile("model a {\n repo r\n alias b\n request_defaults `{\"n\": 1}`\n}\nmodel c {\n repo r\n}"))
	if err != nil {
		t.Fatal(err)
	}
	app := provision(t, config)
	if got := app.RequestDefaults("a"); got == nil || got.String() != `{"n":1}` {
		t.Errorf("got %v", got)
	}
	if got := app.RequestDefaults("c"); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
}

// TestMistakesInJSON shows that JSON is checked as Caddyfiles are.
func TestMistakesInJSON(t *testing.T) {
	for _, tt := range []struct{ name, json, want string }{
		{"unknown member", `{` + guests + `, "mxa_queue": 3}`, "mxa_queue"},
		{"no engine", `{"gpus": {"source": "simulated", "gpus": [{"uuid": "GPU-1", "memory": 25769803776}]}}`, "no engine is configured"},
		{"no cards", `{"engine": {"engine": "simulated"}}`, "no cards are configured"},
		{"unknown engine", `{"engine": {"engine": "podman"}, "gpus": {"source": "simulated"}}`, "vramman.engines.podman"},
		{
			"process without a command", `{"engine": {"engine": "process"}, "gpus": {"source": "simulated", "gpus": [{"uuid": "GPU-1", "memory": 25769803776}]}}`,
			"the engine process is without a command",
		},
		{"cards without cards", `{"engine": {"engine": "simulated"}, "gpus": {"source": "simulated"}}`, "gpus simulated is without cards"},
		{"negative time", `{` + guests + `, "max_wait": "-1s"}`, "max_wait is negative"},
		{"negative turn", `{` + guests + `, "max_wait_for_turn": "-1s"}`, "max_wait_for_turn is negative"},
		{"negative drain", `{` + guests + `, "drain_timeout": -1}`, "drain_timeout is negative"},
		{"negative queue", `{` + guests + `, "max_queue": -1}`, "max_queue must be at least 0"},
		{"none at once", `{` + guests + `, "max_concurrent": -1}`, "max_concurrent must be at least 1"},
		{"budget", `{` + guests + `, "budget": 92}`, "budget must be above 0 and at most 1"},
		{"pool without GPUs", `{` + guests + `, "pools": [{"name": "p"}]}`, "pool p is without GPUs"},
		{"pool without a name", `{` + guests + `, "pools": [{"gpus": ["GPU-1"]}]}`, `"" cannot be a pool's name`},
		{"pool twice", `{` + guests + `, "pools": [{"name": "p", "gpus": ["GPU-1"]}, {"name": "p", "gpus": ["GPU-2"]}]}`, "pool p is defined twice"},
		{"model without a name", `{` + guests + `, "models": [{"repo": "r"}]}`, "a model is without a name"},
		{"model without a repo", `{` + guests + `, "models": [{"name": "a"}]}`, "model a is without a repo"},
		{"model twice", `{` + guests + `, "models": [{"name": "a", "repo": "r"}, {"name": "a", "repo": "r"}]}`, "model a is defined twice"},
		{"unknown pool", `{` + guests + `, "models": [{"name": "a", "repo": "r", "pool": "q"}]}`, "there is no pool q"},
		{"negative cards", `{` + guests + `, "models": [{"name": "a", "repo": "r", "tensor_parallel": -1}]}`, "tensor_parallel must be at least 1"},
		{"vram without its zeros", `{` + guests + `, "models": [{"name": "a", "repo": "r", "vram": 24}]}`, "vram of 24 bytes is too little"},
		{"negative vram", `{` + guests + `, "models": [{"name": "a", "repo": "r", "vram": -24}]}`, "is too little"},
		{"utilization", `{` + guests + `, "models": [{"name": "a", "repo": "r", "gpu_memory_utilization": -0.5}]}`, "gpu_memory_utilization must be above 0"},
		{"managed flag", `{` + guests + `, "models": [{"name": "a", "repo": "r", "args": ["--port", "80"]}]}`, "--port cannot stand in args"},
		{"defaults that are none", `{` + guests + `, "models": [{"name": "a", "repo": "r", "request_defaults": "x"}]}`, "must be a JSON object"},
		{"unknown placeholder", `{` + guests + `, "models": [{"name": "a", "repo": "r", "env": {"X": "{sekret}"}}]}`, "env X: the value has a placeholder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := validate(t, quietConfig(tt.json))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "sekret") {
				t.Errorf("the error tells a value: %v", err)
			}
		})
	}
}

// TestNullModels shows that nothing in JSON can make the checks fall over.
func TestNullModels(t *testing.T) {
	for _, members := range []string{
		`"models": [null]`, `"pools": [null]`, `"defaults": null`, `"models": null`,
		`"eviction": null`, `"models": [{"name": "a", "repo": "r", "server": null, "request_defaults": null, "env": null}]`,
	} {
		_ = validate(t, quietConfig(`{`+guests+`, `+members+`}`)) // an error or none, but no panic
	}
}
