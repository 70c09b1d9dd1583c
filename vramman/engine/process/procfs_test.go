//go:build linux

package process

import (
	"os"
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		stat string
		want process
		ok   bool
	}{
		{"12 (vllm) S 3 12 7 0 -1 4194560\n", process{pid: 12, parent: 3, session: 7}, true},
		{"12 (a) S 99 9 9 (b\n) Z 3 12 7 0\n", process{pid: 12, parent: 3, session: 7, dead: true}, true},
		{"12 (x) X 3 12 7", process{pid: 12, parent: 3, session: 7, dead: true}, true},
		{"12 (x) S 3 12", process{}, false},
		{"12 (x) S three 12 7", process{}, false},
		{"", process{}, false},
	} {
		if got, ok := parseStat(12, []byte(c.stat)); got != c.want || ok != c.ok {
			t.Errorf("%q: got %+v %v", c.stat, got, ok)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("12 (vllm) S 3 12 7 0"))
	f.Add([]byte(") "))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if p, ok := parseStat(5, stat); ok && p.pid != 5 {
			t.Errorf("%q: %+v", stat, p)
		}
	})
}

func TestDescendants(t *testing.T) {
	all := []process{
		{pid: 1},
		{pid: 2, parent: 1},
		{pid: 3, parent: 2},
		{pid: 4, parent: 3, dead: true},
		{pid: 5, parent: 4},
		{pid: 6, parent: 1},
		{pid: 7, parent: 8},
		{pid: 8, parent: 7},
	}
	got := descendants(all, 2)
	slices.Sort(got)
	if !slices.Equal(got, []int{3, 5}) {
		t.Errorf("got %v", got)
	}
	if got := descendants(all, 7); !slices.Equal(got, []int{8}) {
		t.Errorf("a circle: got %v", got)
	}
}

func TestProcessesContainThisOne(t *testing.T) {
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(p process) bool { return p.pid == os.Getpid() && p.parent == os.Getppid() }) {
		t.Error("this process is not among them")
	}
}

func TestParseOOMKills(t *testing.T) {
	for stat, want := range map[string]int{
		"nr_free_pages 5\noom_kill 12\nswap_ra 1\n": 12,
		"nr_free_pages 5\n":                         0,
		"oom_kill x":                                0,
	} {
		if got := parseOOMKills([]byte(stat)); got != want {
			t.Errorf("%q: got %d", stat, got)
		}
	}
}
