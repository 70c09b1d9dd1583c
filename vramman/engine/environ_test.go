package engine

import (
	"slices"
	"testing"
)

func TestMergeEnv(t *testing.T) {
	got := MergeEnv([]string{"B=1", "A=1", "broken", "=nameless"}, nil, []string{"B=2", "C=x=y", "A="})
	if want := []string{"A=", "B=2", "C=x=y"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
