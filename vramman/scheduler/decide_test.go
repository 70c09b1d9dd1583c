package scheduler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// decisions asserts what a state leads to, and returns the plan.
func decisions(t *testing.T, s *scheduler.State, want ...string) scheduler.Plan {
	t.Helper()
	p := scheduler.Decide(s)
	if got := allWords(p); !slices.Equal(got, want) {
		t.Fatalf("decisions %q, want %q\n%s", got, want, describe(s))
	}
	return p
}

func TestNothingToDo(t *testing.T) {
	if p := decisions(t, room(24)); !p.Next.IsZero() {
		t.Errorf("next is %v", p.Next)
	}
	decisions(t, &scheduler.State{Now: start, Policy: scheduler.LRU{}})
}

func TestStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  []string
	}{
		{"on the first card with room", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0})
			wants(s, "m", 10, 1, 0)
			return s
		}, []string{"start m on [1]"}},
		{"on several cards at once", func() *scheduler.State {
			s := room(24, 24, 24)
			with(s, "a", 20, []int{1})
			wants(s, "m", 10, 2, 0)
			return s
		}, []string{"start m on [0 2]"}},
		{"two in one plan, each with its own room", func() *scheduler.State {
			s := room(24, 24)
			wants(s, "m", 20, 1, 0)
			wants(s, "n", 20, 1, 0)
			return s
		}, []string{"start m on [0]", "start n on [1]"}},
		{"not two on one card at a time", func() *scheduler.State {
			s := room(24)
			wants(s, "m", 5, 1, 0)
			wants(s, "n", 5, 1, 0)
			return s
		}, []string{"start m on [0]", "wait n"}},
		{"the gate of one card is held, another has room", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[0].Gate = "start x"
			wants(s, "m", 5, 1, 0)
			return s
		}, []string{"start m on [1]"}},
		{"rather wait for a gate than evict", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[0].Gate = "start x"
			with(s, "a", 24, []int{1})
			wants(s, "m", 5, 1, 0)
			return s
		}, []string{"wait m"}},
		{"other programs' VRAM is no room", func() *scheduler.State {
			s := room(24, 24)
			s.Cards[0].Foreign = 20 * gib
			wants(s, "m", 5, 1, 0)
			return s
		}, []string{"start m on [1]"}},
		{"a need of the whole budget", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Budget = 20 * gib
			wants(s, "m", 0, 1, 0)
			within(s, []int{0}, placement.Need{})
			return s
		}, []string{"start m on [0]"}},
	} {
		t.Run(c.name, func(t *testing.T) { decisions(t, c.state(), c.want...) })
	}
}

