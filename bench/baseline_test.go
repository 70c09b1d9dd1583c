package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompare(t *testing.T) {
	at := func(low, median, high float64) Interval {
		return Interval{Median: median, Low: low, High: high, N: 7, Coverage: 0.98}
	}
	before := &Baseline{
		Go:     "go1.26.0",
		Counts: map[string]int64{"allocations: ticket": 2, "connections": 0},
		Ratios: map[string]Interval{"CPU: small": at(0.7, 0.75, 0.8)},
	}
	now := func(allocs int64, cpu Interval) *Baseline {
		return &Baseline{Go: before.Go, Counts: map[string]int64{"allocations: ticket": allocs}, Ratios: map[string]Interval{"CPU: small": cpu}}
	}
	for _, c := range []struct {
		name  string
		now   *Baseline
		worse bool
		told  string // what the report must hold
	}{
		{"the same", now(2, at(0.7, 0.75, 0.8)), false, "nothing is worse"},
		{"one allocation more", now(3, at(0.7, 0.75, 0.8)), true, "WORSE   allocations: ticket: 3, and 2 in the baseline"},
		{"one allocation less", now(1, at(0.7, 0.75, 0.8)), false, "better  allocations: ticket"},
		{"a larger ratio whose interval overlaps", now(2, at(0.79, 0.95, 1.2)), false, "nothing is worse"},
		{"a ratio whose interval touches", now(2, at(0.8, 0.95, 1.2)), false, "nothing is worse"},
		{"a ratio whose interval lies above", now(2, at(0.81, 0.82, 0.83)), true, "WORSE   CPU: small: 0.82 (0.81 to 0.83), and 0.75 (0.70 to 0.80) in the baseline"},
		{"a ratio whose interval lies below", now(2, at(0.5, 0.55, 0.6)), false, "better  CPU: small"},
		{"nothing in common", &Baseline{Go: before.Go, Counts: map[string]int64{"other": 9}}, false, "nothing is worse"},
		{"another Go", &Baseline{Go: "go1.27.0"}, false, "it is of go1.26.0, and this of go1.27.0"},
	} {
		var out bytes.Buffer
		if worse := compare(&out, before, c.now); worse != c.worse || !strings.Contains(out.String(), c.told) {
			t.Errorf("%s: worse %t, want %t; told:\n%s", c.name, worse, c.worse, &out)
		}
	}
}

// A baseline that was written is the one that is read.
func TestBaselineFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline.json")
	r := &Report{
		Depth: "quick", Machine: Machine{Go: "go1.26.0"},
		Parts: &PartsResult{
			Parts:      []Part{{Name: "a", Allocs: 3, Exact: true}, {Name: "b", Allocs: 4}},
			ManyModels: Interval{Median: 1, Low: 0.9, High: 1.1, N: 7, Coverage: 0.98},
		},
		EndToEnd: &EndToEndResult{Counts: map[string]int64{"requests": 200}, Scenarios: []*ScenarioResult{{Name: "small", CPU: Interval{Median: 0.75, N: 7}}, {Name: "unknown"}}},
		Swaps:    &SwapsResult{Starts: 6, Alone: Spread{N: 2}},
	}
	if err := writeJSON(file, r.baseline()); err != nil {
		t.Fatal(err)
	}
	b, err := readBaseline(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Counts) != 3 || b.Counts["allocations: a"] != 3 || b.Counts["requests"] != 200 || b.Counts["servers started for 2 swaps of each kind"] != 6 {
		t.Errorf("the counts are %v", b.Counts)
	}
	if len(b.Ratios) != 2 || b.Ratios["CPU: small"].Median != 0.75 || b.Ratios["admission: 1,000 models to 4"] != r.Parts.ManyModels {
		t.Errorf("the ratios are %v", b.Ratios)
	}
	if compare(&bytes.Buffer{}, b, r.baseline()) {
		t.Error("a run is worse than itself")
	}
}

// The baseline that is in the repository can be read and says something.
func TestCommittedBaseline(t *testing.T) {
	b, err := readBaseline("baseline.json")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := b.Counts["allocations: "+partBook]; !ok || n != 0 {
		t.Errorf("bookkeeping has %d allocations (%t), want none", n, ok)
	}
	if b.Ratios["CPU: "+scenarioSmall].N == 0 {
		t.Error("there is no ratio of the smallest request")
	}
}

func TestReadBaselineErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline.json")
	if _, err := readBaseline(file); err == nil || !strings.Contains(err.Error(), "reading the baseline") {
		t.Errorf("a missing baseline: %v", err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readBaseline(file); err == nil || !strings.Contains(err.Error(), "baseline.json") {
		t.Errorf("half a baseline: %v", err)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      string
	}{{0.6, 0.85, statusMet}, {0.86, 0.9, statusMissed}, {0.8, 0.9, statusOpen}, {0.85, 0.9, statusOpen}} {
		if v := judge("x", 0.85, "", (c.low+c.high)/2, c.low, c.high); v.Status != c.want {
			t.Errorf("from %v to %v: %s, want %s", c.low, c.high, v.Status, c.want)
		}
	}
	if v := exactly("allocations", 0, 1); v.Status != statusMissed {
		t.Errorf("one allocation where there may be none: %s", v.Status)
	}
}
