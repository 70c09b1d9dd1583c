package ledger

import (
	"strings"
	"testing"
)

// Check is the simulation's witness: it must see what no method can cause.
func TestCheckCatches(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Ledger)
		want  []string
	}{
		{"a sum that drifted", func(l *Ledger) { l.totals[1] += 7 }, []string{"GPU-b", "5", "12"}},
		{"a charge that got lost", func(l *Ledger) { delete(l.held[0], "m-1") }, []string{"GPU-a", "3"}},
		{"a charge that appeared", func(l *Ledger) { l.held[0]["m-9"] = 1 }, []string{"GPU-a", "4"}},
		{"a negative charge", func(l *Ledger) { l.held[1]["m-2"] = -5; l.totals[1] = -5 }, []string{"GPU-b", "m-2", "-5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Ledger
			l.SetCard(Card{UUID: "GPU-a", Total: 10, Budget: 10})
			l.SetCard(Card{UUID: "GPU-b", Total: 10, Budget: 10})
			for _, err := range []error{l.Charge("GPU-a", "m-1", 3), l.Charge("GPU-b", "m-2", 5)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Check(); err != nil {
				t.Fatalf("a sound ledger: %v", err)
			}
			c.spoil(&l)
			err := l.Check()
			if err == nil {
				t.Fatal("Check found nothing")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}
