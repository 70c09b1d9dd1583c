package vramman

import (
	"slices"
	"strings"
	"testing"
)

// twice is a check of no invariant: it breaks when a model has been evicted for
// the second time.
func twice(w *world) {
	evicted := make(map[string]bool)
	for _, d := range w.decisions {
		f := strings.Fields(d)
		if f[1] != "evict" {
			continue
		}
		if evicted[f[2]] {
			w.breaks(7, "%s was evicted twice", f[2])
		}
		evicted[f[2]] = true
	}
}

// TestShrinking has worlds break at a check that is easily broken, and wants
// their stories short: two models that take each other's place, and little else.
func TestShrinking(t *testing.T) {
	told := 0
	for seed := uint64(1); told < 3; seed++ {
		w := runWorld(plot{seed: seed, events: 1000, also: twice})
		if w.broken == nil {
			continue
		}
		told++
		tries := 0
		short, _ := shrink(w, func() bool { tries++; return tries > 1000 })
		if short.broken == nil || !short.broken.same(w.broken) {
			t.Fatalf("seed %d broke with %v, its short story with %v:\n%v", seed, w.broken, short.broken, short)
		}
		if n := len(short.tale.lines); n > 15 {
			t.Errorf("seed %d: %d lines:\n%v", seed, n, short)
		}
		story := short.String()
		for _, want := range []string{"1. ", "a request for m", " starts on GPU-", ", evicting m", " is ready", "invariant 7: m", "was evicted twice", " GiB."} {
			if !strings.Contains(story, want) {
				t.Errorf("seed %d: no %q in the story:\n%s", seed, want, story)
			}
		}
		again := runWorld(short.plot)
		if again.String() != story {
			t.Errorf("seed %d: the short story is another when it is told again:\n%s\n%s", seed, story, again)
		}
		t.Logf("seed %d, %d of %d happenings:\n%s", seed, len(short.happened), len(w.happened), story)
	}
}

// TestHappeningsAreTheirOwn takes happenings away from worlds. The others come all
// the same, or shrinking would compare worlds that have nothing in common.
func TestHappeningsAreTheirOwn(t *testing.T) {
	requests := func(w *world) (all []cue) {
		for _, c := range w.happened[:w.lived.happened] {
			if c.what == "request" {
				all = append(all, c)
			}
		}
		return all
	}
	for seed := uint64(1); seed <= 12; seed++ {
		p := plot{seed: seed, events: 300}
		whole := runWorld(p)
		p.only, p.until, p.loose = setOf(whole.happened), whole.wound, true
		same := runWorld(p)
		if n := whole.lived.decisions; !slices.Equal(whole.decisions[:n], same.decisions[:min(n, len(same.decisions))]) {
			t.Fatalf("seed %d: to allow what happens anyway changes decisions", seed)
		}
		var kept []cue
		for n, c := range requests(whole) {
			if n%5 == 0 {
				delete(p.only, c)
			} else {
				kept = append(kept, c)
			}
		}
		if w := runWorld(p); !slices.Equal(requests(w), kept) {
			t.Errorf("seed %d: without some requests, the others are\n%v, not\n%v", seed, requests(w), kept)
		}
	}
}
