package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file tests starts that fail, each in one of vLLM's ways: what can be helped
// is, without the client's noticing, and the rest is told.

func TestStartFailures(t *testing.T) {
	t.Parallel()
	startFailures(t, simulated, allStartFailures)
}

// On Docker it is another way that a server's words and its end come: one of each
// kind of outcome does.
func TestDockerStartFailures(t *testing.T) {
	t.Parallel()
	some := []string{"race", "length", "weights"}
	startFailures(t, docker, slices.DeleteFunc(slices.Clone(allStartFailures), func(f startFailure) bool { return !slices.Contains(some, f.name) }))
}

// startFailure is a model on a card of its own whose start fails.
type startFailure struct {
	name, fault string
	times       int    // how many starts fail; 0: all
	declared    bool   // its footprint; else it is estimated
	starts      int    // how many there are before it is served or refused
	adjusts     int    // how often its footprint is adjusted
	class, says string // of the refusal; empty: it is served
}

var allStartFailures = []startFailure{
	// Who was in the way may be gone: it is looked at again.
	{name: "free", fault: "memory_free", times: 2, declared: true, starts: 3},
	{name: "race", fault: "memory_profiling", times: 1, declared: true, starts: 2},
	{name: "race-estimated", fault: "memory_profiling", times: 2, starts: 3},
	// It is given what it asked for, once.
	{name: "length", fault: "max_seq_len", times: 1, starts: 2, adjusts: 1},
	{name: "blocks", fault: "no_kv_blocks", times: 1, starts: 2, adjusts: 1},
	{name: "blocks-again", fault: "no_kv_blocks", times: 2, starts: 2, adjusts: 1, class: "kv_cache", says: "none of the model's share for the KV cache"},
	// What a person has declared is for a person to change; within it the server may
	// size its cache by itself, once.
	{name: "length-declared", fault: "max_seq_len", declared: true, starts: 2, adjusts: 1, class: "kv_cache", says: "GiB more vram"},
	{name: "always-taken", fault: "memory_free", declared: true, starts: 3, class: "memory", says: "another program holds the rest"},
	{name: "weights", fault: "load_oom", declared: true, starts: 1, class: "config", says: "the weights do not fit on the card"},
	{name: "sampler", fault: "sampler_oom", declared: true, starts: 1, class: "config", says: "set max_num_seqs lower than that"},
}

func startFailures(t *testing.T, engine string, failures []startFailure) {
	var cards, options strings.Builder
	for n := range failures {
		fmt.Fprintf(&cards, "gpu GPU-%d 24GiB\n", n)
	}
	a := newApart(t, engine, cards.String())
	for n, f := range failures {
		repo, _ := a.model(t, f.name, llama(32000+64*n))
		fmt.Fprintf(&options, `
			model %[1]s {
				repo %[2]q
				pin_gpus GPU-%[3]d
				env VLLM_SIM_FAIL %[4]s`, f.name, repo, n, f.fault)
		if f.times > 0 {
			// In a folder that servers can write to.
			fmt.Fprintf(&options, "\nenv VLLM_SIM_FAIL_COUNT %d\nenv VLLM_SIM_FAIL_STATE %q", f.times, filepath.Join(a.cards, "starts-of-"+f.name))
		}
		if f.declared {
			fmt.Fprint(&options, "\nvram 10GiB")
		}
		fmt.Fprint(&options, "\n}")
	}
	a.run(t, "defaults {\n"+working+"}\n"+options.String())
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			a.startFails(t, f)
		})
	}
}

func (a *apart) startFails(t *testing.T, f startFailure) {
	code, header, body := a.chat(t, f.name)
	actions := a.actions(t, f.name)
	starts := len(slices.DeleteFunc(slices.Clone(actions), func(action string) bool { return action != "start" }))
	if n := a.count(t, "adjust", f.name); starts != f.starts || n != f.adjusts {
		t.Errorf("%d starts and %d adjustments: %q", starts, n, actions)
	}
	if f.class == "" {
		if code != http.StatusOK {
			t.Errorf("status %d: %s", code, body)
		}
		if s := a.status(t).model(f.name); s.State != "ready" || s.Failure != nil {
			t.Errorf("it is %+v", s)
		}
		if i := a.instance(t, f.name); i.Charged < i.Measured || i.Charged > 23*gib {
			t.Errorf("the instance is %+v", i)
		}
		return
	}
	after, err := strconv.Atoi(header.Get("Retry-After"))
	if code != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"start_failed"`) || !strings.Contains(body, f.says) ||
		err != nil || after < 1 || after > 60 || header.Get("X-Should-Retry") == "false" {
		t.Errorf("status %d, %v: %s", code, header, body)
	}
	s := a.status(t).model(f.name)
	if s.State != "failed" || s.Failure == nil || s.Failure.Class != f.class || !strings.Contains(s.Failure.Message, f.says) || !s.Failure.Until.After(time.Now()) {
		t.Errorf("it is %+v, failed with %+v", s, s.Failure)
	}
	if p := a.plan(t, f.name); p.Verdict != "refuse" || !strings.Contains(p.Reason, f.says) {
		t.Errorf("the plan is %+v", p)
	}
	// It is not started again for the next, who is told the same at once.
	if code, _, body := a.chat(t, f.name); code != http.StatusServiceUnavailable || !strings.Contains(body, f.says) {
		t.Errorf("then status %d: %s", code, body)
	}
	if n := a.count(t, "start", f.name); n != f.starts {
		t.Errorf("then it was started %d times", n)
	}
	eventually(t, "its card is free", func() bool { return a.instance(t, f.name).ID == "" })
}
