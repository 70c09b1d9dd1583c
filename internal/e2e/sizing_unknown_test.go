package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// This file tests models whose files do not tell what they take.

// A model of a type that nobody knows: it says so, has a card for itself, and from
// its second start on takes what the first was measured to.
func TestUnknownModel(t *testing.T) {
	t.Parallel()
	a := newApart(t, simulated, "gpu GPU-1 24GiB")
	folder, weights := a.model(t, "strange", llama(32128))
	config := filepath.Join(folder, "config.json")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), `"llama"`, `"strangest"`))
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a.run(t, fmt.Sprintf(`
		defaults {
			%s
			min_residency 0s
		}
		model strange {
			repo %q
		}
		model other {
			repo org/other
			vram 8GiB
		}`, working, folder))

	p := a.plan(t, "strange")
	why := p.Need[0].Note
	budget := p.Cards[0].Budget
	if p.Verdict != "start" || p.Need[0].Source != "whole card" || p.Need[0].Bytes != budget ||
		!strings.HasPrefix(why, "cannot estimate, because ") || !strings.Contains(why, "strangest") {
		t.Errorf("the plan is %+v", p)
	}
	if text, exit := a.command(t, "plan", "strange"); exit != 0 || !strings.Contains(text, why) {
		t.Errorf("'caddy vllm plan' ends with %d: %s", exit, text)
	}
	a.ask(t, "strange")
	if i := a.instance(t, "strange"); i.Source != "whole card" || i.Declared != budget {
		t.Errorf("the first instance is %+v", i)
	}
	if s := a.server(t, "strange"); s.flag("--kv-cache-memory-bytes") != "" || s.flag("--gpu-memory-utilization") == "" {
		t.Errorf("the first server is told %q", s.args)
	}
	n := a.measured(t, "strange")

	a.ask(t, "other") // in its place
	a.ask(t, "strange")
	i, card := a.instance(t, "strange"), a.card(t, "GPU-1")
	took := weights + workingBytes + 8*8192*65536
	if i.Source != "measured" || i.Declared != n.Bytes || !near(i.Charged, took) || i.Charged < i.Measured {
		t.Errorf("it takes %d, and the second instance is %+v", took, i)
	}
	if len(card.Holders) != 2 || card.Charged > card.Budget {
		t.Errorf("the two are on %+v", card)
	}
	s := a.server(t, "strange")
	if kv, _ := strconv.ParseInt(s.flag("--kv-cache-memory-bytes"), 10, 64); !near(kv, 8*8192*65536) {
		t.Errorf("the second server is told %q", s.args)
	}
}
