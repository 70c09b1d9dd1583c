package vramman

import (
	"math/rand/v2"
	"time"
)

// This file is about chance in a world, in such a way that a part of what
// happens can be taken away and the rest stays as it was.

// cue names one thing that may happen in a world: the 3rd request for m2, the
// death of m1-1. It has a source of chance of its own.
type cue struct {
	what string // "request", "dies", …
	who  string // the model, instance or card that it happens to; empty: all
	n    int    // which of several
}

// luck is a source of chance.
type luck struct{ pcg rand.PCG }

// luck is the chance of one cue. It depends on the seed and the cue alone,
// whatever else happens or does not.
func (w *world) luck(what, who string, n int) luck {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset) ^ w.seed
	for _, s := range [...]string{what, who} {
		for k := range len(s) {
			h = (h ^ uint64(s[k])) * prime
		}
		h *= prime // where one string ends
	}
	h = (h ^ uint64(n)) * prime
	h ^= h >> 31 // the last bytes have a say in the first bits, too
	var l luck
	l.pcg.Seed(h, h*prime^w.seed)
	l.pcg.Uint64()
	return l
}

// intN is one of n numbers from 0.
func (l *luck) intN(n int) int { return int(l.pcg.Uint64() % uint64(n)) }

// float is a number in [0, 1).
func (l *luck) float() float64 { return float64(l.pcg.Uint64()>>11) / (1 << 53) }

func (l *luck) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(l.pcg.Uint64()%uint64(most-least))
}

// delay is how long something takes.
func (w *world) delay(what, who string, n int, least, most time.Duration) time.Duration {
	if !w.varying {
		return (least + most) / 2
	}
	l := w.luck(what, who, n)
	return l.between(least, most)
}

// happens says whether something happens that does so in one of so many
// cases. What has happened is remembered: to shrink a world is to allow less
// and less of it.
func (w *world) happens(what, who string, n, in int) bool {
	if in > 1 {
		l := w.luck(what, who, n)
		if l.intN(in) != 0 {
			return false
		}
	}
	c := cue{what, who, n}
	if w.only != nil && !w.only[c] {
		return false
	}
	if !w.known[c] {
		w.known[c] = true
		w.happened = append(w.happened, c)
	}
	return true
}

// fault is happens for what should not happen. Worlds without faults have none,
// and what is wound up has none any more.
func (w *world) fault(what, who string, n, in int) bool {
	if !w.faults || !w.happens(what, who, n, in) {
		return false
	}
	w.disturbed = w.now
	return true
}
