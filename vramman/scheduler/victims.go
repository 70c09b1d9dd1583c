package scheduler

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// This file is about who makes room: who may, who does, and who of those sleeps
// instead of being stopped.

// victim is an instance that makes room.
type victim struct {
	n     int  // which of the instances
	sleep bool // it is put to sleep; else it is stopped
}

// evictable says whether an instance may make room for others.
func (d *decider) evictable(i *Instance) bool {
	return (i.Phase == Ready || i.Phase == Asleep) && !i.AlwaysOn && !i.busy()
}

// going says whether an instance is about to free its memory.
func (i *Instance) going() bool {
	return i.Phase == Stopping || i.Phase == Draining && i.Leases == 0
}

// evict finds room by having idle instances make it. First those who can sleep do
// no more than that. If this frees too little, all are stopped that must go, and
// then as many of these sleep after all as may. The young are not looked at as long
// as others free enough, in whichever way.
func (d *decider) evict(a *aim, r placement.Request) (placement.Choice, []victim, bool) {
	idle, young := d.idleOn(a, r.Cards)
	for _, of := range [][]int{idle[:young], idle} {
		if len(of) == 0 {
			continue
		}
		if d.offerIdle(of, d.host) {
			if c, ok := d.place.Place(d.cards, d.offered, r); ok {
				return c, d.spare(a, c), true
			}
			d.offerIdle(of, -1)
		}
		if c, ok := d.place.Place(d.cards, d.offered, r); ok {
			return c, d.spare(a, c), true
		}
		if young == len(idle) {
			break
		}
	}
	return placement.Choice{}, nil, false
}

// idleOn returns the instances on some cards that may make room for an aim, those
// first that should go first, and where the young among them begin. They are good
// until it is called again.
func (d *decider) idleOn(a *aim, cards []int) (idle []int, young int) {
	among := make([]bool, len(d.cards))
	for _, c := range cards {
		among[c] = true
	}
	idle = d.idlers[:0]
	for _, n := range d.order {
		i := &d.Instances[n]
		if d.taken[n] || n == a.wakes || !d.evictable(i) || !d.gatesFree(i.Cards) ||
			!slices.ContainsFunc(i.Cards, func(c int) bool { return among[c] }) {
			continue
		}
		idle = append(idle, n)
		if !d.young[n] {
			young = len(idle)
		}
	}
	d.idlers = idle
	return idle, young
}

// offerIdle offers what idle instances free. Those who can sleep offer what that
// does, the first ones first, as far as the host's memory goes. It returns whether
// any sleeps.
func (d *decider) offerIdle(idle []int, host int64) (some bool) {
	d.offered, d.numbers, d.sleeps, d.freed = d.offered[:0], d.numbers[:0], d.sleeps[:0], d.freed[:0]
	for _, n := range idle {
		i := &d.Instances[n]
		v := placement.Victim{Instance: n, Cards: i.Cards, Charges: i.Charges}
		sleeps := i.maySleep() && i.HostBytes <= host
		if sleeps {
			some = true
			host -= i.HostBytes
			from := len(d.freed)
			for k := range i.Charges {
				d.freed = append(d.freed, i.Charges[k]-i.Resting[k])
			}
			v.Charges = d.freed[from:len(d.freed):len(d.freed)]
		}
		d.offered, d.numbers, d.sleeps = append(d.offered, v), append(d.numbers, n), append(d.sleeps, sleeps)
	}
	return some
}

// spare turns a choice among the idle into victims, and has as many of them sleep
// as the host's memory and the room allow, the last in the policy's order first.
func (d *decider) spare(a *aim, c placement.Choice) []victim {
	victims, host := make([]victim, len(c.Victims)), d.host
	for k, w := range c.Victims {
		victims[k] = victim{n: d.numbers[w], sleep: d.sleeps[w]}
		if victims[k].sleep {
			host -= d.Instances[d.numbers[w]].HostBytes
		}
	}
	for k := range slices.Backward(victims) {
		i, v := &d.Instances[victims[k].n], &victims[k]
		if v.sleep || !i.maySleep() || i.HostBytes > host {
			continue
		}
		if v.sleep = true; d.fits(a, c.Cards, victims) {
			host -= i.HostBytes
		} else {
			v.sleep = false
		}
	}
	return victims
}

// fits says whether some cards have room for an aim once the victims have made it.
func (d *decider) fits(a *aim, cards []int, victims []victim) bool {
	for _, c := range cards {
		room := d.cards[c].Room()
		for _, v := range victims {
			room += d.frees(v, c)
		}
		if room < a.need[slices.Index(a.cards, c)] {
			return false
		}
	}
	return true
}

// frees is how much a victim frees on a card.
func (d *decider) frees(v victim, card int) int64 {
	i := &d.Instances[v.n]
	k := slices.Index(i.Cards, card)
	switch {
	case k < 0:
		return 0
	case v.sleep:
		return i.Charges[k] - i.Resting[k]
	}
	return i.Charges[k]
}

// coming offers the instances whose memory is about to be free.
func (d *decider) coming(a *aim) ([]placement.Victim, []int) {
	d.offered, d.numbers = d.offered[:0], d.numbers[:0]
	for _, n := range d.order {
		if !d.taken[n] && (d.Instances[n].going() || n == a.spent) {
			d.offer(n)
		}
	}
	return d.offered, d.numbers
}

// victims returns the instances that match, those first that should go first,
// and their numbers. Both slices are good until anybody is offered again.
func (d *decider) victims(match func(*Instance) bool) ([]placement.Victim, []int) {
	d.offered, d.numbers = d.offered[:0], d.numbers[:0]
	for _, n := range d.order {
		if !d.taken[n] && match(&d.Instances[n]) {
			d.offer(n)
		}
	}
	return d.offered, d.numbers
}

func (d *decider) offer(n int) {
	i := &d.Instances[n]
	d.offered = append(d.offered, placement.Victim{Instance: n, Cards: i.Cards, Charges: i.Charges})
	d.numbers = append(d.numbers, n)
}
