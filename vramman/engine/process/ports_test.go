//go:build linux

// This file owns the tests of choosing ports.

package process

import (
	"testing"
)

func TestPortsDiffer(t *testing.T) {
	seen := make(map[int]bool)
	var book portBook
	for range 3 * remembered {
		port, err := book.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d was handed out twice", port)
		}
		seen[port] = true
	}
	for port := range seen {
		book.give(port)
	}
	if got := len(book.taken); got != remembered {
		t.Errorf("%d ports rest, want %d", got, remembered)
	}
}
