package scheduler_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about time: every demand gets its turn, and Next misses nothing.

func forToyWorlds(t *testing.T, n int, check func(t *testing.T, seed uint64)) {
	t.Helper()
	for range n {
		seed := rand.Uint64()
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			check(t, seed)
		}()
	}
}

// Each demand gets its turn in time, whether the others are always busy or
// idle at times, and busy again when it hurts.
func TestEveryDemandGetsItsTurn(t *testing.T) {
	for name, rests := range map[string]bool{"always busy": false, "idle at times": true} {
		t.Run(name, func(t *testing.T) {
			granted, woken := 0, 0
			forToyWorlds(t, 120, func(t *testing.T, seed uint64) {
				w := toyWorldOf(t, seed, rests)
				w.run(15 * time.Minute)
				granted, woken = granted+w.granted, woken+w.woken
			})
			if rests && woken < 100 {
				t.Errorf("only %d instances were woken in all worlds", woken)
			}
			if granted < 400 {
				t.Errorf("only %d turns came in all worlds", granted)
			}
		})
	}
}

// Asking only when something happened or when Next has come leads to the same
// decisions at the same times as asking all the time.
func TestNextMissesNothing(t *testing.T) {
	seldom, always := 0, 0
	forToyWorlds(t, 80, func(t *testing.T, seed uint64) {
		a, b := toyWorldOf(t, seed, true), toyWorldOf(t, seed, true)
		b.everyStep = true
		for _, w := range []*toyWorld{a, b} {
			w.patience = 45 * second
			w.drain = 15 * second
			w.run(8 * time.Minute)
		}
		seldom, always = seldom+a.asked, always+b.asked
		for n := range max(len(a.trace), len(b.trace)) {
			if n >= len(a.trace) || n >= len(b.trace) || a.trace[n] != b.trace[n] {
				t.Fatalf("the worlds part:\nasked when told\n%s\nasked always\n%s", strings.Join(a.trace[:min(n+1, len(a.trace))], "\n"), strings.Join(b.trace[:min(n+1, len(b.trace))], "\n"))
			}
		}
	})
	if seldom*2 > always {
		t.Errorf("asked %d times instead of %d: Next comes too often", seldom, always)
	}
}

// While no decision changes anything, time alone does so no earlier than Next.
func TestNextIsInTime(t *testing.T) {
	checked := 0
	forStates(t, 8000, func(t *testing.T, s *scheduler.State) {
		plan := scheduler.Decide(s)
		waits := func(d scheduler.Decision) bool { return d.Kind == scheduler.Wait || d.Kind == scheduler.Refuse }
		if len(plan.Decisions) == 0 || slices.ContainsFunc(plan.Decisions, func(d scheduler.Decision) bool { return !waits(d) }) {
			return
		}
		checked++
		var moments []time.Time
		for _, i := range s.Instances {
			moments = append(moments, i.LastUsed.Add(i.IdleTimeout), i.ReadySince.Add(i.MinResidency), i.ReadySince.Add(s.MaxWaitForTurn))
		}
		for _, d := range s.Demands {
			moments = append(moments, d.Since.Add(s.MaxWaitForTurn))
		}
		moments = append(moments, s.Now.Add(24*time.Hour))
		if !plan.Next.IsZero() {
			moments = append(moments, plan.Next.Add(-1))
		}
		slices.SortFunc(moments, time.Time.Compare)
		then := clone(s)
		for _, m := range moments {
			if !m.After(s.Now) || !plan.Next.IsZero() && !m.Before(plan.Next) {
				continue
			}
			then.Now = m
			if later := allWords(scheduler.Decide(then)); !slices.Equal(later, allWords(plan)) {
				t.Fatalf("next is in %v; now %q, in %v %q", plan.Next.Sub(s.Now), allWords(plan), m.Sub(s.Now), later)
			}
		}
	})
	if checked < 200 {
		t.Errorf("only %d states were of use", checked)
	}
}

// Whoever leaves is not spared for being young, and so the end of its youth is
// nothing to be woken for.
func TestYouthOfWhoeverLeavesChangesNothing(t *testing.T) {
	s := room(20, 10)
	s.Cards[0].Gate, s.Cards[1].Gate = "start somebody", "stop old"
	with(s, "young", 10, []int{0}, young, phase(scheduler.Draining), used(time.Hour))
	with(s, "busy", 10, []int{0}, busy)
	with(s, "old", 10, []int{1}, phase(scheduler.Stopping))
	wants(s, "m", 8, 1, s.MaxWaitForTurn)
	only(wants(s, "q", 16, 1, s.MaxWaitForTurn), 0)
	plan := scheduler.Decide(s)
	then := clone(s)
	then.Now = then.Now.Add(time.Minute)
	if now, later := allWords(plan), allWords(scheduler.Decide(then)); !plan.Next.IsZero() || !slices.Equal(now, later) {
		t.Errorf("now %q, a minute later %q, and it wants to be asked again at %v", now, later, plan.Next)
	}
}
