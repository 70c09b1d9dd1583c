package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "17969 (a) b (c) S 17964 17930 3561 0 -1 4194304 64 0 1 0 28 14 0 0 20 0 1 0 528615 2654208"
	if d, err := parseStat([]byte(line)); err != nil || d != 420*time.Millisecond {
		t.Errorf("%v, %v", d, err)
	}
	for _, bad := range []string{"", "1 (a) S 1", strings.Replace(line, " 28 ", " x ", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a process", bad)
		}
	}
}
