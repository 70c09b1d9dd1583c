package scheduler_test

import (
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about those who must wait: until when, and what is kept for them.

func TestTurn(t *testing.T) {
	const turn = 5 * time.Minute // room's MaxWaitForTurn
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  []string
		next  time.Duration // from now; 0: none
	}{
		{"busy instances are waited for", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, busy)
			wants(s, "m", 20, 1, turn-time.Second)
			return s
		}, []string{"wait m"}, time.Second},
		{"until the turn comes", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, busy)
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain a for m", "wait m"}, 0},
		{"requests that wait keep it busy", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, ticketed)
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain a for m", "wait m"}, 0},
		{"only those in the way", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, busy, used(2*time.Second))
			with(s, "b", 20, []int{1}, busy, used(time.Second))
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain a for m", "wait m"}, 0},
		{"and the idle beside them, who could be busy by then", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, busy)
			with(s, "b", 10, []int{0}, used(time.Hour))
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain b for m", "drain a for m", "wait m"}, 0},
		{"all at the same time", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, busy)
			with(s, "b", 10, []int{0}, used(time.Hour))
			with(s, "c", 4, []int{0}, busy, func(i *scheduler.Instance) {
				i.DemandSince, i.ReadySince = ago(2*turn), ago(time.Minute)
			})
			wants(s, "m", 24, 1, turn)
			return s
		}, []string{"wait m"}, turn - time.Minute},
		{"none while another starts that must go too", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Gate = "start b"
			with(s, "a", 10, []int{0}, busy)
			with(s, "b", 10, []int{0}, phase(scheduler.Starting))
			wants(s, "m", 24, 1, turn)
			return s
		}, []string{"wait m"}, 0},
		{"but not before", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, busy)
			with(s, "b", 10, []int{0}, used(time.Hour))
			wants(s, "m", 20, 1, turn-1)
			return s
		}, []string{"wait m"}, 1},
		{"never who is always on", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, busy, alwaysOn)
			with(s, "b", 20, []int{1}, busy)
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain b for m", "wait m"}, 0},
		{"who is draining already is enough", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, busy)
			with(s, "b", 20, []int{1}, busy, phase(scheduler.Draining), used(0))
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"wait m"}, 0},
		{"who was asked for before has a turn of its own", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, busy, func(i *scheduler.Instance) {
				i.DemandSince, i.ReadySince = ago(2*turn), ago(time.Minute)
			})
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"wait m"}, turn - time.Minute},
		{"who was asked for later has none", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, busy, func(i *scheduler.Instance) {
				i.DemandSince, i.ReadySince = ago(2*time.Minute), ago(time.Minute)
			})
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain a for m", "wait m"}, 0},
		{"whose turn is over goes before whose is not", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, busy, used(2*time.Second), func(i *scheduler.Instance) {
				i.DemandSince, i.ReadySince = ago(2*turn), ago(time.Minute)
			})
			with(s, "b", 20, []int{1}, busy, used(time.Second))
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain b for m", "wait m"}, turn - time.Minute},
		{"who starts is no reason to spare who is busy", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[0].Gate = "start a"
			with(s, "a", 20, []int{0}, phase(scheduler.Starting), func(i *scheduler.Instance) {
				i.DemandSince, i.ReadySince, i.LastUsed = ago(time.Minute), time.Time{}, time.Time{}
			})
			with(s, "b", 20, []int{1}, busy)
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"drain b for m", "wait m"}, 0},
		{"nor is one that this plan starts", func() *scheduler.State {
			s := room(24, 24)
			with(s, "b", 20, []int{1}, busy)
			wants(s, "l", 20, 1, turn)
			wants(s, "m", 20, 1, turn)
			return s
		}, []string{"start l on [0]", "drain b for m", "wait m"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.state()
			p := decisions(t, s, c.want...)
			if c.next == 0 && !p.Next.IsZero() || c.next != 0 && !p.Next.Equal(s.Now.Add(c.next)) {
				t.Errorf("next is in %v, want %v", p.Next.Sub(s.Now), c.next)
			}
		})
	}
}

func TestCardsKeptForATurn(t *testing.T) {
	const turn = 5 * time.Minute
	full := func(waited time.Duration) *scheduler.State {
		s := room(24, 24)
		with(s, "a", 14, []int{0}, busy, used(time.Second))
		with(s, "b", 22, []int{1}, busy, used(0))
		wants(s, "big", 20, 1, waited)
		wants(s, "small", 8, 1, 0)
		return s
	}
	t.Run("before its turn others may have the room", func(t *testing.T) {
		decisions(t, full(turn-1), "wait big", "start small on [0]")
	})
	t.Run("after it not", func(t *testing.T) {
		decisions(t, full(turn), "drain a for big", "wait big", "wait small")
	})
	t.Run("other cards are free to others", func(t *testing.T) {
		s := full(turn)
		s.Cards[1].Total, s.Cards[1].Budget = 48*gib, 30*gib
		decisions(t, s, "drain a for big", "wait big", "start small on [1]")
	})
	t.Run("nor may others evict there", func(t *testing.T) {
		s := room(30)
		with(s, "a", 18, []int{0}, busy)
		with(s, "idle", 10, []int{0})
		wants(s, "big", 20, 1, turn)
		wants(s, "small", 12, 1, turn-1)
		decisions(t, s, "drain a for big", "wait big", "wait small")
	})
	t.Run("nor anywhere an instance reaches a kept card", func(t *testing.T) {
		s := room(30, 24)
		with(s, "a", 18, []int{0}, busy, used(time.Second))
		with(s, "wide", 10, []int{0, 1})
		with(s, "on", 14, []int{1}, alwaysOn)
		only(wants(s, "big", 20, 1, turn), 0)
		only(wants(s, "small", 8, 1, 0), 1)
		decisions(t, s, "drain a for big", "wait big", "wait small")
	})
	t.Run("room that waits for a gate is kept too", func(t *testing.T) {
		s := room(24, 24)
		s.Cards[0].Gate = "start x"
		wants(s, "wide", 10, 2, turn)
		wants(s, "small", 4, 1, 0)
		decisions(t, s, "wait wide", "wait small")
	})
}
