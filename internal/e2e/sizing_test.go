package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/internal/simmodel"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests how much VRAM models get for which nobody said it.

const (
	mib = 1 << 20
	gib = 1 << 30
)

// llama is a model of about 2 GiB of weights, with 64 KiB of cache for each token.
// Those of another vocabulary are other models.
func llama(vocab int) simmodel.Llama {
	return simmodel.Llama{Layers: 16, Hidden: 2048, Heads: 16, KVHeads: 8, Intermediate: 8192, Vocab: vocab, MaxLen: 8192}
}

// working is what stand-ins take beside weights and cache.
const working = `
	env VLLM_SIM_ACTIVATION 314572800
	env VLLM_SIM_GRAPHS 524288000
`

// workingBytes is that, with the context.
const workingBytes = (300 + 500 + 512) * mib

// near says whether a figure is another, up to how vLLM rounds what it logs.
func near(got, want int64) bool { return got-want < 32*mib && want-got < 32*mib }

// measured waits until the next start of a model would be given what was measured,
// and returns that.
func (a *apart) measured(t *testing.T, model string) (n vramman.NeedStatus) {
	t.Helper()
	eventually(t, model+" was measured", func() bool {
		f := a.status(t).model(model).Footprint
		if len(f) == 0 {
			return false
		}
		n = f[0]
		return n.Source == "measured"
	})
	return n
}

func TestSizes(t *testing.T)       { t.Parallel(); sizes(t, simulated) }
func TestDockerSizes(t *testing.T) { t.Parallel(); sizes(t, docker) }

// sizes follows a model for which nothing is declared: it is given what its files
// let expect, and its server is told so; then what it was measured to take, also
// in the next process and with another max_model_len.
func sizes(t *testing.T, engine string) {
	a := newApart(t, engine, "gpu GPU-1 24GiB\ngpu GPU-2 24GiB")
	alpha, weights := a.model(t, "alpha", llama(32000))
	beta, _ := a.model(t, "beta", llama(32064))
	giant, _ := a.model(t, "giant", simmodel.Llama{Layers: 80, Hidden: 8192, Heads: 64, KVHeads: 8, Intermediate: 28672, Vocab: 128256, MaxLen: 8192})
	options := func(length int) string {
		return fmt.Sprintf(`
			defaults {
				%[1]s
				min_residency 0s
			}
			model alpha {
				repo %[2]q
				max_model_len %[3]d
			}
			model beta {
				repo %[4]q
			}
			model big {
				repo org/big
				vram 20GiB
				pin_gpus GPU-1
			}
			model giant {
				repo %[5]q
				alias goliath
			}`, working, alpha, length, beta, giant)
	}
	const length = 4064 // vLLM's log rounds what its cache takes up, to 1.99 GiB
	a.run(t, options(length))

	// Nothing was measured yet.
	p := a.plan(t, "alpha")
	const cache = 8 * length * 65536
	estimate := p.Need[0].Bytes
	if p.Verdict != "start" || p.Need[0].Source != "estimated" || len(p.Cards) != 2 || !p.Cards[0].Chosen {
		t.Errorf("before the first start the plan is %+v", p)
	}
	if rest := estimate - weights - cache; rest < workingBytes || rest > 3*gib {
		t.Errorf("the estimate is %d with %d of weights and %d of cache", estimate, weights, int64(cache))
	}
	a.hold(t, "GPU-1", gib)
	a.ask(t, "alpha")
	first := a.instance(t, "alpha")
	if first.Source != "estimated" || first.Declared != estimate || first.Charged != estimate || first.GPUs[0] != "GPU-1" {
		t.Errorf("the first instance is %+v, estimated were %d", first, estimate)
	}
	s := a.server(t, "alpha")
	if kv, _ := strconv.ParseInt(s.flag("--kv-cache-memory-bytes"), 10, 64); kv < cache || kv > cache+cache/100 {
		t.Errorf("the first server is told %q", s.args)
	}
	if u, err := strconv.ParseFloat(s.flag("--gpu-memory-utilization"), 64); err != nil || u <= float64(weights)/(24*gib) || u > 23./24 {
		t.Errorf("the first server is told %q", s.args)
	}

	// It has served one request, and then its card was read.
	took := a.used(t, "GPU-1") - gib
	n := a.measured(t, "alpha")
	if !near(n.Bytes, took) || !near(took, weights+cache+workingBytes) || !strings.Contains(n.Parts, "(measured)") {
		t.Errorf("it took %d, and the next start is given %+v", took, n)
	}
	a.ask(t, "beta")
	both, card := []vramman.InstanceStatus{a.instance(t, "alpha"), a.instance(t, "beta")}, a.card(t, "GPU-1")
	if both[1].GPUs[0] != "GPU-1" || card.Charged != both[0].Charged+both[1].Charged || card.Charged > card.Budget {
		t.Errorf("the two are %+v on %+v", both, card)
	}
	a.ask(t, "big") // in the place of both
	a.ask(t, "alpha")
	second := a.instance(t, "alpha")
	if second.ID == first.ID || second.Source != "measured" || !near(second.Charged, took) || second.Charged < second.Measured {
		t.Errorf("the second instance is %+v", second)
	}

	tooLarge(t, a)

	// Another context, of which only the cache depends.
	a.reload(t, options(8192))
	a.ask(t, "alpha")
	parts := a.plan(t, "alpha").Need[0].Parts
	if !strings.Contains(parts, fmt.Sprintf("weights %.2f GiB (measured)", float64(weights)/gib)) || !strings.Contains(parts, "8 x 8192 tokens") {
		t.Errorf("with another context it is given %s", parts)
	}
	third := a.instance(t, "alpha")
	if !near(third.Charged, took-cache+8*8192*65536) || third.Source != "measured" {
		t.Errorf("with another context the instance is %+v", third)
	}
	a.killServer(t, "alpha")
	eventually(t, "its death is noticed", func() bool { return slices.Contains(a.actions(t, "alpha"), "failed") })
	a.ask(t, "alpha")

	// Another process, after the first was killed.
	a.reload(t, options(length))
	a.kill(t)
	for _, f := range a.findings(t) {
		// Docker tells the processes of a server some time after these take VRAM, which
		// those of real servers do much later: until then it is somebody else's.
		if strings.HasPrefix(f.Instance, "alpha") || f.Kind == vramman.FindingOverdrawn && engine == simulated {
			t.Errorf("the audit has found %+v", f)
		}
	}
	a.run(t, options(length))
	if p := a.plan(t, "alpha"); p.Verdict != "start" || p.Need[0].Source != "measured" || p.Need[0].Bytes != n.Bytes {
		t.Errorf("in the next process the plan is %+v", p)
	}
	a.ask(t, "alpha")
	if i := a.instance(t, "alpha"); i.Source != "measured" || !near(i.Charged, took) {
		t.Errorf("in the next process the instance is %+v", i)
	}
}

