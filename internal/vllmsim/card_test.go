package vllmsim

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

const context512 = 512 << 20

// newCards makes a folder with cards of 24 GiB.
func newCards(t *testing.T, uuids ...string) string {
	t.Helper()
	folder := t.TempDir()
	for _, uuid := range uuids {
		if err := simcard.Ensure(folder, uuid, "simulated", 24*gib); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func readCard(t *testing.T, folder, uuid string) simcard.Card {
	t.Helper()
	c, err := simcard.Read(folder, uuid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// phases is what the card's servers do, in words.
func phases(t *testing.T, folder, uuid string) string {
	t.Helper()
	var list []string
	for _, u := range readCard(t, folder, uuid).Uses {
		list = append(list, fmt.Sprintf("%s %s", u.Label, u.Phase))
	}
	return strings.Join(list, ", ")
}

func TestMemoryOnCards(t *testing.T) {
	folder := newCards(t, "GPU-a", "GPU-b", "GPU-c")
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_CARDS": folder, "CUDA_VISIBLE_DEVICES": "GPU-c, GPU-a,GPU-b", "VLLM_SIM_STOP_TIME": "30s"},
			"org/m", "--served-model-name", "m", "-tp", "2", "--gpu-memory-utilization", "0.5")
		for uuid, want := range map[string]int64{"GPU-a": 12*gib + context512, "GPU-b": 0, "GPU-c": 12*gib + context512} {
			if got := readCard(t, folder, uuid).Used(); got != want {
				t.Errorf("%s: %d bytes used, want %d", uuid, got, want)
			}
		}
		if got := phases(t, folder, "GPU-a"); got != "m serving" {
			t.Errorf("phases: %s", got)
		}
		r.stop()
		time.Sleep(20 * time.Second) // fake time
		if got := phases(t, folder, "GPU-c"); got != "m stopping" || readCard(t, folder, "GPU-c").Used() == 0 {
			t.Errorf("while it stops: %s", got)
		}
		if status := r.end(); status != 0 {
			t.Errorf("status %d", status)
		}
		if c := readCard(t, folder, "GPU-c"); c.Used() != 0 || c.Stale != 0 {
			t.Errorf("after the stop: %+v", c)
		}
	})
}

// TestMemoryWhileLoading follows what a start takes and says.
func TestMemoryWhileLoading(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		r := launch(t, env{
			"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "100s", "VLLM_SIM_WEIGHTS": fmt.Sprint(4 * gib), "VLLM_SIM_CONTEXT": fmt.Sprint(gib),
		}, "m", "--gpu-memory-utilization=0.5")
		begin := time.Now()
		for _, step := range []struct {
			at    time.Duration
			used  int64
			phase string
		}{
			{5, gib, "m starting"},           // initialising
			{30, 5 * gib, "m starting"},      // loading weights
			{60, 5 * gib, "m starting"},      // compiling
			{70, 5 * gib, "m profiling"},     // profiling
			{80, 12*gib + gib, "m starting"}, // capturing graphs
			{101, 12*gib + gib, "m serving"}, // ready
		} {
			time.Sleep(step.at*time.Second - time.Since(begin)) // fake time
			if got := readCard(t, folder, "GPU-a").Used(); got != step.used {
				t.Errorf("after %d s: %d bytes used, want %d", step.at, got, step.used)
			}
			if got := phases(t, folder, "GPU-a"); got != step.phase {
				t.Errorf("after %d s: %s, want %s", step.at, got, step.phase)
			}
		}
		wantOrder(t, r.out.String(), "Model loading took 4.0 GiB memory", "Available KV cache memory: 8.0 GiB")
	})
}

func TestKVCacheBytes(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		serve(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_WEIGHTS": fmt.Sprint(4 * gib)}, "m", "--kv-cache-memory-bytes", "2G")
		if got, want := readCard(t, folder, "GPU-a").Used(), int64(6*gib+context512); got != want {
			t.Errorf("%d bytes used, want %d", got, want)
		}
	})
}

