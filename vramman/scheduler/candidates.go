package scheduler

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// This file says for every card of a demand why it was chosen, or was not.

// verdictHolders is how many of those who stay on a card a verdict names, the
// largest first.
const verdictHolders = 3

// explained is the candidates of a demand that waits, if it asks for them.
func (d *decider) explained(a *aim, p prospect) []Candidate {
	if !a.Explain {
		return nil
	}
	return d.candidates(a, p)
}

// candidates says how an aim's cards were seen, before its decision is carried out.
func (d *decider) candidates(a *aim, p prospect) []Candidate {
	all := make([]Candidate, 0, max(len(a.cards), len(a.Cards)))
	for k, card := range a.cards {
		chosen := slices.Contains(p.choice.Cards, card)
		all = append(all, Candidate{
			Card: card, Need: a.need[k], Room: d.cards[card].Room(), Chosen: chosen, Verdict: d.verdict(a, p, k, chosen),
		})
	}
	if a.wakes == nobody {
		return all
	}
	for k, card := range a.Cards {
		if !slices.Contains(a.cards, card) {
			all = append(all, Candidate{
				Card: card, Need: a.Need[k], Room: d.cards[card].Room(), Verdict: "not tried: its instance sleeps on other cards",
			})
		}
	}
	return all
}

// verdict is why an aim's k-th card was chosen, or was not.
func (d *decider) verdict(a *aim, p prospect, k int, chosen bool) string {
	card, need := a.cards[k], a.need[k]
	c := &d.cards[card]
	switch {
	case chosen:
		return "chosen: " + d.merit(p, card, need)
	case d.kept[card] != "":
		return "kept for " + d.kept[card]
	case a.Gentle && d.wanted[card]:
		return "others wait for it"
	case a.wakes == nobody && need > ceiling(c):
		return fmt.Sprintf("needs %v, more than its budget of %v", ledger.Size(need), ledger.Size(c.Budget))
	case a.degree > 1 && len(p.choice.Cards) > 0 && c.Class != d.cards[p.choice.Cards[0]].Class:
		return "another kind of card than those chosen"
	case d.gates[card] != "" && (p.when == now || c.Room() >= need):
		return "its gate is held (" + d.gates[card] + ")"
	case c.Room() >= need && len(p.choice.Cards) > 0:
		return "not tried: an earlier card had room"
	case c.Room() >= need:
		return fmt.Sprintf("has room, but %s are needed at once", d.several(a))
	}
	return d.lack(a, p, card, need)
}

// merit is what a chosen card has.
func (d *decider) merit(p prospect, card int, need int64) string {
	if d.cards[card].Room() >= need {
		if p.when != now {
			return "has room, and waits for " + orOthers(d.heldGates([]int{card}))
		}
		return "has room"
	}
	var names []string
	for _, v := range p.victims {
		if i := &d.Instances[v.n]; slices.Contains(i.Cards, card) {
			if v.sleep {
				names = append(names, i.ID+" (sleeps)")
			} else {
				names = append(names, i.ID)
			}
		}
	}
	if p.when == now {
		if len(names) == 1 {
			return names[0] + " makes room"
		}
		return strings.Join(names, " and ") + " make room"
	}
	for _, n := range p.others {
		if i := &d.Instances[n]; slices.Contains(i.Cards, card) {
			names = append(names, fmt.Sprintf("%s (%s)", i.ID, d.doing(i)))
		}
	}
	return "waits for " + join(append(names, d.heldGates([]int{card})...))
}

func orOthers(gates []string) string {
	if len(gates) == 0 {
		return "the other cards"
	}
	return join(gates)
}

// lack is why a card that lacks room was not given it.
func (d *decider) lack(a *aim, p prospect, card int, need int64) string {
	goes := func(n int) bool { return d.mayGo(a, n) }
	after := "after all have gone that may"
	switch {
	case p.when == now && a.takesTurn():
		goes = func(n int) bool { i := &d.Instances[n]; return n != a.wakes && d.evictable(i) && d.gatesFree(i.Cards) }
		after = "after evicting all that may go"
	case !a.takesTurn() && p.when == now:
		goes = func(int) bool { return false }
		after = "as things stand"
	case a.rejects():
		after = "soon"
	}
	could, stay := d.cards[card].Room(), d.staying[:0]
	for _, n := range d.charged(card) {
		switch {
		case d.taken[n]:
		case goes(n):
			could += int64(d.Instances[n].chargeOn(card))
		default:
			stay = append(stay, n)
		}
	}
	d.staying = stay
	if could >= need {
		switch {
		case len(p.choice.Cards) > 0 && p.when == now && len(p.victims) == 0:
			return "not tried: nobody need go where others have room"
		case len(p.choice.Cards) > 0 && p.when == now:
			return "not chosen: those who make room elsewhere go first"
		case len(p.choice.Cards) > 0:
			return "not chosen: there will be room elsewhere sooner"
		}
		return fmt.Sprintf("could have room, but %s are needed at once", d.several(a))
	}
	// There is one of these for each card of each demand: no formatting.
	b := append(ledger.Size(need).Append(append(d.line[:0], "needs "...)), ", "...)
	b = append(append(ledger.Size(max(0, could)).Append(b), " would be free "...), after...)
	if f := d.cards[card].Foreign; f > 0 {
		b = ledger.Size(f).Append(append(b, "; other programs use "...))
	}
	slices.SortStableFunc(stay, func(x, y int) int {
		return cmp.Compare(d.Instances[y].chargeOn(card), d.Instances[x].chargeOn(card))
	})
	for k, n := range stay {
		if k == verdictHolders && len(stay) > verdictHolders+1 {
			b = append(strconv.AppendInt(append(b, "; "...), int64(len(stay)-k), 10), " more stay"...)
			break
		}
		b = d.holding(append(b, "; "...), n, card)
	}
	d.line = b
	return string(b)
}

// ceiling is the most that can ever be charged on a card.
func ceiling(c *placement.Card) int64 { return min(c.Budget, c.Total) }
