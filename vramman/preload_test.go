package vramman

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func preloadModel(name string, gib int64) ModelSpec {
	m := rigModel(name, gib)
	m.Preload = true
	return m
}

// Models that are to be there from the beginning start by themselves, the always-on
// ones first, and evict nobody for it.
func TestPreload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		always := rigModel("always", 4)
		always.AlwaysOn = true
		idle := preloadModel("p1", 6)
		idle.IdleTimeout = 10 * time.Minute
		m, g := r.open(t, r.spec(idle, always, preloadModel("p2", 6), preloadModel("p3", 6), rigModel("a", 10)))
		time.Sleep(time.Minute)
		if r.count("start always") != 1 || r.count("start p1") != 1 || r.count("start p2") != 1 || r.count("start p3") != 0 {
			t.Fatalf("%v", r.counts())
		}
		var first string
		for _, d := range mustStatus(t, m).Decisions {
			if d.Action == "start" {
				first = d.Model
				break
			}
		}
		if first != "always" {
			t.Errorf("%s was started first", first)
		}
		// p3 comes where there is room without anybody's having to go, and once only.
		time.Sleep(11 * time.Minute)
		if r.count("start p3") != 1 || r.count("start p1") != 1 {
			t.Errorf("%v", r.counts())
		}
		// They make room like all others, and do not come back for it.
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		if r.count("start p1")+r.count("start p2")+r.count("start p3") != 3 {
			t.Errorf("%v", r.counts())
		}
	})
}

// They keep their order also where one is sized sooner than one before it.
func TestOrderWhileSizing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		s := rigSized{
			estimate: sizedParts(4*worldGiB, worldGiB, worldGiB, 1), asked: new(rigAsked),
			weights: 4 * worldGiB, rest: worldGiB, perSeq: worldGiB, slow: 5 * time.Second,
		}
		first, second := sizedModel("first", s), rigModel("second", 4)
		first.AlwaysOn, second.AlwaysOn = true, true
		m, _ := r.open(t, r.spec(first, second))
		time.Sleep(time.Minute)
		var starts []string
		for _, d := range mustStatus(t, m).Decisions {
			if d.Action == "start" {
				starts = append(starts, d.Model)
			}
		}
		if !slices.Equal(starts, []string{"first", "second"}) {
			t.Errorf("started: %q", starts)
		}
	})
}

func TestPreloadComesBackAfterItsDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		_, _ = r.open(t, r.spec(preloadModel("p", 6)))
		time.Sleep(time.Minute)
		r.mu.Lock()
		i := r.running[0]
		r.mu.Unlock()
		i.end(i.exit)
		time.Sleep(time.Minute)
		if r.count("start p") != 2 {
			t.Errorf("%v", r.counts())
		}
	})
}

// A request for a model that waits for free room has the right to evict.
func TestRequestHurriesAPreload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		_, g := r.open(t, r.spec(preloadModel("p1", 10), preloadModel("p2", 10)))
		time.Sleep(time.Minute)
		mustHold(t, g, "p2")()
		if r.count("stop p1") != 1 {
			t.Errorf("%v", r.counts())
		}
	})
}

// Idle models yield to other programs that have grown into their room, no more of
// them than needed.
func TestIdleModelsYieldToOtherPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 16*worldGiB)
		m, g := r.open(t, r.spec(rigModel("a", 6), rigModel("b", 6)))
		mustHold(t, g, "a")()
		time.Sleep(time.Second)
		mustHold(t, g, "b")()
		r.mu.Lock()
		r.foreign["GPU-0"] = 8 * worldGiB
		r.mu.Unlock()
		time.Sleep(30 * time.Second)
		if r.count("stop a") != 1 || r.count("stop b") != 0 || mustStatus(t, m).GPUs[0].Foreign != 8*worldGiB {
			t.Errorf("%v", r.counts())
		}
	})
}

// A preload that a configuration takes away and a later one has again comes again.
func TestPreloadComesBackWithItsConfiguration(t *testing.T) {
	s := newScript(t, 16)
	m := scriptModel("a", 8)
	m.Preload = true
	s.load(scriptSpec(m))
	s.openAll()
	s.fetchAll()
	s.read()
	s.tell(startedEvent{i: s.starts[0], err: errAny}) // it fails, and backs off
	m.Preload = false
	s.load(scriptSpec(m))
	s.read()
	s.after(10 * time.Minute)
	m.Preload = true
	s.load(scriptSpec(m))
	s.fetchAll()
	s.read()
	if len(s.starts) != 2 {
		t.Errorf("%d starts: %+v", len(s.starts), s.o.decisions)
	}
}
