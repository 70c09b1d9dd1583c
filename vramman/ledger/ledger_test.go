package ledger_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

const gib = int64(1) << 30

func newLedger(cards ...ledger.Card) *ledger.Ledger {
	l := new(ledger.Ledger)
	for _, c := range cards {
		l.SetCard(c)
	}
	return l
}

func charge(t *testing.T, l *ledger.Ledger, uuid, instance string, bytes int64) {
	t.Helper()
	if err := l.Charge(uuid, instance, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestRoomIsTheSmallerOfBudgetAndCard(t *testing.T) {
	for _, c := range []struct {
		name                   string
		total, budget, foreign int64
		charged                int64
		want                   int64
	}{
		{"an empty card gives its budget", 24, 22, 0, 0, 22},
		{"the budget binds", 24, 20, 1, 5, 15},
		{"the card binds", 24, 22, 10, 5, 9},
		{"both alike", 24, 20, 4, 5, 15},
		{"exactly full", 24, 20, 0, 20, 0},
		{"charged beyond the budget", 24, 20, 0, 21, -1},
		{"foreign VRAM beyond the card", 24, 20, 23, 5, -4},
		{"a budget of nothing", 24, 0, 0, 0, 0},
		{"a budget beyond the card", 24, 40, 0, 10, 14},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := ledger.Card{UUID: "GPU-a", Total: c.total * gib, Budget: c.budget * gib, Foreign: c.foreign * gib}
			l := newLedger(card)
			charge(t, l, "GPU-a", "m-1", c.charged*gib)
			if got := l.Room("GPU-a"); got != c.want*gib {
				t.Errorf("Room = %v, want %v", ledger.Size(got), ledger.Size(c.want*gib))
			}
			if got := card.Room(c.charged * gib); got != c.want*gib {
				t.Errorf("Card.Room = %v, want %v", ledger.Size(got), ledger.Size(c.want*gib))
			}
		})
	}
}

func TestZeroLedger(t *testing.T) {
	var l ledger.Ledger
	if len(l.Cards()) != 0 || l.Room("GPU-a") != 0 || l.Charged("GPU-a") != 0 || l.ChargeOf("GPU-a", "m-1") != 0 || l.Instances("GPU-a") != nil {
		t.Error("the zero ledger has cards or charges")
	}
	if _, ok := l.Card("GPU-a"); ok {
		t.Error("the zero ledger knows a card")
	}
	l.Release("m-1")
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func TestChargeRefusesWhatCannotBe(t *testing.T) {
	l := newLedger(ledger.Card{UUID: "GPU-a", Total: gib, Budget: gib})
	charge(t, l, "GPU-a", "m-1", 5)
	for _, c := range []struct {
		uuid  string
		bytes int64
		want  []string
	}{
		{"GPU-b", 1, []string{"m-1", "GPU-b"}},
		{"GPU-a", -1, []string{"m-1", "GPU-a", "-1"}},
	} {
		err := l.Charge(c.uuid, "m-1", c.bytes)
		if err == nil {
			t.Fatalf("Charge(%s, %d) succeeded", c.uuid, c.bytes)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("the error %q does not name %q", err, w)
			}
		}
	}
	if got := l.Charged("GPU-a"); got != 5 {
		t.Errorf("a refused charge left %d charged, want 5", got)
	}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
}

func TestChargeReplacesAndMayOutgrowTheCard(t *testing.T) {
	l := newLedger(ledger.Card{UUID: "GPU-a", Total: 10, Budget: 10})
	charge(t, l, "GPU-a", "m-1", 4)
	charge(t, l, "GPU-a", "m-2", 3)
	charge(t, l, "GPU-a", "m-1", 9) // measured more than declared
	if l.Charged("GPU-a") != 12 || l.Room("GPU-a") != -2 || l.ChargeOf("GPU-a", "m-1") != 9 {
		t.Errorf("charged %d, room %d, m-1 has %d", l.Charged("GPU-a"), l.Room("GPU-a"), l.ChargeOf("GPU-a", "m-1"))
	}
	charge(t, l, "GPU-a", "m-1", 0)
	if l.Charged("GPU-a") != 3 {
		t.Errorf("charged %d after a charge of 0, want 3", l.Charged("GPU-a"))
	}
}

