package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// Whoever operates the cards is told of each why it was chosen, or was not.
func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		model string
		want  []string // per card; with a +: chosen
	}{
		{"a start where there is room", func() *scheduler.State {
			s := room(24, 24, 24)
			with(s, "a", 20, []int{0})
			wants(s, "m", 10, 1, 0)
			return s
		}, "m", []string{"not tried: nobody need go where others have room", "+chosen: has room", "not tried: an earlier card had room"}},
		{"one for whom others make room", func() *scheduler.State {
			s := room(24, 24, 24, 24)
			s.HostRoom = 8 * gib
			with(s, "a", 10, []int{0}, used(9*time.Minute))
			with(s, "b", 10, []int{0}, sleepy(0, 8), used(8*time.Minute))
			with(s, "c", 20, []int{1}, used(time.Minute))
			with(s, "d", 20, []int{2}, alwaysOn)
			s.Cards[3].Gate = "starting x"
			with(s, "x", 20, []int{3}, phase(scheduler.Starting))
			wants(s, "m", 24, 1, 0)
			return s
		}, "m", []string{
			"+chosen: a and b (sleeps) make room", "not chosen: those who make room elsewhere go first",
			"needs 24.0 GiB, 4.0 GiB would be free after evicting all that may go; d holds 20.0 GiB (always on)",
			"its gate is held (starting x)",
		}},
		{"of one kind", func() *scheduler.State {
			s := room(24, 24, 24)
			s.Cards[0].Class = 1
			wants(s, "m", 10, 2, 0)
			return s
		}, "m", []string{"another kind of card than those chosen", "+chosen: has room", "+chosen: has room"}},
		{"a wake", func() *scheduler.State {
			s := room(24, 24)
			with(s, "own", 2, []int{1}, asleep(20))
			with(s, "a", 10, []int{1})
			wakes(s, "own", wants(s, "m", 20, 1, 0))
			return s
		}, "m", []string{"not tried: its instance sleeps on other cards", "+chosen: a makes room"}},
		{"a wait", func() *scheduler.State {
			s := room(24, 24, 8)
			with(s, "a", 20, []int{0}, phase(scheduler.Draining), busy)
			with(s, "b", 20, []int{1}, busy)
			wants(s, "m", 20, 1, 0).Explain = true
			return s
		}, "m", []string{
			"+chosen: waits for a (draining)", "not chosen: there will be room elsewhere sooner", "needs 20.0 GiB, more than its budget of 8.0 GiB",
		}},
		{"a wait for a gate", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[0].Gate, s.Cards[1].Gate = "starting x", "stopping y"
			wants(s, "m", 20, 1, 0).Explain = true
			return s
		}, "m", []string{"+chosen: has room, and waits for the gate of GPU-0 (starting x)", "its gate is held (stopping y)"}},
		{"a wait for one of two cards", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[1].Gate = "stopping y"
			wants(s, "m", 20, 2, 0).Explain = true
			return s
		}, "m", []string{"+chosen: has room, and waits for the other cards", "+chosen: has room, and waits for the gate of GPU-1 (stopping y)"}},
		{"a wait behind another's turn", func() *scheduler.State {
			s := room(24)
			with(s, "a", 14, []int{0}, busy)
			wants(s, "big", 20, 1, time.Hour)
			wants(s, "m", 8, 1, 0).Explain = true
			return s
		}, "m", []string{"kept for big"}},
		{"a gentle wait", func() *scheduler.State {
			s := room(24)
			with(s, "a", 14, []int{0}, busy)
			wants(s, "big", 20, 1, 0)
			wants(s, "m", 8, 1, 0).Gentle = true
			s.Demands[1].Explain = true
			return s
		}, "m", []string{"others wait for it"}},
		{"a refusal", func() *scheduler.State {
			s := room(24, 24, 24, 64)
			s.Cards[1].Foreign = 10 * gib
			s.Cards[2].Budget = 18 * gib
			with(s, "a", 10, []int{0}, alwaysOn)
			with(s, "b", 4, []int{0})
			with(s, "c", 2, []int{1}, phase(scheduler.Unreleased))
			for n, id := range []string{"v", "w", "x", "y", "z"} {
				with(s, id, int64(9+n), []int{3}, alwaysOn)
			}
			wants(s, "m", 20, 1, 0)
			return s
		}, "m", []string{
			"needs 20.0 GiB, 14.0 GiB would be free after all have gone that may; a holds 10.0 GiB (always on)",
			"needs 20.0 GiB, 12.0 GiB would be free after all have gone that may; other programs use 10.0 GiB; c holds 2.0 GiB (stopped, memory not seen free)",
			"needs 20.0 GiB, more than its budget of 18.0 GiB",
			"needs 20.0 GiB, 9.0 GiB would be free after all have gone that may; z holds 13.0 GiB (always on); y holds 12.0 GiB (always on); x holds 11.0 GiB (always on); 2 more stay",
		}},
		{"a refusal for want of a second card", func() *scheduler.State {
			s := room(24, 24, 24)
			s.Cards[2].Class = 1
			with(s, "a", 24, []int{1})
			with(s, "b", 20, []int{0}, alwaysOn)
			wants(s, "m", 20, 2, 0)
			return s
		}, "m", []string{
			"needs 20.0 GiB, 4.0 GiB would be free after all have gone that may; b holds 20.0 GiB (always on)",
			"could have room, but 2 cards of one kind are needed at once", "has room, but 2 cards of one kind are needed at once",
		}},
		{"a refusal rather than a wait", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0})
			wants(s, "m", 20, 1, 0).Conflict = scheduler.Reject
			return s
		}, "m", []string{"needs 20.0 GiB, 4.0 GiB would be free soon; a holds 20.0 GiB (idle)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range scheduler.Decide(c.state()).Decisions {
				if d.Model != c.model || d.Kind == scheduler.Drain {
					continue
				}
				got := make([]string, len(c.want))
				for _, x := range d.Candidates {
					if got[x.Card] = x.Verdict; x.Chosen {
						got[x.Card] = "+" + x.Verdict
					}
				}
				for n := range got {
					if got[n] != c.want[n] {
						t.Errorf("card %d: %q, want %q", n, got[n], c.want[n])
					}
				}
				return
			}
			t.Error("no decision")
		})
	}
}

