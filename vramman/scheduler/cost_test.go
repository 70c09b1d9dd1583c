package scheduler_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func TestCost(t *testing.T) {
	cost := scheduler.Cost{}
	if cost.Name() != "cost" {
		t.Errorf("its name is %q", cost.Name())
	}
	// The instance that the others differ from: "m", which is worth 60 s at 1 % for 10 GiB.
	base := func(change func(*scheduler.Instance)) *scheduler.Instance {
		i := &scheduler.Instance{ID: "m", Charges: []int64{10 * gib}, LoadTime: time.Minute, Likelihood: 0.01, LastUsed: start}
		change(i)
		return i
	}
	as := func(*scheduler.Instance) {}
	for _, c := range []struct {
		name   string
		change func(*scheduler.Instance)
		first  bool // it goes before the base
	}{
		{"less likely", func(i *scheduler.Instance) { i.Likelihood = 0.009 }, true},
		{"less likely, though used later", func(i *scheduler.Instance) { i.Likelihood, i.LastUsed = 0.009, start.Add(time.Hour) }, true},
		{"loads faster", func(i *scheduler.Instance) { i.LoadTime = 59 * time.Second }, true},
		{"frees more", func(i *scheduler.Instance) { i.Charges = []int64{11 * gib} }, true},
		{"frees more on two cards together", func(i *scheduler.Instance) { i.Charges = []int64{6 * gib, 6 * gib} }, true},
		{"frees half, loads three times as fast", func(i *scheduler.Instance) { i.Charges, i.LoadTime = []int64{5 * gib}, 20*time.Second }, true},
		{"frees half, loads somewhat faster", func(i *scheduler.Instance) { i.Charges, i.LoadTime = []int64{5 * gib}, 40*time.Second }, false},
		{"never used", func(i *scheduler.Instance) { i.Likelihood = 0 }, true},
		{"of a likelihood that is none", func(i *scheduler.Instance) { i.Likelihood = math.NaN() }, true},
		{"of the same price, used earlier", func(i *scheduler.Instance) { i.ID, i.LastUsed = "z", ago(1) }, true},
		{"of the same price, by name", func(i *scheduler.Instance) { i.ID = "a" }, true},
		{"never loaded: a minute", func(i *scheduler.Instance) { i.ID, i.LoadTime = "a", 0 }, true},
	} {
		a, b := base(c.change), base(as)
		if got := cost.Less(a, b); got != c.first {
			t.Errorf("%s: goes first: %v, want %v", c.name, got, c.first)
		}
		if got := cost.Less(b, a); got == c.first {
			t.Errorf("%s, the other way: goes first: %v, want %v", c.name, got, !c.first)
		}
	}
	if a := base(as); cost.Less(a, a) {
		t.Error("it goes before itself")
	}
}

// Whatever the figures are, the order is one that can be sorted by.
func TestPoliciesAreStrictWeakOrders(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	pick := func(of ...float64) float64 { return of[rng.IntN(len(of))] }
	draw := func() *scheduler.Instance {
		return &scheduler.Instance{
			ID: string(rune('a' + rng.IntN(3))), Charges: [][]int64{nil, {0}, {gib}, {gib, 2 * gib}, {3 * gib}}[rng.IntN(5)],
			LoadTime:   time.Duration(pick(-1, 0, 30, 60, 90)) * time.Second,
			Likelihood: pick(math.NaN(), -1, 0, 0.1, 0.2, 0.3, 1, math.Inf(1)), LastUsed: ago(time.Duration(rng.IntN(2))),
		}
	}
	for _, policy := range []scheduler.Policy{scheduler.LRU{}, scheduler.Cost{}} {
		same := func(a, b *scheduler.Instance) bool { return !policy.Less(a, b) && !policy.Less(b, a) }
		for range 50000 {
			a, b, c := draw(), draw(), draw()
			switch {
			case policy.Less(a, a):
				t.Fatalf("%s: %+v goes before itself", policy.Name(), a)
			case policy.Less(a, b) && policy.Less(b, a):
				t.Fatalf("%s: each goes before the other:\n%+v\n%+v", policy.Name(), a, b)
			case policy.Less(a, b) && policy.Less(b, c) && !policy.Less(a, c):
				t.Fatalf("%s: the first before the second before the third, and not before the third:\n%+v\n%+v\n%+v", policy.Name(), a, b, c)
			case same(a, b) && a.ID != b.ID:
				t.Fatalf("%s: neither goes first:\n%+v\n%+v", policy.Name(), a, b)
			case same(a, b) && same(b, c) && !same(a, c):
				t.Fatalf("%s: not the same:\n%+v\n%+v\n%+v", policy.Name(), a, b, c)
			}
		}
	}
}

// A start says by which figures its victims were chosen.
func TestReasonOfCost(t *testing.T) {
	s := room(24)
	s.Policy = scheduler.Cost{}
	with(s, "a", 12, []int{0}, used(time.Second), func(i *scheduler.Instance) { i.LoadTime, i.Likelihood = 45*time.Second, 0.021 })
	with(s, "b", 12, []int{0}, used(time.Hour), func(i *scheduler.Instance) { i.LoadTime, i.Likelihood = 45*time.Second, 0.05 })
	wants(s, "m", 12, 1, 0)
	const want = "evicting by cost: a (loads in 45s, 2.1 % likely to be used next, last used 1s ago, frees 12.0 GiB per card)"
	if got := scheduler.Decide(s).Decisions[0]; !strings.HasSuffix(got.Reason, want) {
		t.Errorf("got %q, want it to end with %q", got.Reason, want)
	}
}
