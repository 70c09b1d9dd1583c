package placement_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// world is a placement question.
type world struct {
	cards   []placement.Card
	victims []placement.Victim
	request placement.Request
}

// randomWorld makes a small crowded world. Victims are charged what the card
// says they are; cards may be overdrawn by other programs.
func randomWorld(rng *rand.Rand) world {
	var w world
	for range 1 + rng.IntN(5) {
		total := 10 + rng.Int64N(20)
		c := placement.Card{Card: ledger.Card{Total: total, Budget: total - rng.Int64N(6)}}
		if rng.IntN(3) == 0 {
			c.Foreign = rng.Int64N(total)
		}
		c.Class = rng.IntN(3)
		if rng.IntN(3) == 0 {
			c.Charged = rng.Int64N(12) // by those who do not go
		}
		w.cards = append(w.cards, c)
	}
	for n := range rng.IntN(9) {
		v := placement.Victim{Instance: n}
		for _, c := range rng.Perm(len(w.cards))[:1+rng.IntN(min(3, len(w.cards)))] {
			charge := 1 + rng.Int64N(12)
			v.Cards, v.Charges = append(v.Cards, c), append(v.Charges, charge)
			w.cards[c].Charged += charge
		}
		w.victims = append(w.victims, v)
	}
	w.request.Cards = rng.Perm(len(w.cards))[:1+rng.IntN(len(w.cards))]
	w.request.Degree, w.request.Mixed = 1+rng.IntN(3), rng.IntN(4) == 0
	var need placement.Need
	switch rng.IntN(4) {
	case 0: // the whole budget
	case 1:
		need.Share = float64(1+rng.IntN(10)) / 10
	default:
		need.Bytes = 1 + rng.Int64N(20)
	}
	w.request.Need = each(w.cards, need, w.request.Cards)
	return w
}

// fits says whether some Degree of the request's cards, of one class if it must be,
// have room once exactly these victims are gone. It is written apart from the code
// under test.
func (w *world) fits(gone []int) bool {
	of := make(map[int]int) // class → cards
	for _, c := range w.request.Cards {
		if w.cardFits(c, gone) {
			of[w.classOf(c)]++
		}
	}
	for _, n := range of {
		if n >= w.request.Degree {
			return true
		}
	}
	return false
}

// classOf is a card's class as far as the request minds it.
func (w *world) classOf(c int) int {
	if w.request.Mixed || w.request.Degree == 1 {
		return 0
	}
	return w.cards[c].Class
}

// preferred is the class of the answer, of those that fit the one whose card comes
// first in the request.
func (w *world) preferred(gone []int) int {
	for _, first := range w.request.Cards {
		n := 0
		for _, c := range w.request.Cards {
			if w.classOf(c) == w.classOf(first) && w.cardFits(c, gone) {
				n++
			}
		}
		if n >= w.request.Degree {
			return w.classOf(first)
		}
	}
	return -1
}

// first is the cards of the answer: of the preferred class, those first that need
// nobody gone, in the order of the request.
func (w *world) first(gone []int) (cards []int) {
	for _, without := range [][]int{nil, gone} {
		for _, c := range w.request.Cards {
			if len(cards) < w.request.Degree && w.classOf(c) == w.preferred(gone) && w.cardFits(c, without) && !slices.Contains(cards, c) {
				cards = append(cards, c)
			}
		}
	}
	return cards
}