func TestEvict(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  []string
	}{
		{"the least recently used", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, used(5*time.Minute))
			with(s, "b", 20, []int{1}, used(9*time.Minute))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [1] evicting [b]"}},
		{"another policy, another victim", func() *scheduler.State {
			s := room(24, 24)
			s.Policy = largestFirst{}
			with(s, "a", 21, []int{0}, used(5*time.Minute))
			with(s, "b", 20, []int{1}, used(9*time.Minute))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]"}},
		{"no more than needed", func() *scheduler.State {
			s := room(24)
			with(s, "a", 8, []int{0}, used(9*time.Minute))
			with(s, "b", 8, []int{0}, used(8*time.Minute))
			with(s, "c", 8, []int{0}, used(7*time.Minute))
			wants(s, "m", 16, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a b]"}},
		{"all gates of a victim on several cards", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{1, 0})
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a] gates [0 1]"}},
		{"not whom a held gate pins", func() *scheduler.State {
			s := room(24, 24, 24)
			s.Cards[1].Gate = "start x"
			with(s, "a", 20, []int{0, 1}, used(9*time.Minute))
			with(s, "b", 20, []int{2}, used(5*time.Minute))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [2] evicting [b]"}},
		{"the young only when nobody else frees enough", func() *scheduler.State {
			s := room(24, 24)
			with(s, "a", 20, []int{0}, young, used(9*time.Minute))
			with(s, "b", 20, []int{1}, used(time.Minute))
			wants(s, "m", 20, 1, 0)
			wants(s, "n", 20, 1, 0)
			return s
		}, []string{"start m on [1] evicting [b]", "start n on [0] evicting [a]"}},
		{"nobody who is always on, busy, or has requests waiting", func() *scheduler.State {
			s := room(24, 24, 24, 24)
			with(s, "a", 20, []int{0}, alwaysOn)
			with(s, "b", 20, []int{1}, busy)
			with(s, "c", 20, []int{2}, ticketed)
			with(s, "d", 20, []int{3}, used(time.Second))
			wants(s, "m", 20, 1, 0)
			return s
		}, []string{"start m on [3] evicting [d]"}},
		{"nobody twice", func() *scheduler.State {
			s := room(24)
			with(s, "a", 20, []int{0})
			wants(s, "m", 20, 1, 0)
			wants(s, "n", 4, 1, 0)
			return s
		}, []string{"start m on [0] evicting [a]", "wait n"}},
	} {
		t.Run(c.name, func(t *testing.T) { decisions(t, c.state(), c.want...) })
	}
}

func TestStop(t *testing.T) {
	for _, c := range []struct {
		name   string
		change []func(*scheduler.Instance)
		stops  bool
	}{
		{"idle for its timeout", []func(*scheduler.Instance){idleFor(10 * time.Minute)}, true},
		{"idle for less", []func(*scheduler.Instance){idleFor(11 * time.Minute)}, false},
		{"no idle timeout", []func(*scheduler.Instance){used(1000 * time.Hour)}, false},
		{"idle but always on", []func(*scheduler.Instance){idleFor(time.Minute), alwaysOn}, false},
		{"timed out but busy", []func(*scheduler.Instance){idleFor(time.Minute), busy}, false},
		{"timed out but requests wait", []func(*scheduler.Instance){idleFor(time.Minute), ticketed}, false},
		{"leaving and idle", []func(*scheduler.Instance){leaving}, true},
		{"leaving, idle, always on until now", []func(*scheduler.Instance){leaving, alwaysOn}, true},
		{"leaving but busy", []func(*scheduler.Instance){leaving, busy}, false},
		{"drained", []func(*scheduler.Instance){phase(scheduler.Draining)}, true},
		{"drained, its model's requests wait for its return", []func(*scheduler.Instance){phase(scheduler.Draining), ticketed}, true},
		{"draining still", []func(*scheduler.Instance){phase(scheduler.Draining), busy}, false},
		{"draining past its deadline", []func(*scheduler.Instance){phase(scheduler.Draining), busy, expired}, true},
		{"starting", []func(*scheduler.Instance){phase(scheduler.Starting), idleFor(time.Minute)}, false},
		{"stopping already", []func(*scheduler.Instance){phase(scheduler.Stopping), idleFor(time.Minute)}, false},
		{"unreleased", []func(*scheduler.Instance){phase(scheduler.Unreleased), idleFor(time.Minute)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := room(24, 24)
			with(s, "a", 20, []int{0, 1}, c.change...)
			if !c.stops {
				decisions(t, s)
				return
			}
			p := decisions(t, s, "stop a")
			if d := p.Decisions[0]; !slices.Equal(d.Gates, []int{0, 1}) || d.Model != "model of a" {
				t.Errorf("it takes gates %v and names model %q", d.Gates, d.Model)
			}
			s.Cards[1].Gate = "start x" // one gate is not enough
			decisions(t, s)
		})
	}
}

// The room of what stops is there for the next, once the gate is free.
func TestStopBeforeADemand(t *testing.T) {
	s := room(24, 24)
	with(s, "a", 20, []int{0}, idleFor(time.Minute))
	with(s, "b", 20, []int{1}, used(time.Hour))
	wants(s, "m", 20, 1, 0)
	decisions(t, s, "stop a", "wait m")
}

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name  string
		state func() *scheduler.State
		want  string
	}{
		{"larger than any card", func() *scheduler.State {
			s := room(24, 16)
			wants(s, "m", 25, 1, 0)
			return s
		}, "refuse m"},
		{"larger than any budget", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Budget = 20 * gib
			wants(s, "m", 21, 1, 0)
			return s
		}, "refuse m"},
		{"fewer cards than it wants", func() *scheduler.State {
			s := room(24)
			wants(s, "m", 1, 2, 0)
			return s
		}, "refuse m"},
		{"no card is there", func() *scheduler.State {
			s := room()
			wants(s, "m", 1, 1, 0)
			return s
		}, "refuse m"},
		{"always-on models leave no room", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, alwaysOn)
			wants(s, "m", 20, 1, 0)
			return s
		}, "refuse m"},
		{"other programs leave no room", func() *scheduler.State {
			s := room(24)
			s.Cards[0].Foreign = 10 * gib
			wants(s, "m", 20, 1, 0)
			return s
		}, "refuse m"},
		{"memory that was not seen free", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Unreleased))
			wants(s, "m", 20, 1, 0)
			return s
		}, "refuse m"},
		{"what stops will be gone", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Stopping), alwaysOn)
			wants(s, "m", 20, 1, 0)
			return s
		}, "wait m"},
		{"what drains will be gone", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Draining), alwaysOn, busy)
			wants(s, "m", 20, 1, 0)
			return s
		}, "wait m"},
		{"what starts may be evicted later", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Starting))
			wants(s, "m", 20, 1, 0)
			return s
		}, "wait m"},
		{"what starts to stay is not", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Starting), alwaysOn)
			wants(s, "m", 20, 1, 0)
			return s
		}, "refuse m"},
		{"what starts and is no longer wanted will be gone", func() *scheduler.State {
			s := room(24)
			with(s, "a", 10, []int{0}, phase(scheduler.Starting), alwaysOn, leaving)
			wants(s, "m", 20, 1, 0)
			return s
		}, "wait m"},
		{"a pool's own cards only", func() *scheduler.State {
			s := room(24, 8)
			only(wants(s, "m", 20, 1, 0), 1)
			return s
		}, "refuse m"},
	} {
		t.Run(c.name, func(t *testing.T) { decisions(t, c.state(), c.want) })
	}
}