func TestReleaseIsIdempotentAndCoversAllCards(t *testing.T) {
	l := newLedger(ledger.Card{UUID: "GPU-a", Total: 10, Budget: 10}, ledger.Card{UUID: "GPU-b", Total: 10, Budget: 10})
	charge(t, l, "GPU-a", "tp-1", 4)
	charge(t, l, "GPU-b", "tp-1", 5)
	charge(t, l, "GPU-b", "other-1", 1)
	l.Release("nobody")
	for range 3 {
		l.Release("tp-1")
		if a, b := l.Charged("GPU-a"), l.Charged("GPU-b"); a != 0 || b != 1 {
			t.Fatalf("charged %d and %d after a release, want 0 and 1", a, b)
		}
		if got := l.Instances("GPU-a"); len(got) != 0 {
			t.Fatalf("GPU-a still lists %v", got)
		}
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSetCardKeepsCharges(t *testing.T) {
	l := newLedger(ledger.Card{UUID: "GPU-a", Total: 10, Budget: 10}, ledger.Card{UUID: "GPU-b", Total: 7, Budget: 7})
	charge(t, l, "GPU-a", "m-1", 4)
	l.SetCard(ledger.Card{UUID: "GPU-a", Total: 10, Budget: 9, Foreign: 3})
	if l.Charged("GPU-a") != 4 || l.Room("GPU-a") != 3 {
		t.Errorf("charged %d, room %d; want 4 and 3", l.Charged("GPU-a"), l.Room("GPU-a"))
	}
	if c, ok := l.Card("GPU-a"); !ok || c.Foreign != 3 || c.Budget != 9 {
		t.Errorf("the card is %+v", c)
	}
	var order []string
	for _, c := range l.Cards() {
		order = append(order, c.UUID)
	}
	if !slices.Equal(order, []string{"GPU-a", "GPU-b"}) {
		t.Errorf("the cards are %v, want the order in which they were added", order)
	}
}

// TestAgainstPlainSums lets random charges, releases and readings happen and
// compares every figure with sums made from scratch.
func TestAgainstPlainSums(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		var l ledger.Ledger
		cards := map[string]ledger.Card{}
		charges := map[string]map[string]int64{} // card → instance → bytes
		for range 60 {
			uuid, instance := "GPU-"+strconv.Itoa(rng.IntN(4)), "m-"+strconv.Itoa(rng.IntN(5))
			switch rng.IntN(5) {
			case 0:
				c := ledger.Card{UUID: uuid, Total: rng.Int64N(100), Budget: rng.Int64N(100), Foreign: rng.Int64N(100)}
				l.SetCard(c)
				cards[uuid] = c
				if charges[uuid] == nil {
					charges[uuid] = map[string]int64{}
				}
			case 1:
				l.Release(instance)
				for _, held := range charges {
					delete(held, instance)
				}
			default:
				bytes := rng.Int64N(60) - 5
				err := l.Charge(uuid, instance, bytes)
				if held := charges[uuid]; held == nil || bytes < 0 {
					if err == nil {
						t.Fatalf("seed %d: charging %d on %s succeeded", seed, bytes, uuid)
					}
				} else {
					held[instance] = bytes
				}
			}
			if err := l.Check(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for uuid, held := range charges {
				var sum int64
				for instance, b := range held {
					sum += b
					if got := l.ChargeOf(uuid, instance); got != b {
						t.Fatalf("seed %d: %s has %d on %s, want %d", seed, instance, got, uuid, b)
					}
				}
				c := cards[uuid]
				if l.Charged(uuid) != sum || l.Room(uuid) != min(c.Budget-sum, c.Total-c.Foreign-sum) {
					t.Fatalf("seed %d: %s: charged %d, room %d; charges are %v on %+v", seed, uuid, l.Charged(uuid), l.Room(uuid), held, c)
				}
				if want := slices.Sorted(maps.Keys(held)); !slices.Equal(l.Instances(uuid), want) {
					t.Fatalf("seed %d: %s lists %v, want %v", seed, uuid, l.Instances(uuid), want)
				}
			}
		}
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		size ledger.Size
		want string
	}{
		{0, "0.0 GiB"},
		{1 << 30, "1.0 GiB"},
		{15 << 29, "7.5 GiB"},
		{-3 << 30, "-3.0 GiB"},
		{512 << 20, "512 MiB"},
		{-512 << 20, "-512 MiB"},
		{80 << 30, "80.0 GiB"},
		{ledger.Unsized, "a whole card"},
		{ledger.Unsized / 10, "a whole card"},
	} {
		if got := c.size.String(); got != c.want {
			t.Errorf("Size(%d) is %q, want %q", int64(c.size), got, c.want)
		}
	}
}
