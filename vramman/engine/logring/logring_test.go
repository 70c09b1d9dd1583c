package logring

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

func TestKeepsTheNewestLinesInOrder(t *testing.T) {
	var r Ring
	if got := r.Last(10); len(got) != 0 {
		t.Fatalf("an empty ring holds %q", got)
	}
	var want []string
	for i := range 3*Lines + 7 {
		line := strconv.Itoa(i)
		r.Add(line)
		want = append(want, line)
		want = want[max(0, len(want)-Lines):]
		if got := r.Last(Lines); !slices.Equal(got, want) {
			t.Fatalf("after %d lines: got %d lines, want %d, or others", i+1, len(got), len(want))
		}
	}
	if got := r.Last(2); !slices.Equal(got, want[Lines-2:]) {
		t.Errorf("the last two are %q", got)
	}
	if got := r.Last(-1); len(got) != 0 {
		t.Errorf("the last -1 are %q", got)
	}
}

func TestKeepsWithinItsBytes(t *testing.T) {
	var r Ring
	third := strings.Repeat("x", Bytes/3)
	for i := range 10 {
		r.Add(strconv.Itoa(i) + third[1:])
	}
	got := r.Last(Lines)
	if len(got) != 3 || got[0][0] != '7' || got[2][0] != '9' {
		t.Errorf("keeps %d lines, want the last 3", len(got))
	}
	r.Add(strings.Repeat("y", 2*Bytes))
	if got := r.Last(Lines); len(got) != 1 || len(got[0]) != Bytes {
		t.Errorf("a line over the bound: %d lines kept, want it alone and cut", len(got))
	}
	r.Add("")
	if got := r.Last(Lines); len(got) != 2 {
		t.Errorf("an empty line beside a full ring: %d lines kept, want 2", len(got))
	}
}

func TestServesSeveralAtOnce(t *testing.T) {
	var r Ring
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 1000 {
				r.Add(strconv.Itoa(i))
				r.Last(5)
			}
		})
	}
	wg.Wait()
	if got := r.Last(Lines); len(got) != Lines {
		t.Errorf("keeps %d lines, want %d", len(got), Lines)
	}
}
