package scheduler_test

import (
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about instances that make room by sleeping, and that are woken.

func TestSleep(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  []string
	}{
		{"rather than stop", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, sleepy(2, 8))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a (sleeps)]"}},
		{"not if that frees too little", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0}, sleepy(2, 8))
			wants(s, "m", 23, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]"}},
		{"not if the host has too little memory", func() *scheduler.State {
			s := room(24)
			s.HostRoom = 7 * gib
			with(s, "a", 20, []int{0}, sleepy(2, 8))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]"}},
		{"as many as the host has memory for", func() *scheduler.State {
			s := room(24, 24, 24)
			s.HostRoom = 16 * gib
			for n, id := range []string{"a", "b", "c"} {
				with(s, id, 20, []int{n}, sleepy(2, 8), used(time.Duration(9-n)*time.Minute))
			}
			wants(s, "m", 20, 1, 0)
			wants(s, "n", 20, 1, 0)
			wants(s, "o", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a (sleeps)]", "start n on [1] evicting [b (sleeps)]", "start o on [2] evicting [c]"}},
		{"two who sleep rather than one who stops", func() *scheduler.State {
			s := room(48)
			with(s, "a", 20, []int{0}, sleepy(2, 8), used(9*time.Minute))
			with(s, "b", 20, []int{0}, sleepy(2, 8), used(8*time.Minute))
			wants(s, "m", 28, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a (sleeps) b (sleeps)]"}},
		{"of two who must go, as many as may, the last first", func() *scheduler.State {
			s := room(44)
			with(s, "a", 20, []int{0}, sleepy(2, 8), used(9*time.Minute))
			with(s, "b", 20, []int{0}, sleepy(2, 8), used(8*time.Minute))
			wants(s, "m", 42, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a b (sleeps)]"}},
		{"in the policy's order, whether they can sleep or not", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, used(9*time.Minute))
			with(s, "b", 20, []int{1}, sleepy(2, 8), used(8*time.Minute))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]"}},
		{"no young one where one past its residency can stop", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, sleepy(4, 8), young)
			with(s, "b", 22, []int{1}, sleepy(10, 8), used(time.Second))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [1] evicting [b]"}},
		{"who is asleep stops", func() *scheduler.State {
			s := room(24)
			with(s, "a", 4, []int{0}, asleep(20))
			wants(s, "m", 22, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]"}},
		{"not if requests wait for it", func() *scheduler.State {
			s := room(24)
			with(s, "a", 4, []int{0}, asleep(20), ticketed)
			wants(s, "m", 22, 1, 0)
			return s
		}, []string{"wait m"}},
		{"not if it is always on", func() *scheduler.State {
			s := room(24)
			with(s, "a", 4, []int{0}, asleep(20), alwaysOn)
			wants(s, "m", 22, 1, 0)
			return s
		}, []string{"refuse m"}},
		{"who falls asleep leaves room for the next, behind its gate", func() *scheduler.State {
			s := room(48)
			with(s, "a", 40, []int{0}, sleepy(2, 8))
			wants(s, "m", 20, 1, 0)
			wants(s, "n", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a (sleeps)]", "wait n"}},
		{"nobody busy, always on, or with requests waiting", func() *scheduler.State {
			s := room(24, 24, 24, 24)
			with(s, "a", 20, []int{0}, sleepy(2, 8), alwaysOn)
			with(s, "b", 20, []int{1}, sleepy(2, 8), busy)
			with(s, "c", 20, []int{2}, sleepy(2, 8), ticketed)
			with(s, "d", 20, []int{3}, sleepy(2, 8), used(time.Second))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [3] evicting [d (sleeps)]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.state()
			if s.HostRoom == 0 {
				s.HostRoom = 1000 * gib
			}
			decisions(t, s, c.want...)
		})
	}
}

func TestIdleInstancesSleep(t *testing.T) {
	for _, c := range []struct {
		name   string
		change []func(*scheduler.Instance)
		want   []string
	}{
		{"past its timeout", []func(*scheduler.Instance){sleepy(2, 8), idleFor(10 * time.Minute)}, []string{"sleep a"}},
		{"before it", []func(*scheduler.Instance){sleepy(2, 8), idleFor(11 * time.Minute)}, nil},
		{"without memory for it", []func(*scheduler.Instance){sleepy(2, 9), idleFor(10 * time.Minute)}, []string{"stop a"}},
		{"that may not", []func(*scheduler.Instance){idleFor(10 * time.Minute)}, []string{"stop a"}},
		{"always on", []func(*scheduler.Instance){sleepy(2, 8), idleFor(time.Minute), alwaysOn}, nil},
		{"busy", []func(*scheduler.Instance){sleepy(2, 8), idleFor(time.Minute), busy}, nil},
		{"leaving", []func(*scheduler.Instance){sleepy(2, 8), leaving}, []string{"stop a"}},
		{"asleep, past its timeout", []func(*scheduler.Instance){asleep(20), idleFor(9 * time.Minute)}, nil},
		{"asleep, past twice its timeout", []func(*scheduler.Instance){asleep(20), idleFor(5 * time.Minute)}, []string{"stop a"}},
		{"asleep, past it, always on", []func(*scheduler.Instance){asleep(20), idleFor(time.Minute), alwaysOn}, nil},
		{"asleep, past it, requests wait", []func(*scheduler.Instance){asleep(20), idleFor(time.Minute), ticketed}, nil},
		{"asleep, leaving", []func(*scheduler.Instance){asleep(20), leaving}, []string{"stop a"}},
		{"asleep, leaving, requests wait", []func(*scheduler.Instance){asleep(20), leaving, ticketed}, []string{"stop a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := room(24, 24)
			s.HostRoom = 8 * gib
			with(s, "a", 20, []int{0, 1}, c.change...)
			decisions(t, s, c.want...)
			s.Cards[1].Gate = "start x" // one gate is not enough
			decisions(t, s)
		})
	}
	s := room(24)
	with(s, "a", 4, []int{0}, asleep(20), idleFor(9*time.Minute))
	if p := decisions(t, s); !p.Next.Equal(s.Now.Add(8 * time.Minute)) {
		t.Errorf("next is in %v, want 8m: twice its timeout", p.Next.Sub(s.Now))
	}
}

// Two that time out share what memory the host has.
func TestIdleInstancesShareTheHostsMemory(t *testing.T) {
	s := room(24, 24)
	s.HostRoom = 15 * gib
	with(s, "a", 20, []int{0}, sleepy(2, 8), idleFor(time.Minute))
	with(s, "b", 20, []int{1}, sleepy(2, 8), idleFor(time.Minute))
	decisions(t, s, "sleep a", "stop b")
}

func TestWake(t *testing.T) {
	const turn = 5 * time.Minute
	// sleeper is a on card 0 of two, which would take 20 GiB, and a demand for it.
	sleeper := func(waited time.Duration) *scheduler.State {
		s := room(24, 24)
		s.HostRoom = 1000 * gib
		with(s, "a", 2, []int{0}, asleep(20))
		wakes(s, "a", wants(s, "m", 20, 1, waited))
		return s
	}
	for _, c := range []struct {
		name   string
		change func(s *scheduler.State)
		waited time.Duration
		want   []string
	}{
		{"where it lies", func(*scheduler.State) {}, 0, []string{"wake a"}},
		{"with others beside it", func(s *scheduler.State) { with(s, "b", 4, []int{0}) }, 0, []string{"wake a"}},
		{"having idle ones make room", func(s *scheduler.State) { with(s, "b", 5, []int{0}) }, 0, []string{"wake a evicting [b]"}},
		{"by sleeping, if they can", func(s *scheduler.State) { with(s, "b", 20, []int{0}, sleepy(2, 8)) }, 0, []string{"wake a evicting [b (sleeps)]"}},
		{"even where a new one had room", func(s *scheduler.State) { with(s, "b", 20, []int{0}) }, 0, []string{"wake a evicting [b]"}},
		{"not one who is busy: a new one where there is room", func(s *scheduler.State) { with(s, "b", 20, []int{0}, busy) }, 0, []string{"stop a"}},
		{"else it waits", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, busy)
			with(s, "c", 20, []int{1})
		}, 0, []string{"wait m"}},
		{"until its turn comes", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, busy)
			with(s, "c", 20, []int{1})
		}, turn, []string{"drain b for m", "wait m"}},
		{"for its gate, wherever else there is room", func(s *scheduler.State) { s.Cards[0].Gate = "start x" }, 0, []string{"wait m"}},
		{"never beside one who stays: a new one", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, alwaysOn)
			with(s, "c", 20, []int{1}, busy)
		}, 0, []string{"stop a"}},
		{"which has to wait for a's gate, to stop it", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, alwaysOn)
			with(s, "c", 20, []int{1}, busy)
			s.Cards[0].Gate = "start x"
		}, 0, []string{"wait m"}},
		{"never, and no new one either", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, alwaysOn)
			with(s, "c", 20, []int{1}, alwaysOn)
		}, 0, []string{"refuse m"}},
		{"with less than before, in the room of the old", func(s *scheduler.State) {
			with(s, "b", 20, []int{0}, alwaysOn)
			with(s, "c", 20, []int{1}, alwaysOn)
			s.Demands[0].Need = []int64{4 * gib, 4 * gib}
			s.Cards[1].Gate = "start x"
		}, 0, []string{"stop a"}},
		{"not one that is leaving", func(s *scheduler.State) { s.Instances[0].Leaving = true }, 0, []string{"stop a", "wait m"}},
		{"nor does a new one start while it is there", func(s *scheduler.State) {
			s.Instances[0].Leaving = true
			s.Cards[0].Gate = "start x"
		}, 0, []string{"wait m"}},
		{"one that is not there", func(s *scheduler.State) { s.Demands[0].Asleep = "b" }, 0, []string{"start m on [0]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sleeper(c.waited)
			c.change(s)
			decisions(t, s, c.want...)
		})
	}
}

