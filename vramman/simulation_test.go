package vramman

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simWorlds    = flag.Int("worlds", 2000, "how many worlds the simulation runs")
	simSeed      = flag.Uint64("seed", 0, "run this world only")
	simFirst     = flag.Uint64("first", 1, "the seed of the first world")
	simEvents    = flag.Int("events", 1000, "how many things happen in a world before it is wound up")
	simInvariant = flag.Int("invariant", 0, "check only this invariant; 0: all of them")
	simShrink    = flag.Duration("shrink", time.Minute, "how long to look for a shorter story of a world that breaks; 0: not at all")
)

// TestSimulation lets many random worlds happen to the owner and checks the
// invariants of DESIGN section 5 after every event. A failure prints the seed,
// and a short story of what has to happen for it; -seed runs that world alone.
func TestSimulation(t *testing.T) {
	worlds, first := *simWorlds, *simFirst
	if testing.Short() || raceEnabled && worlds > 200 {
		worlds = min(worlds, 200)
	}
	if *simSeed != 0 {
		first, worlds = *simSeed, 1
	}
	shown := &sights{counts: make(map[string]int)}
	if b := runWorlds(first, worlds, shown); b != nil {
		t.Fatal(tellOf(b))
	}
	if worlds >= 500 {
		for _, s := range mustShow {
			if shown.counts[s] == 0 {
				t.Errorf("in %d worlds, %q was never to be seen: they show less than they should", worlds, s)
			}
		}
		shown.tally(t, worlds)
	}
	t.Logf("%d worlds: %v", worlds, shown.counts)
}

// mustShow is what many worlds have to show, lest a check never checks anything.
var mustShow = []string{
	"served", "start", "evict", "stop", "drain", "wait", "refuse", "replan", "ready", "failed", "gone", "unreleased",
	string(CodeQueueFull), string(CodeUnplaceable), string(CodeStartFailed), string(CodeModelRemoved), string(CodeNoEngine), string(CodeShuttingDown),
	"died while it is starting", "died while it is measuring", "died while it is ready", "died while it is draining", "died while it is stopping",
	"evicting for several cards", "evicting the young", "the gateway died",
}

// sights is what was seen in all worlds.
type sights struct {
	mu     sync.Mutex
	counts map[string]int
}

func (s *sights) add(w *world) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts["served"] += w.served
	s.counts["events"] += w.steps
	s.counts["minutes"] += int(w.now.Sub(worldBegin).Minutes())
	for code, n := range w.refused {
		s.counts[string(code)] += n
	}
	for what, n := range w.sights {
		s.counts[what] += n
	}
}

// runWorlds runs worlds on all processors, and returns the one of the lowest seed
// that broke, or nil.
func runWorlds(first uint64, count int, shown *sights) *world {
	var (
		next   atomic.Uint64
		mu     sync.Mutex
		worst  *world
		worker sync.WaitGroup
	)
	next.Store(first)
	for range runtime.GOMAXPROCS(0) {
		worker.Go(func() {
			for {
				seed := next.Add(1) - 1
				mu.Lock()
				over := seed >= first+uint64(count) || worst != nil && worst.seed < seed
				mu.Unlock()
				if over {
					return
				}
				w := runSeed(seed)
				shown.add(w)
				if w.broken == nil {
					continue
				}
				mu.Lock()
				if worst == nil || w.seed < worst.seed {
					worst = w
				}
				mu.Unlock()
			}
		})
	}
	worker.Wait()
	return worst
}

// runSeed runs one world; every eighth twice, since the same world decides the
// same again.
func runSeed(seed uint64) *world {
	p := plot{seed: seed, events: *simEvents}
	w := runWorld(p)
	if (seed%8 == 0 || *simInvariant == 10) && w.broken == nil {
		again := runWorld(p)
		if n, same := firstDifference(w.decisions, again.decisions); !same {
			w.broken = &broken{invariant: 10, check: "differs", message: fmt.Sprintf("decision %d differs between two runs:\n%s\n%s", n, at(w.decisions, n), at(again.decisions, n))}
		}
	}
	return w
}

func firstDifference(a, b []string) (n int, same bool) {
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n, len(a) == len(b) && n == len(a)
}

func at(s []string, n int) string {
	if n < len(s) {
		return s[n]
	}
	return "none"
}

// tellOf says which world broke and how, in as few words as can be found.
func tellOf(b *world) string {
	s := fmt.Sprintf("seed %d, event %d: %v\nAgain: go test ./vramman -run TestSimulation -seed %d -events %d\n", b.seed, b.steps, b.broken, b.seed, b.events)
	if *simShrink == 0 || b.broken.invariant == 10 {
		return s + "The last decisions:\n" + strings.Join(b.decisions[max(0, len(b.decisions)-30):], "\n")
	}
	deadline := time.Now().Add(*simShrink)
	short, runs := shrink(b, func() bool { return time.Now().After(deadline) })
	return fmt.Sprintf("%sThe shortest story of it, found in %d runs, in which %d of %d things happen:\n%s",
		s, runs, len(short.happened), len(b.happened), short)
}
