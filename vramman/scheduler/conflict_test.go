package scheduler_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about demands that leave others where they are, and about who comes
// first.

func TestConflict(t *testing.T) {
	const due = 5 * time.Minute // room's MaxWaitForTurn
	for _, c := range []struct {
		name                      string
		change                    func(*scheduler.State)
		evict, hold, reject, mild []string
	}{
		{
			"room", func(*scheduler.State) {},
			[]string{"start m on [0]"},
			[]string{"start m on [0]"},
			[]string{"start m on [0]"},
			[]string{"start m on [0]"},
		},
		{
			"room behind a gate", func(s *scheduler.State) { s.Cards[0].Gate = "start x" },
			[]string{"wait m"},
			[]string{"wait m"},
			[]string{"wait m"},
			[]string{"wait m"},
		},
		{
			"room that is about to come", func(s *scheduler.State) { with(s, "a", 20, []int{0}, phase(scheduler.Stopping)) },
			[]string{"wait m"},
			[]string{"wait m"},
			[]string{"wait m"},
			[]string{"wait m"},
		},
		{
			"an idle instance", func(s *scheduler.State) { with(s, "a", 20, []int{0}) },
			[]string{"start m on [0] evicting [a]"},
			[]string{"wait m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"a busy instance, when the turn has come", func(s *scheduler.State) { with(s, "a", 20, []int{0}, busy) },
			[]string{"drain a for m", "wait m"},
			[]string{"wait m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"one that is draining", func(s *scheduler.State) { with(s, "a", 20, []int{0}, phase(scheduler.Draining), busy) },
			[]string{"wait m"},
			[]string{"wait m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"one that stays", func(s *scheduler.State) { with(s, "a", 20, []int{0}, alwaysOn) },
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"too small a card", func(s *scheduler.State) { s.Cards[0].Budget = 10 * gib },
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"too few cards", func(s *scheduler.State) { s.Demands[0].Degree = 2 },
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"an idle instance beside its sleeping one", func(s *scheduler.State) {
				with(s, "a", 20, []int{0})
				with(s, "own", 1, []int{0}, asleep(20))
				wakes(s, "own", &s.Demands[0])
			},
			[]string{"wake own evicting [a]"},
			[]string{"wait m"},
			[]string{"refuse m"},
			[]string{"wait m"},
		},
		{
			"a sleeping instance with room", func(s *scheduler.State) {
				with(s, "own", 1, []int{0}, asleep(20))
				wakes(s, "own", &s.Demands[0])
			},
			[]string{"wake own"},
			[]string{"wake own"},
			[]string{"wake own"},
			[]string{"wake own"},
		},
	} {
		for name, demand := range map[string]struct {
			change func(*scheduler.Demand)
			want   []string
		}{
			"evict":           {func(*scheduler.Demand) {}, c.evict},
			"hold":            {func(d *scheduler.Demand) { d.Conflict = scheduler.Hold }, c.hold},
			"reject":          {func(d *scheduler.Demand) { d.Conflict = scheduler.Reject }, c.reject},
			"gentle":          {func(d *scheduler.Demand) { d.Gentle = true }, c.mild},
			"gentle, rejects": {func(d *scheduler.Demand) { d.Gentle, d.Conflict = true, scheduler.Reject }, c.mild},
		} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				s := room(24)
				wants(s, "m", 20, 1, due)
				c.change(s)
				demand.change(&s.Demands[0])
				decisions(t, s, demand.want...)
			})
		}
	}
}

// Who holds keeps no card from others, however long it has waited.
func TestHoldKeepsNoCard(t *testing.T) {
	s := room(24)
	with(s, "a", 14, []int{0}, busy)
	wants(s, "m", 20, 1, time.Hour).Conflict = scheduler.Hold
	wants(s, "n", 8, 1, 0)
	decisions(t, s, "wait m", "start n on [0]")
}

// What is kept for others is no room for one that is not to wait.
func TestRejectBesideAKeptCard(t *testing.T) {
	s := room(24)
	with(s, "a", 14, []int{0}, busy)
	wants(s, "big", 20, 1, time.Hour)
	wants(s, "m", 8, 1, 0).Conflict = scheduler.Reject
	p := decisions(t, s, "drain a for big", "wait big", "refuse m")
	d := p.Decisions[2]
	for _, w := range []string{"set to be refused", "kept for big", "a holds 14.0 GiB"} {
		if !strings.Contains(d.Reason, w) {
			t.Errorf("%q does not say %q", d.Reason, w)
		}
	}
	if d.Never {
		t.Error("it is told never to come back")
	}
}