// An always-on model that starts in this plan leaves no room to wait for.
func TestRefuseBesideAnAlwaysOnStart(t *testing.T) {
	s := room(24)
	wants(s, "fixed", 20, 1, 0).AlwaysOn = true
	wants(s, "m", 20, 1, 0)
	decisions(t, s, "start fixed on [0]", "refuse m")
}

func TestNext(t *testing.T) {
	s := room(24, 24)
	with(s, "a", 20, []int{0}, idleFor(25*time.Minute))
	with(s, "b", 20, []int{1}, idleFor(12*time.Minute))
	if p := decisions(t, s); !p.Next.Equal(s.Now.Add(2 * time.Minute)) {
		t.Errorf("next is in %v, want 2m: the first idle timeout", p.Next.Sub(s.Now))
	}
	with(s, "c", 4, []int{0}, busy)
	wants(s, "m", 24, 2, 4*time.Minute)
	s.Instances[0].Leases, s.Instances[1].Leases = 1, 1
	if p := decisions(t, s, "wait m"); !p.Next.Equal(s.Now.Add(time.Minute)) {
		t.Errorf("next is in %v, want 1m: the turn", p.Next.Sub(s.Now))
	}
}

func TestKindString(t *testing.T) {
	for k, want := range map[scheduler.Kind]string{
		scheduler.Start: "start", scheduler.Stop: "stop", scheduler.Drain: "drain", scheduler.Wait: "wait", scheduler.Refuse: "refuse",
		scheduler.Sleep: "sleep", scheduler.Wake: "wake",
	} {
		if k.String() != want {
			t.Errorf("%d is %q, want %q", int(k), k, want)
		}
	}
}
