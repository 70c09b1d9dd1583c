package scheduler

import (
	"fmt"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// This file is about other programs that have grown into what is charged on a
// card. Their memory cannot be had, and a server that needs its own later fails
// for lack of it: idle instances yield.

// yield stops idle instances on cards that are squeezed until what is charged
// beside the other programs' memory is no more than the card has. That more is
// charged than the budget is no squeeze.
func (d *decider) yield() {
	if !slices.ContainsFunc(d.Cards, func(c Card) bool { return c.Squeezed }) {
		return
	}
	idle, numbers := d.victims(func(i *Instance) bool { return d.evictable(i) && d.gatesFree(i.Cards) })
	cards, possible, all := d.squeezed(idle)
	goes := make([]bool, len(idle))
	for k, v := range idle { // where even all are not enough, all go
		if slices.ContainsFunc(v.Cards, func(c int) bool { return all[c] }) {
			goes[k] = true
			for x, c := range v.Cards {
				cards[c].Charged -= v.Charges[x]
			}
		}
	}
	var left []placement.Victim
	for k, v := range idle {
		if !goes[k] {
			v.Instance = k
			left = append(left, v)
		}
	}
	r := placement.Request{Degree: len(possible), Cards: possible, Need: make([]int64, len(possible)), Mixed: true}
	if c, ok := d.place.Place(cards, left, r); ok {
		for _, v := range c.Victims {
			goes[left[v].Instance] = true
		}
	}
	for k, n := range numbers {
		if goes[k] {
			d.end(n, d.pressure(&d.Instances[n])) // one after the other, where a gate is between them
		}
	}
}

// squeezed returns the cards with nothing but the other programs' memory to bound
// them, as if those who are stopping were gone; of those that are overdrawn, the
// ones that the idle can relieve; and the others.
func (d *decider) squeezed(idle []placement.Victim) (cards []placement.Card, possible []int, all []bool) {
	cards, all = slices.Clone(d.cards), make([]bool, len(d.cards))
	relief := make([]int64, len(cards))
	for _, v := range idle {
		for k, c := range v.Cards {
			relief[c] += v.Charges[k]
		}
	}
	for n := range d.Instances {
		if i := &d.Instances[n]; !d.taken[n] && i.going() {
			for k, c := range i.Cards {
				cards[c].Charged -= i.Charges[k]
			}
		}
	}
	for c := range cards {
		cards[c].Budget = cards[c].Total
		switch room := cards[c].Room(); {
		case !d.Cards[c].Squeezed || room >= 0:
		case room+relief[c] >= 0:
			possible = append(possible, c)
		default:
			all[c] = true
		}
	}
	return cards, possible, all
}

// pressure says how much other programs use on the squeezed card of an instance.
func (d *decider) pressure(i *Instance) string {
	c := i.Cards[slices.IndexFunc(i.Cards, func(c int) bool { return d.Cards[c].Squeezed })]
	return fmt.Sprintf("other programs use %v of %s, which leaves %v for %v charged",
		ledger.Size(d.cards[c].Foreign), d.cards[c].UUID, ledger.Size(d.cards[c].Total-d.cards[c].Foreign), ledger.Size(d.cards[c].Charged))
}
