package vramman

import (
	"maps"
	"slices"
	"testing"
)

// This file owns how much the worlds must show, lest a check seldom has anything to
// check: a change that makes something rare fails here, and not years later.

// often is how often 2,000 worlds show something at least: about a third of what they
// do.
var often = map[string]int{
	// Sizes.
	"sized by estimates": 1500, "sized by measurements": 600, "a KV cache too small": 150, "adjust": 25, "grew while it served": 300,
	"one card found to do": 1000, "several cards found to do": 15,
	"the store holds measurements": 200, "the store cannot be read": 60, "saved": 1000,
	// Sleep.
	"told to sleep": 400, "asleep": 300, "told to wake": 120, "sleeping to make room": 250, "sleeping for want of use": 180, "evicted asleep": 8,
	"a sleep that failed": 20, "a sleep without an answer": 10, "a sleep that frees late": 15, "a sleep that frees nothing": 6,
	"a waking that failed": 12, "a waking without an answer": 4, "no room to wake": 4, "stopped instead of woken": 10,
	"died while it is sleeping": 10, "died while it is asleep": 8, "died while it is waking": 3,
	// Others.
	"squeezed": 150, "yielding": 80, "preloaded": 500, "refused rather than wait": 1500, "on some cards only": 600, "sharing whole cards": 100,
	"a stray removed": 40, "missed once": 500, "missed twice": 40, "died silently": 60, "the gateway died": 25,
}

// tally sees to it that so many worlds have shown enough.
func (s *sights) tally(t *testing.T, worlds int) {
	for _, what := range slices.Sorted(maps.Keys(often)) {
		if least := often[what] * worlds / 2000; s.counts[what] < least {
			t.Errorf("in %d worlds, %q was to be seen %d times, and %d times at least: they show less than they should", worlds, what, s.counts[what], least)
		}
	}
}
