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
	Class   int // cards of one class are alike
}

// Room is how much more can be charged on the card.
func (c *Card) Room() int64 { return c.Card.Room(c.Charged) }

// Victim is an instance that would give its place up.
type Victim struct {
	Instance int     // the caller's number for it
	Cards    []int   // the cards it is charged on, as indices
	Charges  []int64 // bytes that it would free on each of them
}

// Request is what is to be placed.
type Request struct {
	Degree int     // on how many cards at once, at least 1
	Cards  []int   // the cards that may be used, as indices, each once, in order of preference
	Need   []int64 // bytes on each of them
	// Mixed allows a set of cards of several classes. Otherwise all cards of an
	// answer are alike: a server that is split evenly over its cards is as slow as
	// the slowest of them, and as large as the smallest.
	Mixed bool
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
//
// Enough cards are Degree of one class. Where several classes have enough, the
// one that has the first of the request's cards wins.
func Place(cards []Card, victims []Victim, r Request) (Choice, bool) {
	return new(Planner).Place(cards, victims, r)
}

// Planner is [Place] for whoever asks often: it keeps its memory from one question
// to the next, and nothing else. It is not safe for use by several goroutines.
type Planner struct{ p plan }

// Place is as the function of that name.
func (l *Planner) Place(cards []Card, victims []Victim, r Request) (Choice, bool) {
	p := &l.p
	p.begin(cards, r)
	if p.enough > 0 {
		return Choice{Cards: p.choose()}, true
	}
	for i, v := range victims {
		p.free(v, 1)
		if p.enough == 0 {
			continue
		}
		var kept []int
		for j := i; j >= 0; j-- {
			p.free(victims[j], -1)
			if p.enough == 0 {
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
	spots   []spot // one per card
	fitting []int  // per class of the request's cards: how many fit
	enough  int    // how many classes have Degree cards that fit
}

// spot is what a placement knows of one card.
type spot struct {
	missing int64 // how much more room it must have; it fits at 0 and below
	class   int32 // of the request's cards, an index into fitting
	usable  bool  // it is one of the request's
}

func (p *plan) begin(cards []Card, r Request) {
	p.cards, p.r, p.enough, p.fitting = cards, r, 0, p.fitting[:0]
	p.spots = slices.Grow(p.spots[:0], len(cards))[:len(cards)]
	clear(p.spots)
	for k, c := range r.Cards {
		s := &p.spots[c]
		s.usable, s.missing, s.class = true, p.lacks(k), p.class(k)
		if int(s.class) == len(p.fitting) {
			p.fitting = append(p.fitting, 0)
		}
		p.count(s, 1)
	}
}

// class numbers the classes of the request's cards in the order of preference.
func (p *plan) class(k int) int32 {
	if p.r.Degree == 1 || p.r.Mixed {
		return 0
	}
	class := p.cards[p.r.Cards[k]].Class
	for _, c := range p.r.Cards[:k] {
		if p.cards[c].Class == class {
			return p.spots[c].class
		}
	}
	return int32(len(p.fitting))
}

// lacks is how much room the request's k-th card lacks while no victim is taken.
func (p *plan) lacks(k int) int64 { return p.r.Need[k] - p.cards[p.r.Cards[k]].Room() }

// count adds a card to those that fit, or takes it away with a sign of -1. A card
// that does not fit counts for nothing.
func (p *plan) count(s *spot, sign int) {
	if s.missing > 0 {
		return
	}
	n := &p.fitting[s.class]
	was := *n >= p.r.Degree
	*n += sign
	if is := *n >= p.r.Degree; is != was {
		p.enough += sign
	}
}

// free takes a victim, or gives it back with a sign of -1.
func (p *plan) free(v Victim, sign int64) {
	for i, c := range v.Cards {
		s := &p.spots[c]
		if !s.usable {
			continue
		}
		p.count(s, -1)
		s.missing -= sign * v.Charges[i]
		p.count(s, 1)
	}
}

// choose takes the fitting cards that need no victim first, then the others,
// each in the order of preference.
func (p *plan) choose() []int {
	class := slices.IndexFunc(p.fitting, func(n int) bool { return n >= p.r.Degree })
	chosen := make([]int, 0, p.r.Degree)
	for _, untouched := range []bool{true, false} {
		for k, c := range p.r.Cards {
			s := &p.spots[c]
			if len(chosen) < p.r.Degree && int(s.class) == class && s.missing <= 0 && (p.lacks(k) <= 0) == untouched {
				chosen = append(chosen, c)
			}
		}
	}
	return chosen
}
