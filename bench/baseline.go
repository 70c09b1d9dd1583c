// This file owns the baseline: what of a run must not become worse, and when it has.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// Baseline is what runs on different machines have in common. Absolute times are not
// in it: they would say something of the machine.
type Baseline struct {
	Go    string `json:"go"`
	Depth string `json:"depth"`
	// Counts are the same in every run: allocations and operations.
	Counts map[string]int64 `json:"counts"`
	// Ratios are of interleaved runs. Less is better.
	Ratios map[string]Interval `json:"ratios"`
}

// baseline is what a baseline holds of a report.
func (r *Report) baseline() *Baseline {
	b := &Baseline{Go: r.Machine.Go, Depth: r.Depth, Counts: map[string]int64{}, Ratios: map[string]Interval{}}
	if r.Parts != nil {
		for _, p := range r.Parts.Parts {
			if p.Exact {
				b.Counts["allocations: "+p.Name] = p.Allocs
			}
		}
		b.Ratios["admission: 1,000 models to 4"] = r.Parts.ManyModels
	}
	if r.EndToEnd != nil {
		maps.Copy(b.Counts, r.EndToEnd.Counts)
		for _, s := range r.EndToEnd.Scenarios {
			if s.CPU.N > 0 {
				b.Ratios["CPU: "+s.Name] = s.CPU
			}
		}
	}
	if r.Swaps != nil {
		b.Counts[fmt.Sprintf("servers started for %d swaps of each kind", r.Swaps.Alone.N)] = r.Swaps.Starts
	}
	return b
}

func readBaseline(file string) (*Baseline, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the baseline: %w", err)
	}
	b := new(Baseline)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("the baseline %s: %w", file, err)
	}
	return b, nil
}

// difference is one figure that is not as in the baseline.
type deviation struct {
	name  string
	worse bool
	text  string
}

// deviations are the figures that are worse than in the baseline, and those that
// are so much better that a new one should hold them. A figure that only one of the
// two has is passed over: depths differ.
func (b *Baseline) deviations(now *Baseline) []deviation {
	var all []deviation
	for _, name := range slices.Sorted(maps.Keys(b.Counts)) {
		before := b.Counts[name]
		if n, ok := now.Counts[name]; ok && n != before {
			all = append(all, deviation{name, n > before, fmt.Sprintf("%d, and %d in the baseline", n, before)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.Ratios)) {
		before := b.Ratios[name]
		n, ok := now.Ratios[name]
		if !ok || n.Low <= before.High && n.High >= before.Low {
			continue
		}
		all = append(all, deviation{name, n.Low > before.High, fmt.Sprintf("%.2f (%.2f to %.2f), and %.2f (%.2f to %.2f) in the baseline",
			n.Median, n.Low, n.High, before.Median, before.Low, before.High)})
	}
	return all
}

// compare tells what deviates, and whether anything is worse.
func compare(out io.Writer, before, now *Baseline) (worse bool) {
	all := before.deviations(now)
	fmt.Fprintln(out, "\nAgainst the baseline")
	if before.Go != now.Go {
		fmt.Fprintf(out, "  it is of %s, and this of %s: allocations may differ for that\n", before.Go, now.Go)
	}
	for _, d := range all {
		word := "better"
		if d.worse {
			word, worse = "WORSE ", true
		}
		fmt.Fprintf(out, "  %s  %s: %s\n", word, d.name, d.text)
	}
	if !worse {
		fmt.Fprintln(out, "  nothing is worse")
	}
	return worse
}
