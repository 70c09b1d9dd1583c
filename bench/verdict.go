// This file owns the targets, and what the figures say of them.

package main

import "fmt"

// Verdict is a target and how far it is kept.
type Verdict struct {
	What   string  `json:"what"`
	Most   float64 `json:"most"` // the target: not more than this
	Unit   string  `json:"unit"`
	Is     float64 `json:"is"`
	Low    float64 `json:"low"` // where the true figure lies: the interval of a ratio, the quartiles of others
	High   float64 `json:"high"`
	Status string  `json:"status"`
}

// What a verdict says.
const (
	statusMet    = "met"
	statusMissed = "missed"
	// statusOpen: the target lies within the spread, so that more runs, or a quieter
	// machine, could tell either.
	statusOpen = "open"
)

func judge(what string, most float64, unit string, is, low, high float64) Verdict {
	v := Verdict{What: what, Most: most, Unit: unit, Is: is, Low: low, High: high, Status: statusOpen}
	switch {
	case high <= most:
		v.Status = statusMet
	case low > most:
		v.Status = statusMissed
	}
	return v
}

func ofSpread(what string, most float64, unit string, s Spread, scale float64) Verdict {
	return judge(what, most, unit, s.Median/scale, s.Q1/scale, s.Q3/scale)
}

func ofInterval(what string, most float64, unit string, i Interval) Verdict {
	return judge(what, most, unit, i.Median, i.Low, i.High)
}

func exactly(what string, most, is int64) Verdict {
	return judge(what, float64(most), "", float64(is), float64(is), float64(is))
}

// The targets.
const (
	mostBookkeeping = 250  // ns
	mostDebug       = 3    // µs
	mostMegabyte    = 0.3  // ms
	mostDense       = 3    // ms
	mostPlan        = 1    // ms
	mostSmall       = 0.85 // of a bare Caddy
	mostLarge       = 1.0
	mostEvent       = 1.0
	mostStream      = 1.0
	mostWaiting     = 1024 // bytes
	mostFirstByte   = 50   // ms
	mostSwap        = 250  // ms
)

// verdicts are those of all groups that were measured.
func verdicts(r *Report) []Verdict {
	var all []Verdict
	if r.Parts != nil {
		all = append(all, partVerdicts(r.Parts)...)
	}
	if r.EndToEnd != nil {
		all = append(all, endToEndVerdicts(r.EndToEnd)...)
	}
	if r.Memory != nil {
		all = append(all, memoryVerdicts(r.Memory)...)
	}
	if r.Swaps != nil {
		all = append(all, swapVerdicts(r.Swaps)...)
	}
	return all
}

func partVerdicts(p *PartsResult) []Verdict {
	book := p.part(partBook)
	line := p.part(partLine).CPU
	return []Verdict{
		ofSpread(partBook, mostBookkeeping, "ns", book.CPU, 1),
		ofSpread(partBook64, mostBookkeeping, "ns", p.part(partBook64).CPU, 1),
		exactly(partBook+": allocations", 0, book.Allocs),
		judge("bookkeeping with debug logging", mostDebug, "µs", (book.CPU.Median+line.Median)/1e3, (book.CPU.Q1+line.Q1)/1e3, (book.CPU.Q3+line.Q3)/1e3),
		ofSpread(partMegabyte, mostMegabyte, "ms", p.part(partMegabyte).CPU, 1e6),
		ofSpread(partDense, mostDense, "ms", p.part(partDense).CPU, 1e6),
		ofInterval("admission with 1,000 models, of that with 4", 1, "", p.ManyModels),
		ofSpread(partPlan, mostPlan, "ms", p.part(partPlan).CPU, 1e6),
	}
}

func endToEndVerdicts(e *EndToEndResult) []Verdict {
	var all []Verdict
	cpu := func(scenario string, most float64) {
		if s := e.find(scenario); s != nil && s.CPU.N > 0 {
			all = append(all, ofInterval(fmt.Sprintf("CPU of a bare Caddy's: %s", scenario), most, "", s.CPU))
		}
	}
	cpu(scenarioSmall, mostSmall)
	cpu(scenario100KB, mostLarge)
	cpu(scenarioStreams, mostEvent)
	cpu(scenarioBurst, mostEvent)
	if s := e.find(scenarioSmall); s != nil && s.AddedP99.N > 0 {
		all = append(all, ofInterval("p99 added beyond what Caddy adds: "+scenarioSmall, 0, "µs", s.AddedP99))
	}
	return all
}
