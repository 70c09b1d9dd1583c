package vllmsim

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func noEnv(string) string { return "" }

func TestDefaults(t *testing.T) {
	cfg, err := ParseConfig(nil, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Model: defaultModel, ServedNames: []string{defaultModel}, Port: 8000, TensorParallel: 1, MaxNumSeqs: 256,
		Utilization: 0.92, Tasks: "auto",
		Environment: Environment{
			KeepAlive: 5 * time.Second, Context: 512 << 20, LoadTime: time.Second,
			SleepTime: 100 * time.Millisecond, WakeTime: 100 * time.Millisecond, SleepResidual: 1152 << 20,
			TTFT: 20 * time.Millisecond, TokensPerSecond: 200, EmbeddingSize: 64,
		},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args string
		get  func(Config) any
		want any
	}{
		{"serve org/m", func(c Config) any { return c.Model }, "org/m"},
		{"--model org/m", func(c Config) any { return c.Model }, "org/m"},
		{"--port 1 org/m", func(c Config) any { return c.Model }, "org/m"},
		{"--port=1 -- org/m", func(c Config) any { return c.Model }, "org/m"},
		{"org/m", func(c Config) any { return c.ServedNames }, []string{"org/m"}},
		{"org/m --served-model-name a b --port 1", func(c Config) any { return c.ServedNames }, []string{"a", "b"}},
		{"--served_model_name=a org/m", func(c Config) any { return c.ServedNames }, []string{"a"}},
		{"-tp 2 m", func(c Config) any { return c.TensorParallel }, 2},
		{"-tp=2 m", func(c Config) any { return c.TensorParallel }, 2},
		{"--tensor_parallel_size 2 m", func(c Config) any { return c.TensorParallel }, 2},
		{"--tensor-p 2 m", func(c Config) any { return c.TensorParallel }, 2}, // abbreviated
		{"--max-num-seqs 1 m --max-num-seqs 2", func(c Config) any { return c.MaxNumSeqs }, 2},
		{"--max-model-len 32K m", func(c Config) any { return c.MaxModelLen }, 32768},
		{"--max-model-len 25.6k m", func(c Config) any { return c.MaxModelLen }, 25600},
		{"--max-model-len -1 m", func(c Config) any { return c.MaxModelLen }, autoModelLen},
		{"--max-model-len auto m", func(c Config) any { return c.MaxModelLen }, autoModelLen},
		{"--kv-cache-memory-bytes 2G m", func(c Config) any { return c.KVCacheBytes }, int64(2 * gib)},
		{"--kv-cache-memory 7 m", func(c Config) any { return c.KVCacheBytes }, int64(7)},
		{"--shutdown-timeout 9 m", func(c Config) any { return c.ShutdownTimeout }, 9 * time.Second},
		{"--enforce-eager m", func(c Config) any { return c.EnforceEager }, true},
		{"--enforce-eager m --no-enforce-eager", func(c Config) any { return c.EnforceEager }, false},
		{"m --enable-sleep-mode", func(c Config) any { return c.SleepMode }, false}, // not without VLLM_SERVER_DEV_MODE
		{"m --api-key a b", func(c Config) any { return c.APIKeys }, []string{"a", "b"}},
		// Flags of vLLM's that change nothing here.
		{
			"m --enable-prefix-caching --no-enable-chunked-prefill --dtype half -q awq --trust-remote-code " +
				"-O3 -cc.level 3 --compilation-config.cudagraph_mode=FULL --hf-overrides {\"a\":-1} --limit-mm-per-prompt.image 0 " +
				"--seed 1 --disable-log-stats --max-num-batched-tokens 8192 --load-format dummy",
			func(c Config) any { return c.Model }, "m",
		},
	} {
		cfg, err := ParseConfig(strings.Fields(test.args), noEnv)
		if err != nil {
			t.Errorf("%s: %v", test.args, err)
			continue
		}
		if got := test.get(cfg); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %v, want %v", test.args, got, test.want)
		}
	}
}