// TestNeighbours changes the card under a starting server, which sizes itself by
// what it measures of the whole card.
func TestNeighbours(t *testing.T) {
	hold := func(t *testing.T, folder string, bytes int64) *simcard.Entry {
		t.Helper()
		e, err := simcard.Hold(folder, "GPU-a", "desktop", bytes)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	start := func(t *testing.T, folder, utilization string) *running {
		return launch(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "100s"}, "m", "--gpu-memory-utilization", utilization)
	}
	t.Run("too little is free", func(t *testing.T) {
		folder := newCards(t, "GPU-a")
		synctest.Test(t, func(t *testing.T) {
			hold(t, folder, 10*gib)
			r := start(t, folder, "0.6")
			if status := r.end(); status != 1 {
				t.Errorf("status %d", status)
			}
			wantOrder(t, r.out.String(), "Free memory on device cuda:0 (13.5/24.0 GiB) on startup is less than desired GPU memory utilization (0.6, 14.4 GiB)")
			if got := readCard(t, folder, "GPU-a").Used(); got != 10*gib {
				t.Errorf("%d bytes used after the failure", got)
			}
		})
	})
	t.Run("one takes memory", func(t *testing.T) {
		folder := newCards(t, "GPU-a")
		synctest.Test(t, func(t *testing.T) {
			r := start(t, folder, "0.5")
			time.Sleep(68 * time.Second) // fake time: it is profiling
			hold(t, folder, gib)
			<-r.Ready()
			// The neighbour's gibibyte is missing from the cache.
			wantOrder(t, r.out.String(), "Available KV cache memory: 5.0 GiB")
			if got, want := readCard(t, folder, "GPU-a").Used(), int64(12*gib+context512); got != want {
				t.Errorf("%d bytes used by both, want %d", got, want)
			}
		})
	})
	t.Run("one takes all", func(t *testing.T) {
		folder := newCards(t, "GPU-a")
		synctest.Test(t, func(t *testing.T) {
			r := start(t, folder, "0.5")
			time.Sleep(68 * time.Second) // fake time
			hold(t, folder, 7*gib)
			if status := r.end(); status != 1 {
				t.Errorf("status %d", status)
			}
			wantOrder(t, r.out.String(), "Available KV cache memory: -1.0 GiB", "No available memory for the cache blocks")
		})
	})
	t.Run("one frees memory", func(t *testing.T) {
		folder := newCards(t, "GPU-a")
		synctest.Test(t, func(t *testing.T) {
			desktop := hold(t, folder, 10*gib)
			r := start(t, folder, "0.5")
			time.Sleep(68 * time.Second) // fake time
			if err := desktop.Close(); err != nil {
				t.Fatal(err)
			}
			if status := r.end(); status != 1 {
				t.Errorf("status %d", status)
			}
			wantOrder(t, r.out.String(), "Error in memory profiling. Initial free memory 13.5 GiB, current free memory 17.5 GiB")
		})
	})
	t.Run("the weights do not fit", func(t *testing.T) {
		folder := newCards(t, "GPU-a")
		synctest.Test(t, func(t *testing.T) {
			r := launch(t, env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_WEIGHTS": fmt.Sprint(30 * gib)}, "m", "--gpu-memory-utilization", "0.9")
			if status := r.end(); status != 1 {
				t.Errorf("status %d", status)
			}
			wantOrder(t, r.out.String(), "Failed to load model - not enough GPU memory",
				"CUDA out of memory. Tried to allocate 30.00 GiB. GPU 0 has a total capacity of 24.00 GiB of which 23.50 GiB is free.")
		})
	})
}

func TestOverlappingStarts(t *testing.T) {
	folder := newCards(t, "GPU-a")
	synctest.Test(t, func(t *testing.T) {
		e := env{"VLLM_SIM_CARDS": folder, "VLLM_SIM_LOAD_TIME": "100s"}
		// With the cache's size given, both starts survive what they do to each other.
		one := launch(t, e, "one", "--gpu-memory-utilization", "0.3", "--kv-cache-memory-bytes", "1G")
		time.Sleep(50 * time.Second) // fake time
		two := launch(t, e, "two", "--gpu-memory-utilization", "0.3", "--kv-cache-memory-bytes", "1G")
		<-two.Ready()
		overlaps, err := simcard.Overlaps(folder)
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, o := range overlaps {
			seen = append(seen, fmt.Sprintf("%s %s/%s %s", o.Who, o.Phase, o.Other, o.OtherPhase))
		}
		if got := strings.Join(seen, ", "); got != "two starting/one starting, one profiling/two starting" {
			t.Errorf("overlaps: %s", got)
		}
		wantOrder(t, two.out.String(), "WARNING", "overlap: two")
		<-one.Ready()
		one.stop()
		one.end()
		if after, _ := simcard.Overlaps(folder); len(after) != len(overlaps) {
			t.Errorf("a stop beside a serving neighbour counts as an overlap: %v", after[len(overlaps):])
		}
	})
}

func TestVisibleCards(t *testing.T) {
	folder := newCards(t, "GPU-a", "GPU-b", "GPU-c")
	for _, test := range []struct {
		cuda, nvidia string
		tp           string
		want         string // the cards used, or a part of the failure
	}{
		{"", "", "1", "[GPU-a]"},
		{"", "all", "3", "[GPU-a GPU-b GPU-c]"},
		{"", "GPU-b", "1", "[GPU-b]"},
		{"GPU-c", "GPU-b", "1", "[GPU-c]"},
		{"2,0", "", "2", "[GPU-c GPU-a]"},
		{"GPU-a", "", "2", "World size (2) is larger than the number of available GPUs (1)"},
		{"GPU-a,GPU-x,GPU-b", "", "2", "World size (2) is larger than the number of available GPUs (1)"},
		{"", "void", "1", "No CUDA GPUs are available"},
	} {
		cfg := configure(t, env{"VLLM_SIM_CARDS": folder, "CUDA_VISIBLE_DEVICES": test.cuda, "NVIDIA_VISIBLE_DEVICES": test.nvidia},
			"m", "--tensor-parallel-size", test.tp)
		c, err := openCards(&cfg, &logger{stdout: t.Output(), stderr: t.Output()})
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if got := fmt.Sprint(c.uuids); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}
}
