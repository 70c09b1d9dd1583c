package vllmsim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/internal/simmodel"
)

// TestParts follows each part of a server's memory through its start and its
// first request.
func TestParts(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		kv    int64
		graph int64
		says  []string
	}{
		{
			"sized", nil, 7 * gib, 512 << 20,
			[]string{"Available KV cache memory: 7.0 GiB", "GPU KV cache size: 917,504 tokens", "took 0.50 GiB"},
		},
		{"eager", []string{"--enforce-eager"}, 7 * gib, 0, []string{"Available KV cache memory: 7.0 GiB"}},
		{
			"pinned",
			[]string{"--kv-cache-memory-bytes", "3G"},
			3 * gib, 512 << 20,
			[]string{"Initial free memory 23.5 GiB, reserved 3.0 GiB memory for KV Cache as specified by kv_cache_memory_bytes", "GPU KV cache size: 393,216 tokens"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := newCards(t, "GPU-a")
			synctest.Test(t, func(t *testing.T) {
				r := launch(t, env{
					"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "100s", "VLLM_SIM_WEIGHTS": fmt.Sprint(4 * gib),
					"VLLM_SIM_ACTIVATION": fmt.Sprint(gib), "VLLM_SIM_GRAPHS": fmt.Sprint(512 << 20), "VLLM_SIM_PEAK": fmt.Sprint(256 << 20),
					"VLLM_SERVER_DEV_MODE": "1",
				}, append([]string{"m", "--gpu-memory-utilization", "0.5", "--enable-sleep-mode"}, test.args...)...)
				if test.graph > 0 {
					time.Sleep(70 * time.Second) // fake time
					wantUsed(t, folder, "GPU-a", context512+4*gib+gib, simcard.Profiling)
					time.Sleep(10 * time.Second) // fake time: it captures graphs
					wantUsed(t, folder, "GPU-a", context512+4*gib+test.kv+test.graph, simcard.Starting)
				}
				<-r.Ready()
				rest := context512 + 4*gib + gib + test.kv + test.graph
				wantUsed(t, folder, "GPU-a", rest, simcard.Serving)
				wantOrder(t, r.out.String(), test.says...)
				for range 2 {
					if status, body := ask(r); status != 200 {
						t.Fatalf("%d %s", status, body)
					}
					wantUsed(t, folder, "GPU-a", rest+256<<20, simcard.Serving)
				}
				r.must("/sleep")
				wantUsed(t, folder, "GPU-a", residual, simcard.Asleep)
				r.must("/wake_up")
				wantUsed(t, folder, "GPU-a", rest, simcard.Serving)
				ask(r)
				wantUsed(t, folder, "GPU-a", rest+256<<20, simcard.Serving)
			})
		})
	}
}

// TestPinnedStillNeedsRoom has less free than is requested, though not needed.
func TestPinnedStillNeedsRoom(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		desktop, err := simcard.Hold(folder, "GPU-a", "desktop", 10*gib)
		if err != nil {
			t.Fatal(err)
		}
		defer desktop.Close()
		r := launch(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_WEIGHTS": fmt.Sprint(gib)}, "m", "--kv-cache-memory-bytes", "1G")
		if status := r.end(); status != 1 {
			t.Errorf("status %d", status)
		}
		wantOrder(t, r.out.String(), "Free memory on device cuda:0 (13.5/24.0 GiB) on startup is less than desired GPU memory utilization")
	})
}

// TestNoRoomForTheRest has a card on which one part after another finds no room.
func TestNoRoomForTheRest(t *testing.T) {
	for name, want := range map[string]string{
		"VLLM_SIM_ACTIVATION": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
		"VLLM_SIM_GRAPHS":     "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
		"VLLM_SIM_PEAK":       "EngineCore encountered a fatal error. (torch.OutOfMemoryError: CUDA out of memory.",
	} {
		t.Run(name, func(t *testing.T) {
			folder := newCards(t, "GPU-a")
			synctest.Test(t, func(t *testing.T) {
				r := launch(t, env{"VLLM_SIM_CARDS": folder, name: fmt.Sprint(20 * gib)}, "m", "--gpu-memory-utilization", "0.5")
				if name == "VLLM_SIM_PEAK" {
					<-r.Ready()
					res, err := r.client.Do(request(t, "POST", "/v1/completions", `{"prompt":"a"}`))
					if err == nil {
						res.Body.Close()
						t.Errorf("status %d", res.StatusCode)
					}
				}
				if status := r.end(); status != 1 {
					t.Errorf("status %d", status)
				}
				wantOrder(t, r.out.String(), want)
			})
		})
	}
}

