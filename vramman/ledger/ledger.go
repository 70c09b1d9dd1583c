// Package ledger does the arithmetic of VRAM: who is charged how much on each
// card, and how much is left. It is pure: no I/O, no clock, no goroutine.
//
// The room on a card is the smaller of two differences, and may be negative:
//
//	budget - charged             what the operator lets the gateway use
//	total  - charged - foreign   what the card really has
//
// Foreign VRAM is what other programs use, as measured; a card's charges are
// what the gateway has promised to its instances. Sizes are bytes.
package ledger

import (
	"fmt"
	"slices"
	"strconv"
)

// Card is one GPU's account.
type Card struct {
	UUID    string
	Total   int64 // the card's size
	Budget  int64 // how much of it instances may be charged together
	Foreign int64 // used by programs that are not the gateway's, as last measured
}

// Ledger holds the accounts of all cards. The zero Ledger has no card.
// A Ledger is not safe for use by several goroutines.
type Ledger struct {
	cards  []Card
	index  map[string]int
	held   []map[string]int64 // per card: instance → bytes
	totals []int64            // per card: the sum of held
}

// SetCard adds a card or replaces its figures, keeping what is charged on it.
func (l *Ledger) SetCard(c Card) {
	if i, ok := l.index[c.UUID]; ok {
		l.cards[i] = c
		return
	}
	if l.index == nil {
		l.index = make(map[string]int)
	}
	l.index[c.UUID] = len(l.cards)
	l.cards = append(l.cards, c)
	l.held = append(l.held, make(map[string]int64))
	l.totals = append(l.totals, 0)
}

// Cards returns all cards in the order in which they were added.
// The slice is the ledger's own.
func (l *Ledger) Cards() []Card { return l.cards }

// Card returns the account of one card.
func (l *Ledger) Card(uuid string) (Card, bool) {
	i, ok := l.index[uuid]
	if !ok {
		return Card{}, false
	}
	return l.cards[i], true
}

// Charge sets what an instance is charged on a card, replacing what it was
// charged there before. It takes any amount: what is measured must be charged,
// whether it fits or not. Whether a new reservation fits is [Ledger.Room]'s
// question.
func (l *Ledger) Charge(uuid, instance string, bytes int64) error {
	i, ok := l.index[uuid]
	if !ok {
		return fmt.Errorf("charging instance %s: no card %s in the ledger", instance, uuid)
	}
	if bytes < 0 {
		return fmt.Errorf("charging instance %s on card %s: negative size %d", instance, uuid, bytes)
	}
	l.totals[i] += bytes - l.held[i][instance]
	l.held[i][instance] = bytes
	return nil
}

// Release ends an instance's charges on all cards. An instance that has none
// is no error: a release may come twice.
func (l *Ledger) Release(instance string) {
	for i := range l.held {
		l.totals[i] -= l.held[i][instance]
		delete(l.held[i], instance)
	}
}

// Charged is the sum of all charges on a card, 0 for an unknown one.
func (l *Ledger) Charged(uuid string) int64 {
	i, ok := l.index[uuid]
	if !ok {
		return 0
	}
	return l.totals[i]
}

// ChargeOf is what one instance is charged on a card.
func (l *Ledger) ChargeOf(uuid, instance string) int64 {
	i, ok := l.index[uuid]
	if !ok {
		return 0
	}
	return l.held[i][instance]
}

// Room is how much more can be charged on a card: negative when measurements
// have outgrown it, and 0 for an unknown card.
func (l *Ledger) Room(uuid string) int64 {
	i, ok := l.index[uuid]
	if !ok {
		return 0
	}
	return l.cards[i].Room(l.totals[i])
}

// Room is how much more can be charged on the card when charged bytes are.
func (c Card) Room(charged int64) int64 {
	return min(c.Budget-charged, c.Total-c.Foreign-charged)
}

// Instances returns the names of all that are charged on a card, sorted.
func (l *Ledger) Instances(uuid string) []string {
	i, ok := l.index[uuid]
	if !ok {
		return nil
	}
	names := make([]string, 0, len(l.held[i]))
	for name := range l.held[i] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Check recomputes every sum and returns an error that names the first account
// that does not add up. It is the simulation's witness, not for the hot path.
func (l *Ledger) Check() error {
	for i, c := range l.cards {
		var sum int64
		for name, b := range l.held[i] {
			if b < 0 {
				return fmt.Errorf("card %s: instance %s is charged %d", c.UUID, name, b)
			}
			sum += b
		}
		if sum != l.totals[i] {
			return fmt.Errorf("card %s: charges add up to %d, the account says %d", c.UUID, sum, l.totals[i])
		}
	}
	return nil
}

// Unsized stands for the size of a card that nobody knows, on which an instance is
// charged the whole budget: 64 TiB, far from any card's.
const Unsized = 1 << 46

// Size is a number of bytes, printed as people compare it with a card: "7.5 GiB".
// A share of an unsized card is "a whole card".
type Size int64

// String implements [fmt.Stringer].
func (s Size) String() string { return string(s.Append(nil)) }

// Append appends the size, as String prints it, to b.
func (s Size) Append(b []byte) []byte {
	if s > Unsized/64 {
		return append(b, "a whole card"...)
	}
	if s > -1<<30 && s < 1<<30 && s != 0 {
		return append(strconv.AppendFloat(b, float64(s)/(1<<20), 'f', 0, 64), " MiB"...)
	}
	return append(strconv.AppendFloat(b, float64(s)/(1<<30), 'f', 1, 64), " GiB"...)
}
