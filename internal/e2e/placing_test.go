package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/internal/simmodel"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests where models go, and what they do where there is no room.

func TestPlacing(t *testing.T) {
	t.Parallel()
	a := newApart(t, simulated, `
		gpu GPU-1 24GiB
		gpu GPU-2 24GiB
		gpu GPU-3 24GiB
		gpu GPU-4 24GiB`)
	few, _ := a.model(t, "few", llama(32000))
	share, _ := a.model(t, "share", llama(32064))
	a.run(t, fmt.Sprintf(`
		pool llm {
			gpu GPU-1 GPU-2
		}
		pool whole {
			gpu GPU-3 GPU-4
			placement whole_card
		}
		defaults {
			pool llm
			min_residency 0s
			%[1]s
		}
		model few {
			repo %[2]q
			max_num_seqs 16
			kv_reservation_seqs 2
		}
		model many {
			repo %[2]q
			max_num_seqs 64
			kv_reservation_seqs 64
		}
		model pinned {
			repo org/pinned
			vram 4GiB
			pin_gpus GPU-2
		}
		model excluding {
			repo org/excluding
			vram 4GiB
			exclude_gpus GPU-1
		}
		model shared-1 {
			repo %[3]q
			pool whole
			colocate
		}
		model shared-2 {
			repo org/shared
			pool whole
			colocate
			vram 6GiB
		}
		model alone {
			repo org/alone
			pool whole
			vram 6GiB
		}`, working, few, share))

	// A reservation is kept: the cache is for so many sequences, and for no fewer.
	a.ask(t, "few")
	s := a.server(t, "few")
	if kv, _ := strconv.ParseInt(s.flag("--kv-cache-memory-bytes"), 10, 64); !near(kv, 2*8192*65536) || s.flag("--max-num-seqs") != "16" {
		t.Errorf("with a reservation for 2 the server is told %q", s.args)
	}
	code, header, body := a.chat(t, "many")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "vram_unavailable") || !strings.Contains(body, "35.9 GiB") || header.Get("X-Should-Retry") != "false" {
		t.Errorf("with a reservation for 64: status %d, %v: %s", code, header, body)
	}

	// Cards that a model is kept to, or kept off.
	for _, model := range []string{"pinned", "excluding"} {
		a.ask(t, model)
		if i := a.instance(t, model); !slices.Equal(i.GPUs, []string{"GPU-2"}) {
			t.Errorf("%s is on %v", model, i.GPUs)
		}
	}

	// Those who share take what they need, and those who do not a whole card,
	// whatever they declare.
	for _, model := range []string{"shared-1", "shared-2", "alone"} {
		a.ask(t, model)
	}
	one, two, alone := a.instance(t, "shared-1"), a.instance(t, "shared-2"), a.instance(t, "alone")
	budget := a.card(t, "GPU-4").Budget
	if one.GPUs[0] != "GPU-3" || two.GPUs[0] != "GPU-3" || two.Source != "declared" || one.Source != "estimated" {
		t.Errorf("those who share are %+v and %+v", one, two)
	}
	if alone.GPUs[0] != "GPU-4" || alone.Declared != budget || alone.Source != "whole card" {
		t.Errorf("who does not is %+v", alone)
	}
}

func TestTwoCards(t *testing.T)       { t.Parallel(); twoCards(t, simulated) }
func TestDockerTwoCards(t *testing.T) { t.Parallel(); twoCards(t, docker) }

// twoCards has a model on two cards, since one does not do: each has its own share.
func twoCards(t *testing.T, engine string) {
	a := newApart(t, engine, "gpu GPU-1 24GiB\ngpu GPU-2 24GiB\ngpu GPU-3 16GiB")
	wide, weights := a.model(t, "wide", simmodel.Llama{Layers: 64, Hidden: 4096, Heads: 32, KVHeads: 8, Intermediate: 14336, Vocab: 32000, MaxLen: 2048})
	options := fmt.Sprintf(`
		defaults {
			min_residency 0s
			%s
		}
		model wide {
			repo %q
			tensor_parallel auto
		}
		model beside {
			repo org/beside
			vram 8GiB
			pin_gpus GPU-2
		}`, working, wide)
	a.run(t, options)
	a.ask(t, "beside")
	p := a.plan(t, "wide")
	if p.Need[0].Degree != 2 || p.Need[0].Source != "estimated" || len(p.Victims) == 0 {
		t.Errorf("the plan for two cards is %+v", p)
	}
	a.ask(t, "wide")
	i := a.instance(t, "wide")
	if !slices.Equal(i.GPUs, []string{"GPU-1", "GPU-2"}) || i.Declared != p.Need[0].Bytes || i.Declared < weights/2 || i.Declared > weights/2+6*gib {
		t.Errorf("of %d bytes of weights the instance on two cards is %+v", weights, i)
	}
	for _, uuid := range i.GPUs {
		used, card := a.used(t, uuid), a.card(t, uuid)
		if used < weights/2 || card.Charged < used || !slices.Contains(card.Holders, vramman.Holder{Instance: i.ID, Charged: i.Charged}) {
			t.Errorf("%d are used of %+v", used, card)
		}
	}
	if s := a.server(t, "wide"); s.flag("--tensor-parallel-size") != "2" {
		t.Errorf("the server on two cards is told %q", s.args)
	}
	if n := a.count(t, "evict", "beside"); n != 1 {
		t.Errorf("%q", a.actions(t, ""))
	}

	// The number of cards stays, in the next process too.
	a.measured(t, "wide")
	a.end(t)
	a.run(t, options)
	if p := a.plan(t, "wide"); p.Need[0].Degree != 2 || p.Need[0].Source != "measured" {
		t.Errorf("in the next process the plan is %+v", p)
	}
}