// tooLarge asks for a model that fits on no card: every way to ask says why, with
// figures.
func tooLarge(t *testing.T, a *apart) {
	t.Helper()
	code, header, body := a.chat(t, "giant")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"vram_unavailable"`) || header.Get("X-Should-Retry") != "false" ||
		header.Get("Retry-After") != "" {
		t.Errorf("too large: status %d, %v: %s", code, header, body)
	}
	p := a.plan(t, "goliath")
	need := fmt.Sprintf("%.1f GiB", float64(p.Need[0].Bytes)/gib)
	if p.Model != "giant" || p.Verdict != "refuse" || p.Need[0].Source != "estimated" || !strings.Contains(body, need) || !strings.Contains(body, "22.1 GiB") {
		t.Errorf("the plan is %+v, and the answer was %s", p, body)
	}
	if len(p.Cards) != 2 {
		t.Errorf("the plan's cards are %+v", p.Cards)
	}
	text, exit := a.command(t, "plan", "giant")
	if exit != 1 || !strings.Contains(text, "giant: refuse\n") || !strings.Contains(text, p.Reason) || !strings.Contains(text, need) {
		t.Errorf("'caddy vllm plan' ends with %d: %s", exit, text)
	}
	for _, c := range p.Cards {
		if !strings.Contains(c.Verdict, need) || c.Chosen || !strings.Contains(text, c.GPU) || !strings.Contains(text, c.Verdict) {
			t.Errorf("of %s is said %+v and\n%s", c.GPU, c, text)
		}
	}
	asJSON, exit := a.command(t, "plan", "giant", "--json")
	var same vramman.PlanStatus
	if err := json.Unmarshal([]byte(asJSON), &same); err != nil || exit != 1 || fmt.Sprint(same) != fmt.Sprint(p) {
		t.Errorf("'caddy vllm plan --json' ends with %d: %v: %s", exit, err, asJSON)
	}
	// The decision stands in the status and in one line of the log, with every card.
	told := a.status(t).Decisions
	if last := told[len(told)-1]; last.Action != "refuse" || last.Model != "giant" || fmt.Sprint(last.Cards) != fmt.Sprint(p.Cards) {
		t.Errorf("the refusal is shown as %+v", last)
	}
	logged := a.decisions(t, "giant")
	if len(logged) != 1 || logged[0].Reason != p.Reason || len(logged[0].Cards) != 2 || logged[0].Cards[1].Verdict != p.Cards[1].Verdict {
		t.Errorf("the refusal is logged as %+v", logged)
	}
}
