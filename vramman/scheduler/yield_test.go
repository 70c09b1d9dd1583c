package scheduler_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// Where other programs have grown into what is charged, idle instances make room
// for them.
func TestYield(t *testing.T) {
	// pressed has 24 GiB on each of two cards, of which others use so much of the first.
	pressed := func(foreign int64) *scheduler.State {
		s := room(24, 24)
		s.Cards[0].Foreign, s.Cards[0].Squeezed = foreign*gib, true
		return s
	}
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  []string
	}{
		{"the first in the policy's order", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 8, []int{0}, used(5*time.Minute))
			with(s, "b", 8, []int{0}, used(9*time.Minute))
			return s
		}, []string{"stop b"}},
		{"one after the other, as they share a gate", func() *scheduler.State {
			s := pressed(20)
			with(s, "a", 8, []int{0}, used(5*time.Minute))
			with(s, "b", 8, []int{0}, used(9*time.Minute))
			return s
		}, []string{"stop b"}},
		{"nobody before it was seen for long enough", func() *scheduler.State {
			s := pressed(10)
			s.Cards[0].Squeezed = false
			with(s, "a", 16, []int{0})
			return s
		}, nil},
		{"nobody where it fits to the byte", func() *scheduler.State {
			s := pressed(8)
			with(s, "a", 16, []int{0})
			return s
		}, nil},
		{"nobody for want of budget alone", func() *scheduler.State {
			s := pressed(2)
			s.Cards[0].Budget = 10 * gib
			with(s, "a", 16, []int{0})
			return s
		}, nil},
		{"nobody beside one that is stopping and does", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 8, []int{0})
			with(s, "b", 8, []int{0}, phase(scheduler.Stopping))
			return s
		}, nil},
		{"nobody beside one that is drained and does", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 8, []int{0})
			with(s, "b", 8, []int{0, 1}, phase(scheduler.Draining))
			s.Cards[1].Gate = "start x"
			return s
		}, nil},
		{"one that is enough rather than two", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 1, []int{0}, used(9*time.Minute))
			with(s, "b", 15, []int{0}, used(5*time.Minute))
			return s
		}, []string{"stop b"}},
		{"the young last", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 8, []int{0}, young, used(9*time.Minute))
			with(s, "b", 8, []int{0}, used(time.Second))
			return s
		}, []string{"stop b"}},
		{"who could sleep stops", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 16, []int{0}, sleepy(1, 1))
			return s
		}, []string{"stop a"}},
		{"who is asleep stops, too", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 16, []int{0}, asleep(20))
			return s
		}, []string{"stop a"}},
		{"nobody busy, always on, or wanted", func() *scheduler.State {
			s := pressed(20)
			with(s, "a", 4, []int{0}, busy)
			with(s, "b", 4, []int{0}, alwaysOn)
			with(s, "c", 4, []int{0}, ticketed)
			with(s, "d", 4, []int{0}, asleep(20), ticketed)
			return s
		}, nil},
		{"nobody on another card", func() *scheduler.State {
			s := pressed(10)
			with(s, "a", 16, []int{0}, busy)
			with(s, "b", 16, []int{1})
			return s
		}, nil},
		{"all who can, where even that is not enough", func() *scheduler.State {
			s := pressed(10)
			s.Cards[1].Foreign, s.Cards[1].Squeezed = 20*gib, true
			with(s, "a", 20, []int{0}, busy)
			with(s, "b", 1, []int{0})
			with(s, "c", 20, []int{1}, used(time.Second))
			return s
		}, []string{"stop b", "stop c"}},
		{"one on two cards for both", func() *scheduler.State {
			s := pressed(10)
			s.Cards[1].Foreign, s.Cards[1].Squeezed = 10*gib, true
			with(s, "a", 8, []int{0}, used(9*time.Minute))
			with(s, "b", 8, []int{0, 1}, used(5*time.Minute))
			with(s, "c", 8, []int{1}, used(time.Second))
			return s
		}, []string{"stop b"}},
	} {
		t.Run(c.name, func(t *testing.T) { decisions(t, c.state(), c.want...) })
	}
	s := pressed(10)
	with(s, "a", 16, []int{0})
	if reason := scheduler.Decide(s).Decisions[0].Reason; !strings.Contains(reason, "other programs use 10.0 GiB of GPU-0") || !strings.Contains(reason, "16.0 GiB") {
		t.Errorf("%q does not say who takes how much", reason)
	}
}
