package vramman

import (
	"slices"
	"time"
)

// This file makes a long story short: a world that breaks an invariant happens
// again and again, with ever less in it, as long as it breaks in the same way.

// shrinker looks for the least that still breaks.
type shrinker struct {
	best *world // the shortest that breaks
	left []cue  // what happens in it
	runs int
	stop func() bool // whether it has tried for long enough
}

// shrink runs a world that broke until little is left of it, or stop says that
// it is enough; it returns the shortest, with its story told, and the number of
// runs that it took.
func shrink(first *world, stop func() bool) (*world, int) {
	s := &shrinker{best: first, left: first.happened, stop: stop}
	s.without(nil) // the same again: from now on only what is left happens
	for {
		before := len(s.left)
		s.kinds()
		s.chunks()
		s.pairs()
		if len(s.left) == before || stop() {
			break
		}
	}
	p := s.best.plot
	p.only, p.until, p.loose, p.told = setOf(s.left), s.best.over(), s.best.live, true
	return runWorld(p), s.runs
}

// over is when a world that broke need not go on: some time after it broke, or
// when it was wound up.
func (w *world) over() time.Time {
	if !w.live {
		return w.wound
	}
	return w.now.Add(10 * time.Minute)
}

// without tries whether the world still breaks without some cues.
func (s *shrinker) without(gone map[cue]bool) bool {
	only := make(map[cue]bool, len(s.left))
	for _, c := range s.left {
		if !gone[c] {
			only[c] = true
		}
	}
	p := s.best.plot
	p.only, p.until, p.loose = only, s.best.over(), s.best.live
	w := runWorld(p)
	s.runs++
	if w.broken == nil || !w.broken.same(s.best.broken) {
		return false
	}
	s.best, s.left = w, w.happened // some others may not happen any more either
	return true
}

// kinds tries to do without everything of one kind, or that happens to one.
func (s *shrinker) kinds() {
	for _, of := range []func(cue) string{
		func(c cue) string { return c.what },
		func(c cue) string { return c.who },
	} {
		var kinds []string
		for _, c := range s.left {
			if k := of(c); k != "" && !slices.Contains(kinds, k) {
				kinds = append(kinds, k)
			}
		}
		for _, k := range kinds {
			if s.stop() {
				return
			}
			gone := make(map[cue]bool)
			for _, c := range s.left {
				if of(c) == k {
					gone[c] = true
				}
			}
			if len(gone) > 0 && len(gone) < len(s.left) {
				s.without(gone)
			}
		}
	}
}

// chunks tries to do without ever smaller parts, from the last to the first:
// what comes late seldom matters to what came before.
func (s *shrinker) chunks() {
	for size := (len(s.left) + 1) / 2; size > 0; size /= 2 {
		for to := len(s.left); to > 0; to = min(to-size, len(s.left)) {
			if s.stop() {
				return
			}
			gone := setOf(s.left[max(0, to-size):to])
			s.without(gone)
		}
	}
}

// pairs tries to do without any two: the request for a model and what it takes
// away from another may both be needless, and neither of them alone. Where much
// is left, that would be too many.
func (s *shrinker) pairs() {
	for a := 0; a < len(s.left) && len(s.left) <= 40; a++ {
		for b := a + 1; b < len(s.left); b++ {
			if s.stop() {
				return
			}
			if s.without(setOf([]cue{s.left[a], s.left[b]})) {
				b = a // others stand there now
			}
		}
	}
}

func setOf(cues []cue) map[cue]bool {
	set := make(map[cue]bool, len(cues))
	for _, c := range cues {
		set[c] = true
	}
	return set
}