// Models ask for a card that an idle one has: who rejects is refused at once, who
// waits has it when it is free by itself, and who evicts has it now.
func TestConflicts(t *testing.T) {
	t.Parallel()
	a := startApart(t, simulated, "gpu GPU-1 12GiB", `
		defaults {
			vram 10GiB
			min_residency 0s
		}
		model holder {
			repo org/holder
			idle_timeout 4s
		}
		model rejects {
			repo org/rejects
			on_conflict reject
		}
		model waits {
			repo org/waits
			on_conflict wait
		}
		model evicts {
			repo org/evicts
		}`)
	a.ask(t, "holder")
	code, header, body := a.chat(t, "rejects")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "vram_unavailable") || !strings.Contains(body, "10.0 GiB") ||
		header.Get("Retry-After") == "" || header.Get("X-Should-Retry") == "false" {
		t.Errorf("rejecting: status %d, %v: %s", code, header, body)
	}
	if p := a.plan(t, "rejects"); p.Verdict != "refuse" {
		t.Errorf("the plan for who rejects is %+v", p)
	}
	if p := a.plan(t, "waits"); p.Verdict != "wait" || len(p.Victims) != 0 {
		t.Errorf("the plan for who waits is %+v", p)
	}
	if p := a.plan(t, "evicts"); p.Verdict != "start" || len(p.Victims) != 1 || p.Victims[0].Action != "stop" {
		t.Errorf("the plan for who evicts is %+v", p)
	}
	a.ask(t, "waits")
	if a.count(t, "evict", "holder") != 0 || a.count(t, "stop", "holder") != 1 {
		t.Errorf("of the holder was decided %q", a.actions(t, "holder"))
	}
	a.ask(t, "evicts")
	if a.count(t, "evict", "waits") != 1 {
		t.Errorf("%q", a.actions(t, ""))
	}
}

func TestStartByThemselves(t *testing.T)       { t.Parallel(); startByThemselves(t, simulated) }
func TestDockerStartByThemselves(t *testing.T) { t.Parallel(); startByThemselves(t, docker) }

// startByThemselves has models run that nobody asks for: from the start, in a
// stable order, and again when their servers were killed. Only the one that is
// always on is safe from others.
func startByThemselves(t *testing.T, engine string) {
	a := startApart(t, engine, "gpu GPU-1 24GiB", `
		defaults {
			vram 6GiB
			min_residency 0s
		}
		model early {
			repo org/early
			preload
		}
		model first {
			repo org/first
			always_on
		}
		model second {
			repo org/second
			always_on
		}
		model large {
			repo org/large
			vram 8GiB
		}
		model huge {
			repo org/huge
			vram 14GiB
		}`)
	themselves := []string{"early", "first", "second"}
	// ready says whether each has one instance that is, and another than before.
	before := make(map[string]string)
	ready := func() bool {
		s := a.status(t)
		return !slices.ContainsFunc(themselves, func(m string) bool {
			ids := s.instances(m)
			return len(ids) != 1 || ids[0] == before[m]
		})
	}
	eventually(t, "all are ready", ready)
	var starts []string
	for _, action := range a.actions(t, "") {
		if strings.HasPrefix(action, "start ") {
			starts = append(starts, action)
		}
	}
	if want := []string{"start first", "start second", "start early"}; !slices.Equal(starts, want) {
		t.Errorf("they were started as %q, want %q", starts, want)
	}
	for _, m := range themselves {
		before[m] = a.instance(t, m).ID
		a.killServer(t, m)
	}
	eventually(t, "all are ready again", ready)

	// Nobody's room but the preloaded one's is taken, and that does not come back
	// before it is asked for.
	code, _, body := a.chat(t, "huge")
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "vram_unavailable") || !strings.Contains(body, "what cannot make room holds 12.") {
		t.Errorf("in the room of those that are always on: status %d: %s", code, body)
	}
	a.ask(t, "large")
	if a.count(t, "evict", "early") != 1 || a.count(t, "evict", "first") != 0 || a.count(t, "evict", "second") != 0 {
		t.Errorf("%q", a.actions(t, ""))
	}
	if s := a.status(t); s.model("early").State != "stopped" || s.model("first").State != "ready" || s.model("second").State != "ready" {
		t.Errorf("%+v", s.Models)
	}
	if i := a.instance(t, "early"); i.ID != "" {
		t.Errorf("the preloaded one is %+v", i)
	}
	a.ask(t, "early")
}
