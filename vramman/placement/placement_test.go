package placement_test

import (
	"slices"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// card is a card of 10 units that may all be used, with some of them charged.
func card(charged int64) placement.Card {
	return placement.Card{Card: ledger.Card{Total: 10, Budget: 10}, Charged: charged}
}

// on is a victim with the same charge on each of its cards.
func on(charge int64, cards ...int) placement.Victim {
	v := placement.Victim{Cards: cards}
	for range cards {
		v.Charges = append(v.Charges, charge)
	}
	return v
}

// each is a need in bytes on each of some cards.
func each(cards []placement.Card, need placement.Need, of []int) (bytes []int64) {
	for _, c := range of {
		bytes = append(bytes, need.On(cards[c].Card))
	}
	return bytes
}

func TestNeedOn(t *testing.T) {
	c := ledger.Card{Total: 1001, Budget: 900}
	for _, x := range []struct {
		name string
		need placement.Need
		want int64
	}{
		{"declared", placement.Need{Bytes: 123}, 123},
		{"declared goes before a share", placement.Need{Bytes: 123, Share: 0.5}, 123},
		{"a share of the card, rounded down", placement.Need{Share: 0.5}, 500},
		{"the whole card", placement.Need{Share: 1}, 1001},
		{"nothing said: the budget", placement.Need{}, 900},
	} {
		if got := x.need.On(c); got != x.want {
			t.Errorf("%s: %d, want %d", x.name, got, x.want)
		}
	}
}

func TestPlace(t *testing.T) {
	none := []int(nil)
	for _, c := range []struct {
		name    string
		cards   []placement.Card
		victims []placement.Victim
		need    int64
		degree  int
		usable  []int
		want    []int // cards; nil: no place
		cost    []int // victims
	}{
		{"the first that fits", []placement.Card{card(6), card(3), card(0)}, nil, 5, 1, []int{0, 1, 2}, []int{1}, none},
		{"preference is the request's order", []placement.Card{card(0), card(0), card(0)}, nil, 5, 1, []int{2, 0, 1}, []int{2}, none},
		{"an exact fit is a fit", []placement.Card{card(5)}, nil, 5, 1, []int{0}, []int{0}, none},
		{"one too much is none", []placement.Card{card(6)}, nil, 5, 1, []int{0}, nil, none},
		{"only the request's cards", []placement.Card{card(0), card(6)}, nil, 5, 1, []int{1}, nil, none},
		{"several cards at once", []placement.Card{card(0), card(6), card(0), card(0)}, nil, 5, 2, []int{0, 1, 2, 3}, []int{0, 2}, none},
		{"all of a set or none", []placement.Card{card(0), card(6)}, nil, 5, 2, []int{0, 1}, nil, none},
		{"fewer cards than wanted", []placement.Card{card(0)}, nil, 5, 2, []int{0}, nil, none},
		{"nobody goes where there is room", []placement.Card{card(10), card(0)}, []placement.Victim{on(10, 0)}, 5, 1, []int{0, 1}, []int{1}, none},
		{"the first victim that does", []placement.Card{card(10), card(10)}, []placement.Victim{on(10, 1), on(10, 0)}, 5, 1, []int{0, 1}, []int{1}, []int{0}},
		{"a victim that frees too little stays", []placement.Card{card(10), card(10)}, []placement.Victim{on(4, 0), on(10, 1)}, 5, 1, []int{0, 1}, []int{1}, []int{1}},
		{"two that together do", []placement.Card{card(10)}, []placement.Victim{on(3, 0), on(3, 0), on(3, 0)}, 5, 1, []int{0}, []int{0}, []int{0, 1}},
		{"a later, larger one makes an earlier one needless", []placement.Card{card(10)}, []placement.Victim{on(3, 0), on(7, 0)}, 6, 1, []int{0}, []int{0}, []int{1}},
		{"a victim on several cards frees them all", []placement.Card{card(10), card(10)}, []placement.Victim{on(10, 0, 1)}, 5, 2, []int{0, 1}, []int{0, 1}, []int{0}},
		{"cards that need nobody go first", []placement.Card{card(10), card(0), card(0)}, []placement.Victim{on(10, 0)}, 5, 2, []int{0, 1, 2}, []int{1, 2}, none},
		{"one card free, one freed", []placement.Card{card(10), card(10), card(0)}, []placement.Victim{on(10, 1), on(10, 0)}, 5, 2, []int{0, 1, 2}, []int{2, 1}, []int{0}},
		{"all victims are not enough", []placement.Card{card(10)}, []placement.Victim{on(2, 0), on(2, 0)}, 5, 1, []int{0}, nil, none},
		{"victims on other cards do not help", []placement.Card{card(10), card(10)}, []placement.Victim{on(10, 1)}, 5, 1, []int{0}, nil, none},
		// The last victim opens both cards, the preferred one only together
		// with the first victim: that one need not go for a preference.
		{"nobody goes for a preference", []placement.Card{card(10), card(10)}, []placement.Victim{on(3, 0), on(5, 0, 1)}, 5, 1, []int{0, 1}, []int{0}, []int{1}},
		{"nor when the preferred card needs both", []placement.Card{card(10), card(10)}, []placement.Victim{on(3, 0), {Cards: []int{0, 1}, Charges: []int64{4, 6}}}, 6, 1, []int{0, 1}, []int{1}, []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := placement.Request{Need: each(c.cards, placement.Need{Bytes: c.need}, c.usable), Degree: c.degree, Cards: c.usable}
			got, ok := placement.Place(c.cards, c.victims, r)
			if ok != (c.want != nil) {
				t.Fatalf("placed: %v, want cards %v", ok, c.want)
			}
			if !slices.Equal(got.Cards, c.want) || !slices.Equal(got.Victims, c.cost) {
				t.Errorf("cards %v at the cost of %v, want %v and %v", got.Cards, got.Victims, c.want, c.cost)
			}
		})
	}
}

