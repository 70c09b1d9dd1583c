// This file owns the measuring of parts: processor time and allocations of each,
// over interleaved repetitions.

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// Part is what was measured of a part.
type Part struct {
	Name   string `json:"name"`
	About  string `json:"about,omitempty"`
	Seldom bool   `json:"seldom,omitempty"` // not done for each request
	// CPU is the processor time of one, in nanoseconds, all threads together and
	// garbage collection included.
	CPU Spread `json:"cpu_ns"`
	// Wait is how long goroutines waited for a lock, in nanoseconds, all together.
	Wait   Spread `json:"lock_wait_ns"`
	Allocs int64  `json:"allocs"`
	Bytes  int64  `json:"bytes"`
	// Exact says that Allocs is the same in every run.
	Exact bool      `json:"exact"`
	times []float64 // the repetitions, in their order
	waits []float64 // likewise
}

// PartsResult is group A.
type PartsResult struct {
	Parts []Part `json:"parts"`
	// ManyModels is the ratio of a request's admission with 1,000 models configured to
	// the same with 4.
	ManyModels Interval `json:"many_models"`
}

const ballastBytes = 64 << 20

// variant is a configuration under which parts are measured.
type variant struct {
	level  string
	models int
	parts  func(*rig) []part
}

// measureParts measures all parts, each for slice in each repetition.
func measureParts(reps int, slice time.Duration) (*PartsResult, error) {
	dir, err := os.MkdirTemp("", "bench-parts")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	defer func() { _ = caddy.Stop() }()
	// How often the garbage collector runs depends on how large the heap is. With this
	// it is about as large as a gateway's that serves, whatever is configured.
	ballast := make([]byte, ballastBytes)
	defer runtime.KeepAlive(ballast)
	variants := []variant{
		{"INFO", 4, func(r *rig) []part {
			return append(append(scanParts(), modelParts(r)...), proxyParts(r)...)
		}},
		// The same handler under three configurations, and under each the first and only
		// thing: what a process did before shows in such small figures.
		{"INFO", 4, func(r *rig) []part {
			return []part{handlerPart(r, partAdmission, "route, body, model, ticket, headers")}
		}},
		{"DEBUG", 4, func(r *rig) []part {
			return []part{handlerPart(r, partDebug, "one line, thrown away")}
		}},
		{"INFO", 1000, func(r *rig) []part {
			return []part{handlerPart(r, partThousand, "")}
		}},
	}
	meters := map[string]*meter{}
	var order []*meter
	// The first repetition warms up, and finds out how often a part is done in a slice.
	for rep := range reps + 1 {
		// Every time in another order, so that none always follows the same other.
		for _, k := range rand.New(rand.NewPCG(uint64(rep), 0)).Perm(len(variants)) {
			v := variants[k]
			r, err := newRig(dir, v.level, v.models)
			if err != nil {
				return nil, err
			}
			for n, p := range v.parts(r) {
				m := meters[p.name]
				if m == nil {
					m = &meter{place: [2]int{k, n}, Part: Part{Name: p.name, About: p.about, Seldom: p.seldom, Exact: !p.inexact}}
					meters[p.name], order = m, append(order, m)
				}
				if err := m.measure(p, rep == 0, slice); err != nil {
					return nil, fmt.Errorf("%s: %w", p.name, err)
				}
			}
		}
	}
	slices.SortFunc(order, func(a, b *meter) int { return slices.Compare(a.place[:], b.place[:]) })
	return partsResult(order, meters), nil
}

// partsResult makes the table of what was measured, with the parts that are the
// difference of two.
func partsResult(order []*meter, meters map[string]*meter) *PartsResult {
	res := new(PartsResult)
	for _, m := range order {
		m.CPU, m.Wait = spreadOf(m.times), spreadOf(m.waits)
		res.Parts = append(res.Parts, m.Part)
	}
	minus := func(name, about, whole, without string) {
		a, b := meters[whole], meters[without]
		res.Parts = append(res.Parts, Part{
			Name: name, About: about, CPU: spreadOf(paired(a.times, b.times, difference)),
			Allocs: a.Allocs - b.Allocs, Bytes: a.Bytes - b.Bytes, Exact: a.Exact && b.Exact,
			times: paired(a.times, b.times, difference),
		})
	}
	minus(partLine, "with debug less without", partDebug, partAdmission)
	minus(partUpstream, "lease, retry wrapper, headers, usage; less the standard proxy", partGateway, partAdmission)
	last := &res.Parts[len(res.Parts)-1]
	last.times = paired(last.times, meters[partStandard].times, difference)
	last.CPU = spreadOf(last.times)
	last.Allocs -= meters[partStandard].Allocs
	last.Bytes -= meters[partStandard].Bytes
	res.ManyModels = intervalOf(paired(meters[partThousand].times, meters[partAdmission].times, ratio))
	return res
}

// The parts that are differences.
const (
	partLine     = "the debug line"
	partUpstream = "vllm_upstream beyond a proxy"
)

// part finds a part by its name; nil: it was not measured.
func (r *PartsResult) part(name string) *Part {
	for i := range r.Parts {
		if r.Parts[i].Name == name {
			return &r.Parts[i]
		}
	}
	return nil
}

// meter measures one part.
type meter struct {
	Part
	place [2]int // in the report: of its variant, and within that
	n     int    // how often it is done in a slice
}

// measure does the part for a slice of time.
func (m *meter) measure(p part, first bool, slice time.Duration) error {
	if first {
		if err := m.calibrate(p, slice); err != nil {
			return err
		}
		return m.countAllocations(p)
	}
	if err := p.do(max(1, m.n/4)); err != nil { // warms up: a configuration has just been loaded
		return err
	}
	runtime.GC()
	waited, before := lockWait(), selfCPU()
	if err := p.do(m.n); err != nil {
		return err
	}
	took := selfCPU() - before
	m.times = append(m.times, float64(took)/float64(m.n))
	m.waits = append(m.waits, (lockWait()-waited)*1e9/float64(m.n))
	return nil
}

// lockWait is how long goroutines of this process have waited for locks, in seconds.
func lockWait() float64 {
	s := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64()
}

// calibrate finds out how often the part is done in a slice.
func (m *meter) calibrate(p part, slice time.Duration) error {
	for m.n = 1; ; m.n *= 2 {
		began := time.Now()
		if err := p.do(m.n); err != nil {
			return err
		}
		if took := time.Since(began); took > slice/4 {
			m.n = max(1, int(float64(m.n)*float64(slice)/float64(took)))
			return nil
		}
	}
}

// countAllocations counts exactly, where that is possible: the garbage collector,
// which empties pools, is off, and of several tries the least counts, since what
// other goroutines allocate meanwhile only adds.
func (m *meter) countAllocations(p part) error {
	const tries = 5
	n := min(m.n, 2000)
	if n >= goroutines {
		n -= n % goroutines
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	m.Allocs, m.Bytes = math.MaxInt64, math.MaxInt64
	for range tries {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := p.do(n); err != nil {
			return err
		}
		runtime.ReadMemStats(&after)
		m.Allocs = min(m.Allocs, int64(after.Mallocs-before.Mallocs)/int64(n))
		m.Bytes = min(m.Bytes, int64(after.TotalAlloc-before.TotalAlloc)/int64(n))
	}
	return nil
}
