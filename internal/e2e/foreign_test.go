package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests VRAM that other programs take.

func TestForeign(t *testing.T)       { t.Parallel(); foreign(t, simulated) }
func TestDockerForeign(t *testing.T) { t.Parallel(); foreign(t, docker) }

// foreign has another program grow into the room of models: the idle one makes
// room for it, and no more of them than need be; the busy one serves on, and makes
// room when it is idle.
func foreign(t *testing.T, engine string) {
	a := newApart(t, engine, "gpu GPU-1 24GiB\ngpu GPU-2 16GiB\ngpu GPU-3 8GiB")
	hold := filepath.Join(a.cards, "hold") // where servers can see it
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.run(t, fmt.Sprintf(`
		defaults {
			vram 6GiB
			pin_gpus GPU-1
		}
		model older {
			repo org/older
		}
		model newer {
			repo org/newer
		}
		model always {
			repo org/always
			always_on
			vram 4GiB
		}
		model busy {
			repo org/busy
			pin_gpus GPU-2
			env VLLM_SIM_HOLD %q
		}
		model look-1 {
			repo org/look
			vram 2GiB
			pin_gpus GPU-3
		}
		model look-2 {
			repo org/look
			vram 2GiB
			pin_gpus GPU-3
		}`, hold))
	eventually(t, "the one that is always on is ready", func() bool { return a.status(t).model("always").State == "ready" })
	a.ask(t, "older")
	a.ask(t, "newer")
	done := make(chan int, 1)
	go func() {
		code, _, _ := a.chat(t, "busy")
		done <- code
	}()
	eventually(t, "it is busy", func() bool { return a.instance(t, "busy").Leases == 1 })

	// 16 GiB are charged of 24, and 6 of 16.
	one, two := a.hold(t, "GPU-1", 10*gib), a.hold(t, "GPU-2", 11*gib)
	a.ask(t, "look-1") // each start has the cards read
	eventually(t, "the idle one that was used before the other makes room", func() bool { return a.instance(t, "older").ID == "" })
	if a.count(t, "stop", "older") != 1 || !strings.Contains(a.decisions(t, "older")[2].Reason, "other programs use 10.0 GiB of GPU-1") {
		t.Errorf("%+v", a.decisions(t, "older"))
	}
	s := a.status(t)
	if s.model("newer").State != "ready" || s.model("always").State != "ready" || a.instance(t, "busy").Leases != 1 {
		t.Errorf("the others are %+v", s.Instances)
	}
	overdrawn := func(uuid string) (n int) {
		for _, f := range a.status(t).Audit.Findings {
			if f.Kind == vramman.FindingOverdrawn && f.GPU == uuid {
				n++
			}
		}
		return n
	}
	if overdrawn("GPU-2") != 1 {
		t.Errorf("of the busy one's card the audit says %+v", s.Audit)
	}
	a.ask(t, "older") // the newer one is as idle now
	if a.count(t, "evict", "newer") != 1 || a.instance(t, "always").State != "ready" {
		t.Errorf("%q", a.actions(t, ""))
	}

	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != http.StatusOK {
		t.Errorf("the busy one answers %d", code)
	}
	eventually(t, "once idle, it makes room", func() bool { return a.instance(t, "busy").ID == "" })
	if code, _, body := a.chat(t, "busy"); code != http.StatusServiceUnavailable || !strings.Contains(body, "vram_unavailable") || !strings.Contains(body, "other programs use 11.0 GiB") {
		t.Errorf("beside the other program: status %d: %s", code, body)
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	a.ask(t, "look-2")
	eventually(t, "when it is gone, the model is back", func() bool {
		code, _, _ := a.chat(t, "busy")
		return code == http.StatusOK
	})
	if n := overdrawn("GPU-2"); n != 0 {
		t.Errorf("the audit still says so: %+v", a.status(t).Audit)
	}
}
