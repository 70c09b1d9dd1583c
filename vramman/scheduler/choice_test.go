package scheduler_test

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file holds a start or a wake against what the referee knows: who makes room
// for it, and how.

// begin checks a start or a wake: its cards, its gates, its victims and their order.
func (r *referee) begin(o *wish, d scheduler.Decision) {
	r.t.Helper()
	r.candidates(o, d, d.Cards)
	gates := slices.Clone(d.Cards)
	var victims []*piece
	mode := map[*piece]bool{} // sleeps
	for _, v := range d.Victims {
		i := r.instance(v.Instance)
		if _, twice := mode[i]; twice || !r.victim(i) || i == o.wakes {
			r.t.Fatalf("%s: %s may not be evicted", words(d), i.ID)
		}
		mode[i] = v.Sleep
		victims = append(victims, i)
		gates = append(gates, i.Cards...)
	}
	if r.spokenForBut(gates) {
		r.t.Fatalf("%s takes cards that are kept for others", words(d))
	}
	var charges []int64
	for _, c := range d.Cards {
		n := slices.IndexFunc(o.needs, func(n need) bool { return n.card == c })
		if n < 0 || !r.usable(o)(c) {
			r.t.Fatalf("%s: card %d is not one that it may use", words(d), c)
		}
		charges = append(charges, o.needs[n].bytes)
	}
	if len(sorted(d.Cards)) != o.degree {
		r.t.Fatalf("%s: not %d cards", words(d), o.degree)
	}
	chosen := func(c int) bool { return slices.Contains(d.Cards, c) }
	if !r.fits(o, chosen, freedBy(mode)) {
		r.t.Fatalf("%s: there is no room, or the cards differ", words(d))
	}
	if o.wakes != nil && (d.Instance != o.wakes.ID || !slices.Equal(d.Cards, o.wakes.Cards)) {
		r.t.Fatalf("%s on %v", words(d), d.Cards)
	}
	r.wanted = slices.Clone(r.wanted)
	r.choice(o, d, victims, mode)
	r.takeGates(d, gates)
	for _, i := range victims {
		if mode[i] {
			r.sleep(i)
		} else {
			r.remove(i)
		}
	}
	i := scheduler.Instance{ID: o.Model, Phase: scheduler.Starting, Cards: d.Cards, Charges: charges, AlwaysOn: o.AlwaysOn}
	if o.wakes != nil {
		i.ID, i.Charges, i.AlwaysOn = o.wakes.ID, o.wakes.Awake, o.wakes.AlwaysOn
		r.remove(o.wakes)
	}
	r.put(i)
	for _, c := range d.Cards {
		if r.room(c, nothing) < 0 {
			r.t.Fatalf("%s overdraws card %d", words(d), c)
		}
	}
}

func (r *referee) spokenForBut(cards []int) bool {
	return slices.ContainsFunc(cards, func(c int) bool { return r.kept[c] })
}

// freedBy is what victims free, each in its way.
func freedBy(mode map[*piece]bool) func(*piece) []int64 {
	return func(i *piece) []int64 {
		sleeps, ok := mode[i]
		switch {
		case !ok:
			return nil
		case !sleeps:
			return i.Charges
		}
		var freed []int64
		for k := range i.Charges {
			freed = append(freed, i.Charges[k]-i.Resting[k])
		}
		return freed
	}
}

// choice checks that the right ones make room, and that nobody is stopped who could
// sleep.
func (r *referee) choice(o *wish, d scheduler.Decision, victims []*piece, mode map[*piece]bool) {
	r.t.Helper()
	free := func(c int) bool { return r.usable(o)(c) && !r.gates[c] }
	if len(victims) == 0 {
		return
	}
	if r.fits(o, free, nothing) {
		r.t.Fatalf("%s although there is room", words(d))
	}
	host := r.host
	for n, v := range victims {
		if n > 0 && !r.before(victims[n-1], v) {
			r.t.Fatalf("%s: the victims are not in their order", words(d))
		}
		if mode[v] {
			host -= v.HostBytes
		}
		rest := map[*piece]bool{}
		for i, sleeps := range mode {
			if i != v {
				rest[i] = sleeps
			}
		}
		if r.fits(o, free, freedBy(rest)) {
			r.t.Fatalf("%s: %s goes for nothing", words(d), v.ID)
		}
		if r.isYoung(v) && r.fits(o, free, all(func(i *piece) bool { return r.victim(i) && i != o.wakes && !r.isYoung(i) })) {
			r.t.Fatalf("%s: %s is young, and others would do", words(d), v.ID)
		}
	}
	for _, v := range victims {
		if mode[v] || v.Resting == nil || v.HostBytes > host {
			continue
		}
		mode[v] = true
		if r.fits(o, func(c int) bool { return slices.Contains(d.Cards, c) }, freedBy(mode)) {
			r.t.Fatalf("%s: %s is stopped and could sleep", words(d), v.ID)
		}
		mode[v] = false
	}
	if want := r.best(o, free); want != nil && !slices.Equal(want, victims) {
		r.t.Fatalf("%s: want %s", words(d), want[len(want)-1].ID)
	}
}

// best is who should make room where the host has memory for all to sleep: of the
// sets that do, the one whose last member stands furthest to the front; where that
// is the same, the next to last decides. It tries them all: first the old, who sleep
// if they can, then the old, stopped, then all in the same two ways. nil: the host
// has not.
func (r *referee) best(o *wish, free func(card int) bool) []*piece {
	var idle []*piece
	var host int64
	for _, i := range r.instances {
		if r.victim(i) && i != o.wakes && slices.ContainsFunc(i.Cards, func(c int) bool {
			return free(c) && slices.ContainsFunc(o.needs, func(n need) bool { return n.card == c })
		}) {
			idle = append(idle, i)
			host += i.HostBytes
		}
	}
	if host > r.host {
		return nil
	}
	slices.SortFunc(idle, func(a, b *piece) int {
		if r.before(a, b) {
			return -1
		}
		return 1
	})
	old := 0
	for old < len(idle) && !r.isYoung(idle[old]) {
		old++
	}
	for _, n := range []int{old, len(idle)} {
		for _, sleep := range []bool{true, false} {
			for set := range 1 << n {
				mode := map[*piece]bool{}
				var goes []*piece
				for k, i := range idle[:n] {
					if set&(1<<k) != 0 {
						mode[i] = sleep && i.Phase == scheduler.Ready && i.Resting != nil
						goes = append(goes, i)
					}
				}
				if r.fits(o, free, freedBy(mode)) {
					return goes
				}
			}
		}
	}
	return nil
}