func (w *world) cardFits(c int, gone []int) bool {
	card := w.cards[c]
	charged := card.Charged
	for _, v := range gone {
		for k, on := range w.victims[v].Cards {
			if on == c {
				charged -= w.victims[v].Charges[k]
			}
		}
	}
	need := w.request.Need[slices.Index(w.request.Cards, c)]
	return charged+need <= card.Budget && charged+card.Foreign+need <= card.Total
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func without(list []int, x int) []int {
	return slices.DeleteFunc(slices.Clone(list), func(y int) bool { return y == x })
}

// fault says what is wrong with an answer, or nothing.
func (w *world) fault(c placement.Choice, ok bool) string {
	possible := w.fits(upTo(len(w.victims)))
	switch {
	case ok != possible:
		return fmt.Sprintf("placed: %v, but with every victim gone there is room: %v", ok, possible)
	case !ok:
		if c.Cards != nil || c.Victims != nil {
			return "no place, but a choice"
		}
		return ""
	case len(c.Cards) != w.request.Degree:
		return fmt.Sprintf("%d cards, want %d", len(c.Cards), w.request.Degree)
	case w.fits(nil) && len(c.Victims) > 0:
		return "victims although there is room"
	case !slices.IsSorted(c.Victims) || len(slices.Compact(slices.Clone(c.Victims))) != len(c.Victims):
		return "the victims are not in their order, or one is there twice"
	}
	for k, card := range c.Cards {
		if !slices.Contains(w.request.Cards, card) || slices.Contains(c.Cards[:k], card) {
			return fmt.Sprintf("card %d is not one of the request's, or there twice", card)
		}
		if !w.cardFits(card, c.Victims) {
			return fmt.Sprintf("card %d has no room", card)
		}
		if want := w.preferred(c.Victims); w.classOf(card) != want {
			return fmt.Sprintf("card %d is of class %d, want %d", card, w.cards[card].Class, want)
		}
	}
	if want := w.first(c.Victims); !slices.Equal(c.Cards, want) {
		return fmt.Sprintf("cards %v, want %v", c.Cards, want)
	}
	for _, v := range c.Victims {
		rest := without(c.Victims, v)
		if w.fits(rest) {
			return fmt.Sprintf("victim %d goes for nothing", v)
		}
		for u := range v {
			if !slices.Contains(c.Victims, u) && w.fits(append(slices.Clone(rest), u)) {
				return fmt.Sprintf("victim %d goes where %d, who stands before, would do", v, u)
			}
		}
	}
	return ""
}

// best is the answer by trying every set of victims: of two sets that make
// room, the better is the one whose last victim stands further to the front;
// where that is the same, the next to last decides, and so on.
func (w *world) best() (victims []int, ok bool) {
	all := len(w.victims)
	for set := range 1 << all { // in just that order, read as binary numbers
		gone := []int{}
		for v := range all {
			if set&(1<<v) != 0 {
				gone = append(gone, v)
			}
		}
		if w.fits(gone) {
			return gone, true
		}
	}
	return nil, false
}

func (w *world) check(t *testing.T) {
	t.Helper()
	asked := w.clone()
	got, ok := placement.Place(w.cards, w.victims, w.request)
	if fault := w.fault(got, ok); fault != "" {
		t.Fatalf("%s\nanswer %+v\nworld %+v", fault, got, *w)
	}
	if want, possible := w.best(); ok != possible || !slices.Equal(got.Victims, want) {
		t.Fatalf("victims %v, want %v\nworld %+v", got.Victims, want, *w)
	}
	if !reflect.DeepEqual(*w, asked) {
		t.Fatalf("the question was changed\nbefore %+v\nafter %+v", asked, *w)
	}
	if again, _ := placement.Place(w.cards, w.victims, w.request); !reflect.DeepEqual(again, got) {
		t.Fatalf("%+v, then %+v", got, again)
	}
}

func (w *world) clone() world {
	c := world{cards: slices.Clone(w.cards), request: w.request}
	c.request.Cards, c.request.Need = slices.Clone(w.request.Cards), slices.Clone(w.request.Need)
	for _, v := range w.victims {
		c.victims = append(c.victims, placement.Victim{Instance: v.Instance, Cards: slices.Clone(v.Cards), Charges: slices.Clone(v.Charges)})
	}
	return c
}

func TestPlaceProperties(t *testing.T) {
	for range 5000 {
		seed := rand.Uint64()
		w := randomWorld(rand.New(rand.NewPCG(seed, 0)))
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			w.check(t)
		}()
	}
}

func FuzzPlace(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed*7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		w := randomWorld(rand.New(rand.NewPCG(a, b)))
		w.check(t)
	})
}
