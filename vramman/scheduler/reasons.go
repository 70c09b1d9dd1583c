package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file puts decisions into words.

// explain says for each card why a demand cannot have room on it.
func (d *decider) explain(q *Demand) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs", q.Model)
	if q.Degree > 1 {
		fmt.Fprintf(&b, " %d cards with", q.Degree)
	}
	fmt.Fprintf(&b, " %v", d.need(q, q.Cards[0]))
	if q.Degree > 1 {
		b.WriteString(" each")
	}
	fmt.Fprintf(&b, " in pool %s", q.Pool)
	for _, card := range q.Cards {
		c := &d.cards[card]
		fmt.Fprintf(&b, "; %s: %v of room", c.UUID, ledger.Size(c.Room()))
		if need := d.need(q, card); need != d.need(q, q.Cards[0]) { // a share of a card of another size
			fmt.Fprintf(&b, " for %v", need)
		}
		fmt.Fprintf(&b, " (%s)", d.account(card))
	}
	return b.String()
}

// summarize says how much a demand needs, and how much any card could offer it
// once everything that may go has gone.
func (d *decider) summarize(q *Demand) string {
	most := int64(math.MinInt64)
	for _, card := range q.Cards {
		room := d.cards[card].Room()
		for n := range d.Instances {
			i := &d.Instances[n]
			if k := slices.Index(i.Cards, card); k >= 0 && !d.taken[n] && d.outlook(q, i) != never {
				room += i.Charges[k]
			}
		}
		most = max(most, room)
	}
	cards := "a card"
	if q.Degree > 1 {
		cards = fmt.Sprintf("each of %d cards", q.Degree)
	}
	return fmt.Sprintf("%s needs %v on %s of pool %s; of its %d cards, the one with the most to offer could give %v",
		q.Model, d.need(q, q.Cards[0]), cards, q.Pool, len(q.Cards), ledger.Size(max(0, most)))
}

// account is a card's account in words.
func (d *decider) account(card int) string {
	c := &d.cards[card]
	s := fmt.Sprintf("%v of %v budgeted, %v charged", ledger.Size(c.Budget), ledger.Size(c.Total), ledger.Size(c.Charged))
	if c.Total == ledger.Unsized {
		s = "its size is not known: one model at a time"
	}
	if c.Foreign > 0 {
		s += fmt.Sprintf(", %v used by other programs", ledger.Size(c.Foreign))
	}
	for n := range d.Instances {
		i := &d.Instances[n]
		if k := slices.Index(i.Cards, card); k >= 0 && !d.taken[n] {
			s += fmt.Sprintf(", %s holds %v (%s)", i.ID, ledger.Size(i.Charges[k]), d.doing(i))
		}
	}
	return s
}

// doing is what an instance is at, in words.
func (d *decider) doing(i *Instance) string {
	switch {
	case i.Phase == Starting:
		return "starting"
	case i.Phase == Draining:
		return "draining"
	case i.Phase == Stopping:
		return "stopping"
	case i.Phase == Unreleased:
		return "stopped, memory not seen free"
	case i.AlwaysOn:
		return "always on"
	case i.Leases > 0:
		return fmt.Sprintf("busy with %d", i.Leases)
	case i.Tickets > 0:
		return fmt.Sprintf("%d requests waiting", i.Tickets)
	}
	return "idle"
}

func (d *decider) names(cards []int) string {
	var s []string
	for _, c := range cards {
		s = append(s, d.cards[c].UUID)
	}
	return join(s)
}

func (d *decider) rooms(cards []int) string {
	var s []string
	for _, c := range cards {
		s = append(s, fmt.Sprintf("%v of room", ledger.Size(d.cards[c].Room())))
	}
	return join(s)
}

// holders says who holds the gates of cards that are not free.
func (d *decider) holders(cards []int) string { return join(d.heldGates(cards)) }

func (d *decider) heldGates(cards []int) (s []string) {
	for _, c := range cards {
		if d.gates[c] != "" {
			s = append(s, fmt.Sprintf("the gate of %s (%s)", d.cards[c].UUID, d.gates[c]))
		}
	}
	return s
}

// keptFor says for whom cards are kept.
func (d *decider) keptFor(cards []int) (s []string) {
	for _, c := range cards {
		if d.kept[c] != "" {
			s = append(s, fmt.Sprintf("%s is kept for %s", d.cards[c].UUID, d.kept[c]))
		}
	}
	return s
}

func join(s []string) string { return strings.Join(s, ", ") }