func TestWorkersSpeak(t *testing.T) {
	folder := newCards(t, "GPU-a", "GPU-b")
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_CARDS": folder}, "m", "-tp", "2")
		for _, says := range []string{"Model loading took 11.04 GiB memory", "Available KV cache memory: 11.04 GiB", "Graph capturing finished in"} {
			for _, who := range []string{"(Worker_TP0 pid=", "(Worker_TP1 pid="} {
				found := false
				for line := range strings.Lines(r.out.String()) {
					found = found || strings.HasPrefix(line, who) && strings.Contains(line, says)
				}
				if !found {
					t.Errorf("no line %s… %s in\n%s", who, says, r.out)
				}
			}
		}
		if n := strings.Count(r.out.String(), "GPU KV cache size: "); n != 1 {
			t.Errorf("the cache's size is told %d times", n)
		}
	})
}

// TestModelFolder serves a folder, whose model tells its own sizes.
func TestModelFolder(t *testing.T) {
	folder := t.TempDir()
	m := simmodel.Llama{Layers: 16, Hidden: 2048, Heads: 32, KVHeads: 8, Intermediate: 8192, Vocab: 128256, MaxLen: 4096}
	weights, err := simmodel.Write(folder, m)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		cards := newCards(t, "GPU-a", "GPU-b")
		r := serve(t, env{"VLLM_SIM_CARDS": cards}, folder, "-tp", "2", "--kv-cache-memory-bytes", "1G")
		if r.loaded.modelLen != 4096 || r.cfg.KVPerToken != m.KVPerToken()/2 {
			t.Errorf("a context of %d tokens of %d bytes", r.loaded.modelLen, r.cfg.KVPerToken)
		}
		wantUsed(t, cards, "GPU-b", context512+weights/2+gib, simcard.Serving)

		e := env{"VLLM_SIM_WEIGHTS": "1", "VLLM_SIM_KV_BYTES_PER_TOKEN": "100"}
		if r := serve(t, e, folder); r.cfg.Weights != 1 || r.cfg.KVPerToken != 100 {
			t.Errorf("the environment gave way: %+v", r.cfg)
		}
		long := launch(t, nil, folder, "--max-model-len", "4097")
		if status := long.end(); status != 1 {
			t.Errorf("status %d", status)
		}
		wantOrder(t, long.out.String(), "User-specified max_model_len (4097) is greater than the derived max_model_len (max_position_embeddings=4096")
	})
	for _, broken := range []struct{ file, content, want string }{
		{"model.safetensors", "\xff\xff\xff\xff\xff\xff\xff\x7f{}", "model.safetensors of the model is no safetensors file"},
		{"model.safetensors", "", "model.safetensors of the model is no safetensors file"},
		{"config.json", "{", "config.json of the model"},
	} {
		if err := os.WriteFile(filepath.Join(folder, broken.file), []byte(broken.content), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			r := launch(t, nil, folder)
			if status := r.end(); status != 1 || !strings.Contains(r.out.String(), broken.want) {
				t.Errorf("%s %q: status %d:\n%s", broken.file, broken.content, status, r.out)
			}
		})
	}
}

// TestCountedFaults starts servers of which the first ones fail.
func TestCountedFaults(t *testing.T) {
	for count, fail := range map[string]int{"": 1, "1": 1, "3": 3} {
		state := filepath.Join(t.TempDir(), "faults")
		synctest.Test(t, func(t *testing.T) {
			for n := range 5 {
				r := launch(t, env{"VLLM_SIM_FAIL": "memory_free", "VLLM_SIM_FAIL_COUNT": count, "VLLM_SIM_FAIL_STATE": state}, "m")
				select {
				case <-r.Ready():
					if n < fail {
						t.Errorf("count %q: start %d went well", count, n+1)
					}
				case <-r.exited:
					if n >= fail {
						t.Errorf("count %q: start %d failed", count, n+1)
					}
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		r := launch(t, env{"VLLM_SIM_FAIL": "memory_free", "VLLM_SIM_FAIL_STATE": t.TempDir()}, "m")
		if status := r.end(); status != 1 || !strings.Contains(r.out.String(), "VLLM_SIM_FAIL_STATE") {
			t.Errorf("status %d:\n%s", status, r.out)
		}
	})
}
