package vllmsim

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoadTimeAndLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r := serve(t, env{"VLLM_SIM_LOAD_TIME": "100s"}, "org/m", "--max-model-len", "1024")
		if took := time.Since(begin); took.Round(time.Millisecond) != 100*time.Second {
			t.Errorf("ready after %v", took)
		}
		wantOrder(t, r.out.String(),
			"Starting to load model org/m...",
			"Loading weights took 35.00 seconds",
			"Model loading took 11.04 GiB memory and 35.000000 seconds",
			"torch.compile took 20.00 s in total",
			"Available KV cache memory: 11.04 GiB",
			"GPU KV cache size: 1,447,024 tokens",
			"Maximum concurrency for 1,024 tokens per request: 1413.11x",
			"Graph capturing finished in 20 secs, took",
			"init engine (profile, create kv cache, warmup model) took",
			"Starting vLLM API server 0 on http://",
			"Application startup complete.",
		)
	})
}

func TestEagerLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		r := serve(t, env{"VLLM_SIM_LOAD_TIME": "6s"}, "m", "--enforce-eager")
		if took := time.Since(begin); took.Round(time.Millisecond) != 6*time.Second {
			t.Errorf("ready after %v", took)
		}
		for _, absent := range []string{"torch.compile", "Graph capturing"} {
			if strings.Contains(r.out.String(), absent) {
				t.Errorf("%q in an eager start", absent)
			}
		}
	})
}

func TestStartFaults(t *testing.T) {
	for fault, want := range map[StartFault]struct{ message, after string }{
		FailMemoryFree: {"ValueError: Free memory on device cuda:0 (11.04/24.0 GiB) on startup is less than desired GPU memory utilization " +
			"(0.92, 22.08 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.", "Initializing"},
		FailLoadOOM:         {"Failed to load model - not enough GPU memory.", "Starting to load model"},
		FailMemoryProfiling: {"AssertionError: Error in memory profiling. Initial free memory 24.0 GiB, current free memory 35.04 GiB.", "torch.compile took"},
		FailNoKVBlocks:      {"ValueError: No available memory for the cache blocks.", "Available KV cache memory: -2.76 GiB"},
		FailMaxSeqLen: {"ValueError: To serve at least one request with the model's max seq len (4096), (22.08 GiB KV cache is needed, which is " +
			"larger than the available KV cache memory (11.04 GiB). Based on the available memory, the estimated maximum model length is 2048.", "torch.compile took"},
		FailAutoFit:    {"ValueError: Cannot auto-fit max_model_len", "torch.compile took"},
		FailSamplerOOM: {"RuntimeError: CUDA out of memory occurred when warming up sampler with 7 dummy requests.", "Graph capturing finished"},
	} {
		t.Run(string(fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, extra := range []string{"--enable-prefix-caching", "--kv-cache-memory-bytes=11853998654"} {
					r := launch(t, env{"VLLM_SIM_FAIL": string(fault)}, "m", "--max-model-len", "4096", "--max-num-seqs", "7", extra)
					if status := r.end(); status != 1 {
						t.Errorf("status %d", status)
					}
					wantOrder(t, r.out.String(), want.after, want.message, "Engine core initialization failed.")
					if strings.Contains(r.out.String(), "Starting vLLM API server") {
						t.Error("it served")
					}
				}
			})
		})
	}
	if len(startFaults) != 7 {
		t.Errorf("%d faults exist, 7 are tested", len(startFaults))
	}
}

func TestModelLen(t *testing.T) {
	for _, test := range []struct {
		name, flag, perToken string
		want                 int
		says                 string
	}{
		{"the model's own", "", "8192", nominalModelLen, ""},
		{"cut to what fits", "", "1185399865", 0, "No available memory"},
		{"cut to what fits", "", "11853998", 992, ""},
		{"auto fits", "auto", "8192", nominalModelLen, "full model context length 32768 fits"},
		{"auto reduced", "-1", "11853998", 992, "reduced from 32768 to 992"},
		{"auto fails", "auto", "1185399865", 0, "Cannot auto-fit"},
		{"given", "1k", "11853998", 0, "estimated maximum model length is 992"},
		{"given", "992", "11853998", 992, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				args := []string{"m"}
				if test.flag != "" {
					args = append(args, "--max-model-len", test.flag)
				}
				r := launch(t, env{"VLLM_SIM_KV_BYTES_PER_TOKEN": test.perToken}, args...)
				select {
				case <-r.Ready():
					if r.loaded.modelLen != test.want {
						t.Errorf("context of %d tokens, want %d", r.loaded.modelLen, test.want)
					}
				case <-r.exited:
					if test.want != 0 {
						t.Errorf("the start failed:\n%s", r.out)
					}
				}
				if !strings.Contains(r.out.String(), test.says) {
					t.Errorf("%q is missing in:\n%s", test.says, r.out)
				}
			})
		})
	}
}

func TestInterruptedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, e := range []env{{"VLLM_SIM_LOAD_TIME": "1h"}, {"VLLM_SIM_HANG_START": "1"}} {
			r := launch(t, e, "m")
			time.Sleep(time.Minute) // fake time
			select {
			case <-r.Ready():
				t.Errorf("%v: ready", e)
			case <-r.exited:
				t.Errorf("%v: ended with %d", e, r.status)
			default:
			}
			begin := time.Now()
			r.stop()
			if status := r.end(); status != 0 || time.Since(begin) != 0 {
				t.Errorf("%v: status %d after %v", e, status, time.Since(begin))
			}
		}
	})
}