// A gentle demand comes last, and takes no card that another waits for.
func TestGentleIsInNobodysWay(t *testing.T) {
	s := room(24, 24)
	wants(s, "mild", 20, 1, time.Hour).Gentle = true
	wants(s, "m", 20, 1, 0)
	decisions(t, s, "start m on [0]", "start mild on [1]")

	for name, change := range map[string]func(*scheduler.State){
		"evicts": func(*scheduler.State) {},
		"holds":  func(s *scheduler.State) { s.Demands[1].Conflict = scheduler.Hold },
	} {
		s = room(24, 24)
		with(s, "a", 14, []int{0}, busy)
		wants(s, "mild", 4, 1, time.Hour).Gentle = true
		only(wants(s, "m", 20, 1, 0), 0)
		change(s)
		t.Run(name, func(t *testing.T) { decisions(t, s, "wait m", "start mild on [1]") })
		only(&s.Demands[0], 0)
		t.Run(name+", nowhere else", func(t *testing.T) { decisions(t, s, "wait m", "wait mild") })
	}

	s = room(24, 24)
	with(s, "own", 2, []int{0}, asleep(10))
	with(s, "a", 14, []int{0}, busy)
	mild := wants(s, "mild", 10, 1, time.Hour)
	mild.Gentle, mild.Asleep = true, "own"
	wants(s, "m", 24, 2, time.Hour)
	decisions(t, s, "drain a for m", "wait m", "wait mild") // nor is its own stopped on a kept card
}

func TestWhoComesFirst(t *testing.T) {
	s := room(24)
	first := func(change func(a, b *scheduler.Demand)) string {
		s.Demands = nil
		wants(s, "a", 20, 1, time.Minute)
		wants(s, "b", 20, 1, time.Minute)
		change(&s.Demands[0], &s.Demands[1])
		d := scheduler.Decide(s).Decisions[0]
		if d.Kind != scheduler.Start {
			t.Fatalf("%s", words(d))
		}
		return d.Model
	}
	for _, c := range []struct {
		name   string
		change func(a, b *scheduler.Demand)
		want   string
	}{
		{"as they stand", func(*scheduler.Demand, *scheduler.Demand) {}, "a"},
		{"the given order, whatever the queues", func(a, b *scheduler.Demand) { a.Waiting, b.Waiting = 2, 3 }, "a"},
		{"always on before a deeper queue", func(a, b *scheduler.Demand) { a.Waiting, b.AlwaysOn = 7, true }, "b"},
		{"whoever came before, whatever its queue", func(a, b *scheduler.Demand) { b.Since, a.Waiting, a.AlwaysOn = b.Since.Add(-1), 7, true }, "b"},
		{"no gentle one", func(a, b *scheduler.Demand) { a.Since, a.Gentle, a.AlwaysOn = a.Since.Add(-time.Hour), true, true }, "b"},
	} {
		if got := first(c.change); got != c.want {
			t.Errorf("%s: %s comes first, want %s", c.name, got, c.want)
		}
	}
}

// How many wait is said wherever a demand is decided about.
func TestReasonsCountWhoWaits(t *testing.T) {
	s := room(24, 24)
	with(s, "a", 20, []int{1}, busy)
	with(s, "own", 2, []int{0}, asleep(10))
	wants(s, "m", 10, 1, time.Hour).Waiting = 7
	only(&s.Demands[0], 0)
	only(wants(s, "n", 20, 1, time.Hour), 1)
	s.Demands[1].Waiting = 1
	wakes(s, "own", wants(s, "o", 10, 1, 0))
	s.Demands[2].Waiting = 3
	p := decisions(t, s, "start m on [0]", "drain a for n", "wait n", "wait o")
	for k, want := range []string{"; 7 requests wait", "; 1 request waits", "; 1 request waits", "; 3 requests wait"} {
		if d := p.Decisions[k]; !strings.HasSuffix(d.Reason, want) {
			t.Errorf("%s: %q does not end with %q", words(d), d.Reason, want)
		}
	}
	if i := slices.IndexFunc(p.Decisions, func(d scheduler.Decision) bool { return d.Candidates != nil && d.Kind == scheduler.Wait }); i >= 0 {
		t.Errorf("%s has candidates that nobody asked for", words(p.Decisions[i]))
	}
}