// A set of several cards is of one class.
func TestSetsAreAlike(t *testing.T) {
	of := func(class int, charged int64) placement.Card {
		c := card(charged)
		c.Class = class
		return c
	}
	for _, c := range []struct {
		name    string
		cards   []placement.Card
		victims []placement.Victim
		degree  int
		mixed   bool
		want    []int // cards; nil: no place
		cost    []int
	}{
		{"not one of each kind", []placement.Card{of(1, 0), of(2, 0)}, nil, 2, false, nil, nil},
		{"but for one that may mix", []placement.Card{of(1, 0), of(2, 0)}, nil, 2, true, []int{0, 1}, nil},
		{"the kind that has enough", []placement.Card{of(1, 0), of(2, 0), of(2, 0)}, nil, 2, false, []int{1, 2}, nil},
		{"of two that have, the one preferred", []placement.Card{of(2, 0), of(1, 0), of(1, 0), of(2, 0)}, nil, 2, false, []int{0, 3}, nil},
		{"the preferred card is what counts, whether it fits or not", []placement.Card{of(2, 9), of(1, 0), of(1, 0), of(2, 0), of(2, 0)}, nil, 2, false, []int{3, 4}, nil},
		{"a single card is of any kind", []placement.Card{of(1, 9), of(2, 0), of(1, 0)}, nil, 1, false, []int{1}, nil},
		{"the kind whose victim comes first", []placement.Card{of(1, 0), of(1, 10), of(2, 0), of(2, 10)}, []placement.Victim{on(10, 3), on(10, 1)}, 2, false, []int{2, 3}, []int{0}},
		{"nobody goes for another kind", []placement.Card{of(1, 0), of(1, 10), of(2, 10), of(2, 10)}, []placement.Victim{on(10, 2), on(10, 1)}, 2, false, []int{0, 1}, []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := placement.Request{Degree: c.degree, Cards: upTo(len(c.cards)), Mixed: c.mixed}
			r.Need = each(c.cards, placement.Need{Bytes: 5}, r.Cards)
			got, ok := placement.Place(c.cards, c.victims, r)
			if ok != (c.want != nil) || !slices.Equal(got.Cards, c.want) || !slices.Equal(got.Victims, c.cost) {
				t.Errorf("cards %v at the cost of %v, want %v and %v", got.Cards, got.Victims, c.want, c.cost)
			}
		})
	}
}

func TestRoomMayBeNegative(t *testing.T) {
	c := placement.Card{Card: ledger.Card{Total: 10, Budget: 10, Foreign: 4}, Charged: 9}
	if c.Room() != -3 {
		t.Fatalf("room %d, want -3", c.Room())
	}
	// Freeing 9 gives 6 of room, not 9.
	for need, want := range map[int64]bool{6: true, 7: false} {
		_, ok := placement.Place([]placement.Card{c}, []placement.Victim{on(9, 0)}, placement.Request{Need: []int64{need}, Degree: 1, Cards: []int{0}})
		if ok != want {
			t.Errorf("a need of %d is placed: %v, want %v", need, ok, want)
		}
	}
}

// Every card is asked for its own share or budget.
func TestNeedOfEachCard(t *testing.T) {
	cards := []placement.Card{
		{Card: ledger.Card{Total: 20, Budget: 18}, Charged: 8},
		{Card: ledger.Card{Total: 10, Budget: 10}, Charged: 4},
	}
	for _, c := range []struct {
		name string
		need placement.Need
		want []int
	}{
		{"half of each", placement.Need{Share: 0.5}, []int{0, 1}},
		{"more than half", placement.Need{Share: 0.6}, nil},
		{"the whole budget of each", placement.Need{}, nil},
	} {
		got, _ := placement.Place(cards, nil, placement.Request{Need: each(cards, c.need, []int{0, 1}), Degree: 2, Cards: []int{0, 1}})
		if !slices.Equal(got.Cards, c.want) {
			t.Errorf("%s: cards %v, want %v", c.name, got.Cards, c.want)
		}
	}
}
