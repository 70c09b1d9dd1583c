package vramman

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func mustPlan(t *testing.T, m *Manager, model string) *PlanStatus {
	t.Helper()
	p, err := m.Plan(t.Context(), model)
	if err != nil {
		t.Fatalf("planning %s: %v", model, err)
	}
	return p
}

// A dry run says what would happen, card by card, and does nothing.
func TestPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB, 16*worldGiB)
		always := rigModel("always", 12)
		always.AlwaysOn = true
		b := rigModel("b", 14)
		b.Aliases = []string{"bee"}
		m, g := r.open(t, r.spec(always, rigModel("a", 12), b, rigModel("huge", 17)))
		time.Sleep(10 * time.Second)

		if p := mustPlan(t, m, "a"); p.Verdict != "start" || len(p.Cards) != 2 || p.Cards[0].Chosen || !p.Cards[1].Chosen ||
			p.Cards[0].Room != 4*worldGiB || len(p.Cards[0].Holders) != 1 || p.Cards[0].Holders[0].Instance != "always-1" {
			t.Errorf("a: %+v", p)
		}
		if r.count("start a") != 0 {
			t.Error("planning it has started it")
		}
		mustHold(t, g, "a")()
		p := mustPlan(t, m, "bee")
		if p.Model != "b" || p.Verdict != "start" || !slices.Equal(p.Victims, []VictimStatus{{"a-1", "stop"}}) {
			t.Errorf("b: %+v", p)
		}
		if p := mustPlan(t, m, "a"); p.Verdict != "ready" || !strings.Contains(p.Reason, "a-1") {
			t.Errorf("a: %+v", p)
		}
		p = mustPlan(t, m, "huge")
		if p.Verdict != "refuse" || len(p.Cards) != 2 || p.Need[0].Bytes != 17*worldGiB || p.Need[0].Source != "declared" {
			t.Errorf("huge: %+v", p)
		}
		for _, c := range p.Cards {
			if c.Verdict == "" || c.Need != 17*worldGiB || c.Budget != 16*worldGiB {
				t.Errorf("huge: %+v", c)
			}
		}
		if r.count("stop") != 0 || r.count("running") != 2 {
			t.Errorf("planning has done something: %v", r.counts())
		}
		_, err := m.Plan(t.Context(), "nobody")
		wantCode(t, err, CodeUnknownModel)
	})
}

// A plan waits for the model's footprint, and says where it comes from.
func TestPlanIsSized(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		s := rigSized{estimate: sizedParts(16*worldGiB, 4*worldGiB, worldGiB, 8), asked: new(rigAsked)}
		m, _ := r.open(t, r.spec(sizedModel("a", s)))
		time.Sleep(time.Second)
		p := mustPlan(t, m, "a")
		if p.Verdict != "start" || p.Need[0].Bytes != 28*worldGiB || p.Need[0].Source != "estimated" || !strings.Contains(p.Need[0].Parts, "kv cache 8.00 GiB for 8 x 1024 tokens") {
			t.Errorf("%+v", p)
		}
	})
}

// A refusal is one log line with all figures, and the status keeps it.
func TestRefusalExplainsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB, 8*worldGiB)
		core, logs := observer.New(zap.InfoLevel)
		spec := r.spec(rigModel("huge", 17))
		spec.Log = zap.New(core)
		m, g := r.open(t, spec)
		_, err := hold(t, t.Context(), g, "huge")
		e := wantCode(t, err, CodeUnplaceable)
		if !e.NoRetry || strings.Contains(e.Message, "GPU-") {
			t.Errorf("the client is told: %+v", e)
		}
		lines := logs.FilterMessage("a model cannot be placed").All()
		if len(lines) != 1 {
			t.Fatalf("%d lines", len(lines))
		}
		cards, ok := lines[0].ContextMap()["cards"].([]any)
		if !ok || len(cards) != 2 || cards[1].(map[string]any)["room"] != int64(8*worldGiB) {
			t.Errorf("logged: %v", lines[0].ContextMap())
		}
		decisions := mustStatus(t, m).Decisions
		if last := decisions[len(decisions)-1]; last.Action != "refuse" || len(last.Cards) != 2 || last.Cards[0].Verdict == "" {
			t.Errorf("the status has %+v", last)
		}
	})
}

func TestOnConflict(t *testing.T) {
	for conflict, want := range map[scheduler.Conflict]string{scheduler.Evict: "evicts", scheduler.Hold: "waits", scheduler.Reject: "refused"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(time.Second, 16*worldGiB)
			b := rigModel("b", 12)
			b.OnConflict, b.MaxWait = conflict, 10*time.Minute
			a := rigModel("a", 12)
			a.IdleTimeout = 5 * time.Minute
			_, g := r.open(t, r.spec(a, b))
			mustHold(t, g, "a")()
			began := time.Now()
			release, err := hold(t, t.Context(), g, "b")
			got := "evicts"
			switch {
			case err != nil:
				wantCode(t, err, CodeUnplaceable)
				got = "refused"
			case time.Since(began) > 4*time.Minute:
				got = "waits"
			}
			if release != nil {
				release()
			}
			if got != want {
				t.Errorf("with %v it %s, want %s", conflict, got, want)
			}
		})
	}
}

func TestPinnedAndExcludedCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB, 16*worldGiB, 16*worldGiB)
		pinned := rigModel("pinned", 4)
		pinned.Pin = []string{"GPU-2", "GPU-1"}
		excluded := rigModel("excluded", 4)
		excluded.Exclude = []string{"GPU-0", "GPU-2"}
		spec := r.spec(pinned, excluded)
		m, g := r.open(t, spec)
		mustHold(t, g, "pinned")()
		mustHold(t, g, "excluded")()
		var where []string
		for _, i := range mustStatus(t, m).Instances {
			where = append(where, fmt.Sprint(i.Model, i.GPUs))
		}
		if !slices.Equal(where, []string{"pinned[GPU-2]", "excluded[GPU-1]"}) {
			t.Errorf("%v", where)
		}
		// A model that may not be on its card any more moves.
		next := *spec
		next.Models = slices.Clone(spec.Models)
		next.Models[0].Pin = []string{"GPU-0"}
		g2 := NewGeneration(&next)
		m.Apply(g2)
		m.Commit(g2)
		m.Withdraw(g)
		mustHold(t, g2, "pinned")()
		for _, i := range mustStatus(t, m).Instances {
			if i.Model == "pinned" && i.State == "ready" && i.GPUs[0] != "GPU-0" {
				t.Errorf("it stays on %v", i.GPUs)
			}
		}
	})
}