func TestFlagErrors(t *testing.T) {
	for args, want := range map[string]string{
		"m --nonsense 5":                 "unrecognized arguments: --nonsense 5",
		"m n":                            "unrecognized arguments: n",
		"m -z":                           "unrecognized arguments: -z",
		"m --seed.x 1":                   "unrecognized arguments: --seed.x 1",
		"m --":                           "",
		"m --max 5":                      "ambiguous option: --max could match --max-",
		"m --port":                       "argument --port: expected one argument",
		"m --port --seed 1":              "argument --port: expected one argument",
		"m --served-model-name":          "argument --served-model-name: expected at least one argument",
		"m --port x":                     `argument --port: invalid int value: "x"`,
		"m --port 70000":                 "argument --port: 70000 is not between 0 and 65535",
		"m -tp 0":                        "argument --tensor-parallel-size: 0 is not between",
		"m --max-num-seqs 0":             "argument --max-num-seqs",
		"m --max-model-len 0":            "argument --max-model-len",
		"m --max-model-len 1.5K":         "decimals are not allowed",
		"m --max-model-len many":         "invalid int value",
		"m --kv-cache-memory-bytes 9T9":  "invalid int value",
		"m --gpu-memory-utilization 1.5": "argument --gpu-memory-utilization",
		"m --gpu-memory-utilization NaN": "argument --gpu-memory-utilization",
		"m --gpu-memory-utilization x":   "invalid float value",
		"m --dtype int3":                 "argument --dtype: invalid choice",
		"m --enforce-eager=1":            "ignored explicit argument",
		"m --config file.yaml":           "argument --config",
		"m --no-port":                    "unrecognized arguments: --no-port",
	} {
		_, err := ParseConfig(strings.Fields(args), noEnv)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", args, err)
			}
			continue
		}
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestEnvironmentErrors(t *testing.T) {
	for name, value := range map[string]string{
		"VLLM_SIM_LOAD_TIME": "-1s", "VLLM_SIM_STOP_TIME": "1", "VLLM_SIM_TOKENS_PER_SECOND": "NaN", "VLLM_SIM_CONTEXT": "512MiB",
		"VLLM_SIM_WEIGHTS": "-1", "VLLM_SIM_KV_BYTES_PER_TOKEN": "0", "VLLM_SIM_EMBEDDING_SIZE": "0", "VLLM_SIM_REPLY_TOKENS": "x",
		"VLLM_SIM_FAIL": "oom", "VLLM_SIM_DIE_AFTER": "-1", "VLLM_SIM_DIE_MID_STREAM": "0", "VLLM_SIM_HANG_AFTER": "x",
		"VLLM_SIM_503": "all", "VLLM_SIM_HANG_START": "maybe", "VLLM_SIM_IGNORE_TERM": "2", "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "5s",
		"VLLM_SIM_ACTIVATION": "1GiB", "VLLM_SIM_GRAPHS": "-1", "VLLM_SIM_PEAK": "x", "VLLM_SIM_SLEEP_RESIDUAL": "-1",
		"VLLM_SIM_SLEEP_TIME": "1", "VLLM_SIM_WAKE_TIME": "-1s", "VLLM_SIM_FAIL_SLEEP": "oom", "VLLM_SIM_FAIL_WAKE": "keep",
		"VLLM_SIM_FAIL_COUNT": "1", "VLLM_SERVER_DEV_MODE": "yes",
	} {
		_, err := ParseConfig([]string{"m"}, func(n string) string {
			if n == name {
				return value
			}
			return ""
		})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestFaultCounts(t *testing.T) {
	cfg := configure(t, env{"VLLM_SIM_503": "1", "VLLM_SIM_HANG_AFTER": "2", "VLLM_SIM_DIE_AFTER": "3"}, "m")
	var got []fate
	for n := range int64(4) {
		got = append(got, cfg.Faults.fate(n+1))
	}
	if want := []fate{fateUnavailable, fateServed, fateHangs, fateKills}; !reflect.DeepEqual(got, want) {
		t.Errorf("fates %v, want %v", got, want)
	}
	if got := (&Faults{}).fate(1); got != fateServed {
		t.Errorf("fate %v without faults", got)
	}
}

func FuzzArguments(f *testing.F) {
	for _, seed := range []string{
		"serve\nm\n--port\n1", "--a=b", "--=", "-", "--", "---", "-tp", "-tp=2", "-O", "-O3", "--no-", "--no-enforce-eager",
		"--served-model-name\na\nb", "--max-model-len\n1e9k", "--hf-overrides.a.b\n{}", "--model\n--\nm", "-1\n-1", "--.x", "--max_",
		"--kv-cache-memory-bytes\n99999999999999T", "--max-model-len\n-9223372036854775808", "--gpu-memory-utilization\nInf",
		"m\n--enable-sleep-mode\n--no-enable-sleep-mode", "--enable_sleep_mode=1", "--enable-sl",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		cfg, err := ParseConfig(strings.Split(line, "\n"), noEnv)
		if err != nil {
			return
		}
		if len(cfg.ServedNames) == 0 || cfg.MaxNumSeqs < 1 || cfg.TensorParallel < 1 || cfg.MaxModelLen < autoModelLen ||
			!(cfg.Utilization > 0 && cfg.Utilization <= 1) || cfg.KVCacheBytes < 0 || cfg.Port < 0 || cfg.ShutdownTimeout < 0 {
			t.Errorf("%q gives %+v", line, cfg)
		}
	})
}
