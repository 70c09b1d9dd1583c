// Package placement decides which cards an instance goes on, whom that costs
// their place, and why other cards do not serve. It is pure: the same
// arguments give the same answer.
package placement

import (
	"math"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// Need is the footprint of an instance on each of its cards: a number of
// bytes, or else a share of the card. The zero Need takes a pool's whole budget.
type Need struct {
	Bytes int64   // declared VRAM per card, everything included; 0: not declared
	Share float64 // share of the card's size, in (0, 1]; 0: the pool's whole budget
}

// On is the footprint in bytes on a card.
func (n Need) On(c ledger.Card) int64 {
	switch {
	case n.Bytes > 0:
		return n.Bytes
	case n.Share > 0:
		return int64(math.Floor(n.Share * float64(c.Total)))
	default:
		return c.Budget
	}
}

// Card is a card's account with what is charged on it, in a state that may be
// hypothetical: a plan in the making charges and frees.
type Card struct {
	ledger.Card
	Charged int64
}

// Room is how much more can be charged on the card.
func (c *Card) Room() int64 { return c.Card.Room(c.Charged) }

// Victim is an instance that would give its place up.
type Victim struct {
	Instance int     // the caller's number for it
	Cards    []int   // the cards it is charged on, as indices
	Charges  []int64 // bytes on each of them
}

// Request is what is to be placed.
type Request struct {
	Need   Need
	Degree int   // on how many cards at once, at least 1
	Cards  []int // the cards that may be used, as indices, each once, in order of preference
}

// Choice is where the request goes and whom it costs.
type Choice struct {
	Cards   []int // Degree indices
	Victims []int // indices into the victims offered, in their order
}

// Place finds room for a request.
//
// It takes the first cards that have room as they are. Where there are not
// enough, it takes victims in the order given until enough cards fit, then gives
// back, from the last to the first, each victim without whom enough still do,
// and chooses the cards last. So no victim is taken for nothing, not even for a
// card that is preferred, and none where one that stands before it would have
// done in its stead.
func Place(cards []Card, victims []Victim, r Request) (Choice, bool) {
	p := newPlan(cards, r)
	if p.fitting >= r.Degree {
		return Choice{Cards: p.choose()}, true
	}
	for i, v := range victims {
		p.free(v, 1)
		if p.fitting < r.Degree {
			continue
		}
		var kept []int
		for j := i; j >= 0; j-- {
			p.free(victims[j], -1)
			if p.fitting < r.Degree {
				p.free(victims[j], 1)
				kept = append(kept, j)
			}
		}
		slices.Reverse(kept)
		return Choice{Cards: p.choose(), Victims: kept}, true
	}
	return Choice{}, false
}

// plan is a placement in the making.
type plan struct {
	cards   []Card
	r       Request
	missing []int64 // per card: how much more room it must have; it fits at 0 and below
	usable  []bool  // per card: it is one of the request's
	fitting int     // how many of the request's cards fit
}

func newPlan(cards []Card, r Request) plan {
	p := plan{cards: cards, r: r, missing: make([]int64, len(cards)), usable: make([]bool, len(cards))}
	for _, c := range r.Cards {
		p.usable[c] = true
		p.missing[c] = p.lacks(c)
		if p.missing[c] <= 0 {
			p.fitting++
		}
	}
	return p
}

// lacks is how much room a card lacks while no victim is taken.
func (p *plan) lacks(card int) int64 {
	c := &p.cards[card]
	return p.r.Need.On(c.Card) - c.Room()
}

// free takes a victim, or gives it back with a sign of -1.
func (p *plan) free(v Victim, sign int64) {
	for i, c := range v.Cards {
		if !p.usable[c] {
			continue
		}
		if p.missing[c] <= 0 {
			p.fitting--
		}
		p.missing[c] -= sign * v.Charges[i]
		if p.missing[c] <= 0 {
			p.fitting++
		}
	}
}

// choose takes the fitting cards that need no victim first, then the others,
// each in the order of preference.
func (p *plan) choose() []int {
	chosen := make([]int, 0, p.r.Degree)
	for _, untouched := range []bool{true, false} {
		for _, c := range p.r.Cards {
			if len(chosen) < p.r.Degree && p.missing[c] <= 0 && (p.lacks(c) <= 0) == untouched {
				chosen = append(chosen, c)
			}
		}
	}
	return chosen
}