// What a new instance is to have in place of the sleeping one is not given to others
// meanwhile.
func TestRoomOfAReplacementIsKept(t *testing.T) {
	s := room(24, 24)
	with(s, "a", 2, []int{0}, asleep(20))
	with(s, "b", 20, []int{0}, busy)
	wakes(s, "a", wants(s, "m", 20, 1, time.Minute))
	only(wants(s, "n", 20, 1, 0), 1)
	decisions(t, s, "stop a", "wait n")
}

// An instance on several cards is woken on all of them, alike or not.
func TestWakeOnSeveralCards(t *testing.T) {
	s := room(24, 24, 24)
	s.Cards[2].Class = 1
	with(s, "a", 2, []int{2, 0}, asleep(20))
	with(s, "b", 20, []int{0})
	wakes(s, "a", wants(s, "m", 20, 2, 0))
	p := decisions(t, s, "wake a evicting [b]")
	if d := p.Decisions[0]; d.Model != "m" || len(d.Cards) != 2 || d.Cards[0] != 2 || d.Cards[1] != 0 {
		t.Errorf("it wakes model %q on %v", d.Model, d.Cards)
	}
}

// One that is asleep while requests wait for it is in the way of whoever came
// before them, and goes when that one's turn has come.
func TestSleepingInstanceLosesItsTurn(t *testing.T) {
	const turn = 5 * time.Minute
	state := func(waited time.Duration) *scheduler.State {
		s := room(24, 24)
		with(s, "a", 4, []int{0}, asleep(20))
		with(s, "b", 20, []int{0}, busy)
		with(s, "c", 20, []int{1}, alwaysOn)
		wants(s, "first", 24, 1, waited)
		wakes(s, "a", wants(s, "m", 20, 1, 0))
		return s
	}
	decisions(t, state(turn-time.Second), "wait first", "wait m")
	decisions(t, state(turn), "stop a", "drain b for first", "wait first", "wait m")
	s := state(turn)
	s.Cards[0].Gate = "start x"
	decisions(t, s, "drain b for first", "wait first", "wait m")
}

// A plan's own sleepers and the woken count for those who come later.
func TestWakeCountsInItsPlan(t *testing.T) {
	s := room(24, 48)
	s.HostRoom = 1000 * gib
	with(s, "a", 2, []int{0}, asleep(20))
	wakes(s, "a", wants(s, "m", 20, 1, time.Minute))
	only(wants(s, "n", 20, 1, 0), 0)
	decisions(t, s, "wake a", "wait n")
	s.Instances[0].AlwaysOn = true
	decisions(t, s, "wake a", "refuse n")
}
