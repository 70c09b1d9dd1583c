package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// Reasons must hold the names and figures an operator needs; how they are put
// is left open.
func TestReasons(t *testing.T) {
	const turn = 5 * time.Minute
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		kind  scheduler.Kind
		says  []string
	}{
		{"a start where there is room", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0})
			with(s, "b", 6, []int{1})
			wants(s, "m", 10, 1, 0)
			return s
		}, scheduler.Start, []string{"10.0 GiB", "GPU-1", "18.0 GiB"}},
		{"a start on two cards", func() *scheduler.State {
			s := room(24, 16)
			wants(s, "m", 10, 2, 0)
			return s
		}, scheduler.Start, []string{"10.0 GiB", "GPU-0", "24.0 GiB", "GPU-1", "16.0 GiB"}},
		{"an eviction", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, used(7*time.Minute))
			wants(s, "m", 10, 1, 0)
			return s
		}, scheduler.Start, []string{"10.0 GiB", "GPU-0", "4.0 GiB", "lru", "a", "7m0s", "20.0 GiB"}},
		{"a wait for a gate", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Gate = "start other-1"
			wants(s, "m", 10, 1, 0)
			return s
		}, scheduler.Wait, []string{"GPU-0", "start other-1"}},
		{"a wait for busy instances", func() *scheduler.State {
			s := room(24)
			with(s, "a", 12, []int{0}, busy)
			with(s, "b", 12, []int{0}, phase(scheduler.Draining), busy)
			wants(s, "m", 20, 1, 0)
			return s
		}, scheduler.Wait, []string{"20.0 GiB", "GPU-0", "a", "busy with 2", "b", "draining"}},
		{"a wait for an idle instance and its gate", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Gate = "start other-1"
			with(s, "a", 24, []int{0})
			wants(s, "m", 20, 1, 0)
			return s
		}, scheduler.Wait, []string{"a", "idle", "GPU-0", "start other-1"}},
		{"a drain", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, busy)
			wants(s, "m", 20, 1, turn+time.Minute)
			return s
		}, scheduler.Drain, []string{"m", "6m0s"}},
		{"a stop after an idle time", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, idleFor(9*time.Minute))
			return s
		}, scheduler.Stop, []string{"9m0s"}},
		{"a stop of what the configuration dropped", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, leaving)
			return s
		}, scheduler.Stop, []string{"configuration"}},
		{"a stop at the drain deadline", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, phase(scheduler.Draining), busy, expired)
			return s
		}, scheduler.Stop, []string{"deadline"}},
		{"a refusal, with the whole account", func() *scheduler.State {
			s := room(24, 40)
			s.Cards[0].Budget = 22 * gib
			s.Cards[1].Foreign = 30 * gib
			with(s, "a", 12, []int{0}, alwaysOn)
			with(s, "b", 3, []int{1}, phase(scheduler.Unreleased))
			with(s, "c", 5, []int{0}, busy)
			wants(s, "m", 20, 1, 0)
			return s
		}, scheduler.Refuse, []string{
			"m", "20.0 GiB", "pool all",
			"GPU-0", "5.0 GiB of room", "22.0 GiB of 24.0 GiB", "17.0 GiB charged", "a holds 12.0 GiB", "always on", "c holds 5.0 GiB", "busy with 2",
			"GPU-1", "7.0 GiB of room", "30.0 GiB used by other programs", "b holds 3.0 GiB", "not seen free",
		}},
		{"a refusal for want of cards", func() *scheduler.State {
			s := room(24)
			wants(s, "m", 20, 4, 0)
			return s
		}, scheduler.Refuse, []string{"m", "4 cards", "pool all", "1"}},
		{"a refusal of several cards", func() *scheduler.State {
			s := room(24, 10)
			wants(s, "m", 20, 2, 0)
			return s
		}, scheduler.Refuse, []string{"2 cards", "20.0 GiB", "GPU-0", "24.0 GiB of room", "GPU-1", "10.0 GiB of room"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range scheduler.Decide(c.state()).Decisions {
				if d.Kind != c.kind {
					continue
				}
				for _, w := range c.says {
					if !strings.Contains(d.Reason, w) {
						t.Errorf("%q does not say %q", d.Reason, w)
					}
				}
				return
			}
			t.Errorf("no decision to %v", c.kind)
		})
	}
}

// A share is another size on each card.
func TestReasonNamesTheNeedOfEachCard(t *testing.T) {
	s := room(24, 80)
	s.Cards[0].Foreign, s.Cards[1].Foreign = 20*gib, 50*gib
	wants(s, "m", 0, 1, 0)
	within(s, []int{0, 1}, placement.Need{Share: 0.5})
	reason := scheduler.Decide(s).Decisions[0].Reason
	for _, w := range []string{"12.0 GiB", "4.0 GiB of room", "30.0 GiB of room for 40.0 GiB"} {
		if !strings.Contains(reason, w) {
			t.Errorf("%q does not say %q", reason, w)
		}
	}
}

// An idle instance that cannot go yet is no explanation: what holds it is.
func TestReasonNamesWhatHoldsAnIdleInstance(t *testing.T) {
	s := room(24, 24)
	s.Cards[1].Gate = "start other-1"
	with(s, "wide", 20, []int{0, 1})
	only(wants(s, "m", 20, 1, 0), 0)
	if reason := scheduler.Decide(s).Decisions[0].Reason; !strings.Contains(reason, "GPU-1 (start other-1)") {
		t.Errorf("%q does not name the gate", reason)
	}
	s = room(24, 30)
	with(s, "a", 18, []int{1}, busy)
	with(s, "wide", 10, []int{0, 1})
	with(s, "on", 14, []int{0}, alwaysOn)
	only(wants(s, "big", 20, 1, 6*time.Minute), 1)
	only(wants(s, "m", 8, 1, 0), 0)
	p := decisions(t, s, "drain a for big", "wait big", "wait m")
	if reason := p.Decisions[2].Reason; !strings.Contains(reason, "wide (idle)") || !strings.Contains(reason, "GPU-1 is kept for big") {
		t.Errorf("%q does not say for whom the card is kept", reason)
	}
}

// Who waits because cards are kept is told for whom.
func TestReasonNamesWhomCardsAreKeptFor(t *testing.T) {
	s := room(24)
	with(s, "a", 14, []int{0}, busy)
	wants(s, "big", 20, 1, 6*time.Minute)
	wants(s, "small", 8, 1, 0)
	p := scheduler.Decide(s)
	last := p.Decisions[len(p.Decisions)-1]
	if last.Model != "small" || !strings.Contains(last.Reason, "GPU-0 is kept for big") {
		t.Errorf("%s: %q", words(last), last.Reason)
	}
}
