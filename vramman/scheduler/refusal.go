package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file is about refusals, and what whoever asked is told of one: figures, no
// card and no other model.

func (d *decider) refuse(a *aim) {
	d.plan.Decisions = append(d.plan.Decisions, Decision{
		Kind: Refuse, Model: a.Model, Reason: d.explain(a), Summary: d.summarize(a), Never: d.never(a),
		Candidates: d.candidates(a, prospect{when: hopeless}),
	})
}

// never says whether no exit of anybody would help: too few cards alike are
// budgeted for what the model needs, nor are those of its sleeping instance.
func (d *decider) never(a *aim) bool {
	if a.spent != nobody {
		i, wakes := &d.Instances[a.spent], true
		for k, c := range i.Cards {
			wakes = wakes && i.Awake[k] <= ceiling(&d.cards[c])
		}
		if wakes {
			return false
		}
	}
	enough := make(map[int]int) // class → cards
	for k, c := range a.cards {
		class := d.cards[c].Class
		if a.degree == 1 {
			class = 0
		}
		if a.need[k] <= ceiling(&d.cards[c]) {
			enough[class]++
		}
		if enough[class] >= a.degree {
			return false
		}
	}
	return true
}

// summarize says how much a demand needs, how much any card could offer it, and
// what stands in the way.
func (d *decider) summarize(a *aim) string {
	if len(a.cards) < a.degree {
		return d.tooFew(a)
	}
	most, foreign, staying, budget := int64(math.MinInt64), int64(0), int64(0), int64(0)
	for _, card := range a.cards {
		room := d.cards[card].Room()
		for _, n := range d.charged(card) {
			i := &d.Instances[n]
			switch charge := int64(i.chargeOn(card)); {
			case d.taken[n]:
			case d.mayGo(a, n):
				room += charge
			case !a.rejects():
				staying += charge
			}
		}
		most = max(most, room)
		foreign += d.cards[card].Foreign
		budget = max(budget, d.cards[card].Budget)
	}
	cards := "a card"
	if a.degree > 1 {
		cards = "each of " + d.several(a)
	}
	s := fmt.Sprintf("%s needs %v on %s of pool %s", a.Model, a.on(a.cards[0]), cards, a.Pool)
	switch {
	case d.never(a) && a.degree == 1:
		return s + fmt.Sprintf("; none of its %d cards is budgeted more than %v, so it can never fit", len(a.cards), ledger.Size(budget))
	case d.never(a):
		return s + fmt.Sprintf("; not as many of its %d cards are budgeted for that, so it can never fit", len(a.cards))
	case a.rejects():
		s += fmt.Sprintf(" and is not to wait for others; of its %d cards, the one with the most room has %v", len(a.cards), ledger.Size(max(0, most)))
	default:
		s += fmt.Sprintf("; of its %d cards, the one with the most to offer could give %v", len(a.cards), ledger.Size(max(0, most)))
	}
	var hints []string
	if foreign > 0 {
		hints = append(hints, fmt.Sprintf("other programs use %v", ledger.Size(foreign)))
	}
	if staying > 0 {
		hints = append(hints, fmt.Sprintf("what cannot make room holds %v", ledger.Size(staying)))
	}
	if len(hints) > 0 {
		s += "; " + strings.Join(hints, ", ")
	}
	return s
}

// mayGo says whether an instance can be counted on to make room for an aim that
// has none now.
func (d *decider) mayGo(a *aim, n int) bool {
	if a.rejects() {
		return d.Instances[n].going() || n == a.spent
	}
	return d.outlook(a, n) != never
}

// on is what an aim needs on one of its cards.
func (a *aim) on(card int) ledger.Size {
	return ledger.Size(a.need[slices.Index(a.cards, card)])
}
