package scheduler

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file puts decisions into words.

// explainCards is of how many cards a reason gives the account: a line is read
// by people, and the candidates tell of all of them.
const explainCards = 4

// explain says for each card why an aim cannot have room on it.
func (d *decider) explain(a *aim) string {
	var b strings.Builder
	if len(a.cards) < a.degree {
		return d.tooFew(a)
	}
	verb := "needs"
	if a.wakes != nobody {
		verb = "needs, to be woken,"
	}
	fmt.Fprintf(&b, "%s %s", a.Model, verb)
	if a.degree > 1 {
		fmt.Fprintf(&b, " %s with", d.several(a))
	}
	fmt.Fprintf(&b, " %v", a.on(a.cards[0]))
	if a.degree > 1 {
		b.WriteString(" each")
	}
	fmt.Fprintf(&b, " in pool %s", a.Pool)
	if a.rejects() {
		b.WriteString(", and is set to be refused rather than wait")
	}
	for k, card := range a.cards {
		if k == explainCards && len(a.cards) > explainCards+1 {
			fmt.Fprintf(&b, "; and %d more cards", len(a.cards)-k)
			break
		}
		c := &d.cards[card]
		fmt.Fprintf(&b, "; %s: %v of room", c.UUID, ledger.Size(c.Room()))
		if need := a.on(card); need != a.on(a.cards[0]) { // a share of a card of another size
			fmt.Fprintf(&b, " for %v", need)
		}
		fmt.Fprintf(&b, " (%s)", d.account(card))
	}
	return b.String()
}

// tooFew says that there are not as many cards as a demand wants.
func (d *decider) tooFew(a *aim) string {
	return fmt.Sprintf("%s wants %d cards, pool %s has %d that are there", a.Model, a.degree, a.Pool, len(a.cards))
}

// several counts the cards that an aim takes at once.
func (d *decider) several(a *aim) string {
	for _, c := range a.cards {
		if a.wakes == nobody && d.cards[c].Class != d.cards[a.cards[0]].Class {
			return fmt.Sprintf("%d cards of one kind", a.degree)
		}
	}
	return fmt.Sprintf("%d cards", a.degree)
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
	for _, n := range d.charged(card) {
		if !d.taken[n] {
			s += string(d.holding([]byte(", "), n, card))
		}
	}
	if d.kept[card] != "" {
		s += ", kept for " + d.kept[card]
	}
	return s
}

// holding appends how much of a card an instance holds.
func (d *decider) holding(b []byte, n, card int) []byte {
	i := &d.Instances[n]
	b = i.chargeOn(card).Append(append(append(b, i.ID...), " holds "...))
	return append(append(append(b, " ("...), d.doing(i)...), ')')
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
		return "busy with " + strconv.Itoa(i.Leases)
	case i.Tickets > 0 && i.Phase == Asleep:
		return fmt.Sprintf("asleep, %s", waiting(i.Tickets))
	case i.Tickets > 0:
		return waiting(i.Tickets)
	case i.Phase == Asleep:
		return "asleep"
	}
	return "idle"
}

func waiting(requests int) string {
	if requests == 1 {
		return "1 request waiting"
	}
	return fmt.Sprintf("%d requests waiting", requests)
}

// depth says how many requests wait for a demand.
func (q *Demand) depth() string {
	switch q.Waiting {
	case 0:
		return ""
	case 1:
		return "; 1 request waits"
	}
	return fmt.Sprintf("; %d requests wait", q.Waiting)
}

// needs says what an aim takes on each card, the first of these for all.
func (d *decider) needs(a *aim, cards []int) string {
	if a.wakes != nobody {
		return fmt.Sprintf("%v more per card, to wake it,", a.on(cards[0]))
	}
	return fmt.Sprintf("%v per card", a.on(cards[0]))
}

// evicted says why a victim goes, and what that frees.
func (d *decider) evicted(v victim) string {
	i := &d.Instances[v.n]
	how := "frees"
	if v.sleep {
		how = "sleeps and frees"
	}
	return fmt.Sprintf("%s (%s, %s %v per card)", i.ID, d.Policy.Why(i, d.Now), how, ledger.Size(d.frees(v, i.Cards[0])))
}

// waitsFor says for whom and what a choice waits.
func (d *decider) waitsFor(a *aim, p prospect) string {
	var names []string
	for _, n := range p.others {
		i := &d.Instances[n]
		names = append(names, fmt.Sprintf("%s (%s)", i.ID, d.doing(i)))
	}
	concerned := d.concerned(p)
	names = append(append(names, d.heldGates(concerned)...), d.keptFor(concerned)...)
	return fmt.Sprintf("%s on %s, waiting for %s", d.needs(a, p.choice.Cards), d.names(p.choice.Cards), join(names))
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

// heldGates says who holds the gates of cards that are not free.
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
