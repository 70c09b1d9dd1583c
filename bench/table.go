// This file owns the report for people.

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// write writes all tables.
func (r *Report) write(out io.Writer) {
	m := r.Machine
	fmt.Fprintf(out, "%s, %s in %s\n%s, %s, %d processors, load %s before and %s after\n",
		r.Depth, r.Began.UTC().Format(time.RFC3339), r.Took, m.Go, m.Processor, m.Processors, m.LoadBefore, m.LoadAfter)
	fmt.Fprintln(out, "Medians; in parentheses the quartiles, or of a ratio where the true median lies with a probability of 95 %.")
	if r.Parts != nil {
		r.Parts.write(out)
	}
	if r.EndToEnd != nil {
		r.EndToEnd.write(out)
	}
	if r.Memory != nil {
		r.Memory.write(out)
	}
	if r.Swaps != nil {
		r.Swaps.write(out)
	}
	writeVerdicts(out, r.Verdicts)
}

// table begins a table of columns.
func table(out io.Writer, title string, columns ...string) *tabwriter.Writer {
	fmt.Fprintf(out, "\n%s\n", title)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row(w, columns...)
	return w
}

func row(w io.Writer, cells ...string) { fmt.Fprintln(w, "  "+strings.Join(cells, "\t")) }

// rates are the loads, in requests a second, that the share of a processor is told for.
var rates = []float64{1_000, 10_000, 100_000}

// share is how much of one processor something takes that costs so many nanoseconds.
func share(nanoseconds, rate float64) string {
	return figure(nanoseconds*rate/1e9*100, "%")
}

// ancestor is what the Python gateway that this one follows takes for its bookkeeping
// of a request, in nanoseconds: as its author tells it, and as its own program shows it
// on a machine of two processors like those of our CI.
var ancestor = []struct {
	what     string
	ns, seen float64
}{
	{"the ancestor's bookkeeping", 1200, 1400},
	{"the same with debug logging", 22_000, 19_500},
}

func (p *PartsResult) write(out io.Writer) {
	w := table(out, "Cost of one request by part: processor time, and the share of one processor at so many requests a second",
		"part", "CPU", "", "allocs", "bytes", "1,000/s", "10,000/s", "100,000/s", "")
	for _, part := range p.Parts {
		cells := []string{
			part.Name, nanos(part.CPU.Median), "(" + nanos(part.CPU.Q1) + " to " + nanos(part.CPU.Q3) + ")",
			fmt.Sprint(part.Allocs), fmt.Sprint(part.Bytes),
		}
		for _, rate := range rates {
			if part.Seldom {
				cells = append(cells, "")
				continue
			}
			cells = append(cells, share(part.CPU.Median, rate))
		}
		row(w, append(cells, part.About)...)
	}
	for _, a := range ancestor {
		cells := []string{a.what, nanos(a.ns), "(seen: " + nanos(a.seen) + ")", "", ""}
		for _, rate := range rates {
			cells = append(cells, share(a.ns, rate))
		}
		row(w, append(cells, "Python, as its study says")...)
	}
	w.Flush()
	book := p.part(partBook64).Wait
	fmt.Fprintf(out, "  Waiting for locks, %s: %s (%s to %s) a request, which is time and not processor time.\n",
		partBook64, nanos(book.Median), nanos(book.Q1), nanos(book.Q3))
	fmt.Fprintf(out, "  Admission with 1,000 models takes %s of that with 4.\n", interval(p.ManyModels))
}

func (e *EndToEndResult) write(out io.Writer) {
	where := "all on the same processors"
	if e.Pinned {
		where = "what is measured has a processor to itself"
	}
	for _, s := range e.Scenarios {
		latency := "p50"
		if s.Unit == "event" {
			latency = "first byte p50"
		}
		w := table(out, fmt.Sprintf("%s (%s)", s.Name, where),
			"", "CPU per "+s.Unit, "", latency, "added", "p99", "added", s.Unit+"s/s", "requests")
		for _, name := range s.order() {
			t := s.Targets[name]
			cpu, spread := "", ""
			if t.CPU.N > 0 {
				cpu, spread = micros(t.CPU.Median), "("+micros(t.CPU.Q1)+" to "+micros(t.CPU.Q3)+")"
			}
			added50, added99 := "", ""
			if t.AddedP50.N > 0 {
				added50, added99 = micros(t.AddedP50.Median), micros(t.AddedP99.Median)
			}
			row(w, name, cpu, spread, micros(t.P50.Median), added50, micros(t.P99.Median), added99,
				fmt.Sprintf("%.0f", t.Throughput.Median), fmt.Sprint(t.Requests))
		}
		w.Flush()
		if s.CPU.N > 0 {
			fmt.Fprintf(out, "  gateway to caddy: CPU %s, p99 %s\n", interval(s.CPU), interval(s.P99))
		}
	}
	w := table(out, "After all that", "", "memory held")
	for _, name := range []string{targetGateway, targetCaddy} {
		row(w, name, bytesText(float64(e.Resident[name])))
	}
	for _, name := range sortedKeys(e.Resident) {
		if name != targetGateway && name != targetCaddy {
			row(w, name, bytesText(float64(e.Resident[name])))
		}
	}
	for _, name := range sortedKeys(e.Counts) {
		row(w, name, fmt.Sprint(e.Counts[name]))
	}
	w.Flush()
}

// order is the targets as they are told: what is always there first.
func (s *ScenarioResult) order() []string {
	names := sortedKeys(s.Targets)
	first := []string{targetDirect, targetCaddy, targetGateway}
	slices.SortStableFunc(names, func(a, b string) int {
		return slices.Index(append(first, a), a) - slices.Index(append(first, b), b)
	})
	return names
}

func writeVerdicts(out io.Writer, all []Verdict) {
	if len(all) == 0 {
		return
	}
	w := table(out, "Targets", "", "at most", "is", "", "")
	for _, v := range all {
		row(w, v.What, figure(v.Most, v.Unit), figure(v.Is, v.Unit),
			fmt.Sprintf("(%s to %s)", figure(v.Low, ""), figure(v.High, "")), v.Status)
	}
	w.Flush()
	fmt.Fprintln(out, "  open: the target lies within the spread.")
}
