package scheduler_test

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file holds the eviction policies against each other and against the
// optimum. In full, with its table:
//
//	go test ./vramman/scheduler -run TestEvictionTraces -v -traces 1

var traceRounds = flag.Int("traces", 0, "how many rounds of eviction traces are played; 0: a part of one")

// traceExponents span what is reported of requests for web pages, videos and
// models: from nearly even to a few that get most.
var traceExponents = []float64{0.6, 0.8, 1.0, 1.2, 1.4}

// traceShapes are machines: the models, and the cards that hold four of them each.
var traceShapes = []struct{ models, cards int }{{20, 1}, {20, 2}, {20, 4}, {40, 1}, {40, 2}, {40, 4}}

// traceGaps are how busy the machine is: less than a card can load, a good deal
// less, and hardly at all.
var traceGaps = []time.Duration{20 * time.Second, time.Minute, 5 * time.Minute}

// traceSpecs lists the traces of some rounds.
func traceSpecs(rounds int) (specs []traceSpec) {
	short, uses := rounds == 0, 4000
	if short {
		uses = 2000
	}
	for round := range max(1, rounds) {
		for _, kind := range []string{"zipf", "bursty", "diurnal"} {
			for _, equal := range []bool{true, false} {
				for e, exponent := range traceExponents {
					for n, shape := range traceShapes {
						if short && !(kind == "zipf" && equal) && e*len(traceShapes)+n != 16 {
							continue // one of each kind shows that it can be played
						}
						specs = append(specs, traceSpec{
							kind: kind, equal: equal, exponent: exponent, models: shape.models, cards: shape.cards,
							gap: traceGaps[(e+n+round)%len(traceGaps)], uses: uses, seed: uint64(100*round + n + 1),
						})
					}
				}
			}
		}
	}
	return specs
}

// comparison is one trace under each policy, the one that knows the future
// included.
type comparison struct {
	spec            traceSpec
	seer, lru, cost replayed
	waits           map[string][2]time.Duration // policy → mean, 99th percentile
}

func compare(t *testing.T, spec traceSpec, waits bool) comparison {
	t.Helper()
	tr := newTrace(spec)
	c := comparison{spec: spec, waits: make(map[string][2]time.Duration)}
	c.seer, c.lru, c.cost = replay(t, tr, nil), replay(t, tr, scheduler.LRU{}), replay(t, tr, scheduler.Cost{})
	if best := tr.optimum(); spec.equal && c.seer.loads != best {
		t.Errorf("%v: who knows the future makes %d loads, and the optimum is %d: the replay is not to be trusted", spec, c.seer.loads, best)
	}
	if !waits {
		return c
	}
	for name, policy := range map[string]scheduler.Policy{"seer": nil, "lru": scheduler.LRU{}, "cost": scheduler.Cost{}} {
		_, all := playWaits(t, tr, policy)
		slices.Sort(all)
		var sum time.Duration
		for _, w := range all {
			sum += w
		}
		c.waits[name] = [2]time.Duration{sum / time.Duration(len(all)), all[len(all)*99/100]}
	}
	return c
}

// TestEvictionTraces is the proof that cost is worth having. Of models of equal
// size, used by a Zipf law, it makes in the median at most 1.45 times as many
// loads as the optimum, which knows the future, and at least 15 % fewer than lru.
// Of the other traces it is reported what came of them.
func TestEvictionTraces(t *testing.T) {
	var groups, kinds []string
	all := make(map[string][]comparison)
	for n, spec := range traceSpecs(*traceRounds) {
		waits := *traceRounds > 0 || spec.kind != "zipf" || !spec.equal || n%10 == 4
		group, c := spec.String(), compare(t, spec, waits)
		if all[group] == nil {
			groups = append(groups, group)
		}
		all[group] = append(all[group], c)
		kind := group[:strings.LastIndexByte(group, ' ')] // of any exponent
		if all[kind] == nil {
			kinds = append(kinds, kind)
		}
		all[kind] = append(all[kind], c)
	}
	t.Log("median of each group; loads one request after the other; waits, mean / 99th percentile, in the trace's own time")
	t.Logf("%-20s %3s %17s %8s %34s   %-15s %-15s %-15s", "trace", "n", "loads: best", "lru", "cost", "wait: best", "lru", "cost")
	for _, group := range append(groups, kinds...) {
		t.Log(row(group, all[group]))
	}
	proof := all["zipf equal"]
	toBest := median(proof, func(c comparison) float64 { return float64(c.cost.loads) / float64(c.seer.loads) })
	toLRU := median(proof, func(c comparison) float64 { return float64(c.cost.loads) / float64(c.lru.loads) })
	if toBest > 1.45 || toLRU > 0.85 {
		t.Errorf("cost makes %.2f times the optimum's loads and %.2f times those of lru; at most 1.45 and 0.85 will do", toBest, toLRU)
	}
	if lru := median(proof, func(c comparison) float64 { return float64(c.lru.loads) / float64(c.seer.loads) }); lru <= 1.45 {
		t.Errorf("lru makes %.2f times the optimum's loads: the traces ask for nothing", lru)
	}
}

// row puts a group of traces into a line of the table. Where sizes differ, what
// counts is the time that goes into loads.
func row(group string, of []comparison) string {
	loads, unit := func(r replayed) float64 { return float64(r.loads) }, "   "
	if !of[0].spec.equal {
		unit = "min"
		loads = func(r replayed) float64 { return r.loading.Minutes() }
	}
	ratio := func(of []comparison, x, to func(comparison) replayed) float64 {
		return median(of, func(c comparison) float64 { return loads(x(c)) / loads(to(c)) })
	}
	best := func(c comparison) replayed { return c.seer }
	lru := func(c comparison) replayed { return c.lru }
	cost := func(c comparison) replayed { return c.cost }
	worst := 0.0
	for _, c := range of {
		worst = max(worst, loads(c.cost)/loads(c.lru))
	}
	line := fmt.Sprintf("%-20s %3d %13.0f %s %8.2f %8.2f (%+3.0f %%, at worst %+3.0f %%)  ", group, len(of),
		median(of, func(c comparison) float64 { return loads(c.seer) }), unit, ratio(of, lru, best), ratio(of, cost, best), 100*(ratio(of, cost, lru)-1), 100*(worst-1))
	timed := slices.DeleteFunc(slices.Clone(of), func(c comparison) bool { return len(c.waits) == 0 })
	if len(timed) == 0 {
		return line
	}
	for _, name := range []string{"seer", "lru", "cost"} {
		seconds := func(k int) float64 {
			return median(timed, func(c comparison) float64 { return c.waits[name][k].Seconds() })
		}
		line += fmt.Sprintf(" %-15s", fmt.Sprintf("%.1f / %.0f s", seconds(0), seconds(1)))
	}
	return line
}

func median(of []comparison, figure func(comparison) float64) float64 {
	var all []float64
	for _, c := range of {
		all = append(all, figure(c))
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// The same seed makes the same trace, and another another.
func TestTracesRepeat(t *testing.T) {
	for _, kind := range []string{"zipf", "bursty", "diurnal"} {
		spec := traceSpec{kind: kind, exponent: 1, models: 20, cards: 1, gap: time.Minute, uses: 500, seed: 1}
		a, b := newTrace(spec), newTrace(spec)
		spec.seed = 2
		c := newTrace(spec)
		if !slices.Equal(a.uses, b.uses) || slices.Equal(a.uses, c.uses) {
			t.Errorf("%s: its seed does not make the trace", kind)
		}
	}
}