// Whoever asked is told figures that help, and no names.
func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*scheduler.State)
		never  bool
		says   []string
	}{
		{"models that stay", func(s *scheduler.State) { with(s, "neighbour", 10, []int{0}, alwaysOn) }, false, []string{"20.0 GiB on a card of pool all", "could give 14.0 GiB", "what cannot make room holds 10.0 GiB"}},
		{"other programs", func(s *scheduler.State) { s.Cards[0].Foreign = 9 * gib }, false, []string{"could give 15.0 GiB", "other programs use 9.0 GiB"}},
		{"a budget", func(s *scheduler.State) { s.Cards[0].Budget = 19 * gib }, true, []string{"20.0 GiB", "budgeted more than 19.0 GiB", "never fit"}},
		{"too few cards", func(s *scheduler.State) { s.Demands[0].Degree = 2 }, true, []string{"2 cards", "has 1"}},
		{"set to be refused", func(s *scheduler.State) {
			with(s, "neighbour", 10, []int{0})
			s.Demands[0].Conflict = scheduler.Reject
		}, false, []string{"20.0 GiB", "not to wait", "the most room has 14.0 GiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := room(24)
			wants(s, "m", 20, 1, 0)
			c.change(s)
			d := decisions(t, s, "refuse m").Decisions[0]
			if d.Never != c.never {
				t.Errorf("never: %v, want %v", d.Never, c.never)
			}
			for _, w := range c.says {
				if !strings.Contains(d.Summary, w) {
					t.Errorf("%q does not say %q", d.Summary, w)
				}
			}
			if strings.Contains(d.Summary, "neighbour") || strings.Contains(d.Summary, "GPU-") {
				t.Errorf("%q names what is none of the client's business", d.Summary)
			}
		})
	}
	s := room(24)
	with(s, "own", 2, []int{0}, asleep(20))
	with(s, "a", 10, []int{0}, alwaysOn)
	wakes(s, "own", wants(s, "m", 25, 1, 0))
	if d := decisions(t, s, "refuse m").Decisions[0]; d.Never {
		t.Error("its sleeping instance may be woken once the other has gone, and it is told never to come back")
	}
	s.Instances[0].Awake[0] = 25 * gib
	if d := decisions(t, s, "refuse m").Decisions[0]; !d.Never {
		t.Error("neither it nor its sleeping instance ever fits")
	}
	s = room(24, 24, 24, 10)
	s.Cards[0].Class, s.Cards[3].Class = 1, 1
	with(s, "a", 10, []int{1}, alwaysOn)
	wants(s, "m", 20, 2, 0)
	if d := decisions(t, s, "refuse m").Decisions[0]; d.Never || !strings.Contains(d.Summary, "2 cards of one kind") {
		t.Errorf("never: %v, %q", d.Never, d.Summary)
	}
	s.Cards[1].Budget = 19 * gib
	if d := decisions(t, s, "refuse m").Decisions[0]; !d.Never {
		t.Errorf("two cards that are not alike will do: %q", d.Summary)
	}
}

// A reason is a line that people read, however many cards there are.
func TestReasonIsShort(t *testing.T) {
	s := room(24, 24, 24, 24, 24, 24, 24, 24)
	wants(s, "m", 30, 1, 0)
	d := scheduler.Decide(s).Decisions[0]
	if !strings.HasSuffix(d.Reason, "; and 4 more cards") || strings.Contains(d.Reason, "GPU-4") || len(d.Candidates) != 8 {
		t.Errorf("%q, %d candidates", d.Reason, len(d.Candidates))
	}
}
