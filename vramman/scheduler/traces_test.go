package scheduler_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// This file owns the traces on which eviction policies are held against each
// other: made by chance from a seed, and no recording of anybody's traffic.

// traceModel is a model of a trace.
type traceModel struct {
	name    string
	size    int64         // bytes, on one card
	loading time.Duration // from its start until it is ready
}

// traceUse is a request.
type traceUse struct {
	at      time.Time
	model   int           // which of the trace's models
	service time.Duration // how long it is served
}

// trace is a machine with its models, and the requests that come to it.
type trace struct {
	kind   string
	cards  []int64 // bytes
	slots  int     // how many models fit at once; 0: that depends on which
	models []traceModel
	uses   []traceUse // in the order of their time
}

// traceSpec is what a trace is made from.
type traceSpec struct {
	kind     string  // zipf, bursty, diurnal
	equal    bool    // all models are of one size and load in one time
	exponent float64 // of the Zipf law by which the models differ in how often they are used
	models   int
	cards    int           // of 80 GiB; four models of equal size fit on each
	gap      time.Duration // the mean time from one request to the next
	uses     int
	seed     uint64
}

func (s traceSpec) String() string {
	sizes := "unequal"
	if s.equal {
		sizes = "equal"
	}
	return fmt.Sprintf("%s %s %.1f", s.kind, sizes, s.exponent)
}

const (
	traceCard     = 80 * gib
	traceService  = 15 * time.Second // the mean
	burstUses     = 15               // the mean
	burstGap      = 40 * time.Second // the mean time between two requests of a burst
	unequalLeast  = 4 * gib
	unequalMost   = 70 * gib
	equalLoading  = 45 * time.Second
	unequalServer = 20 * time.Second // of a load, before the weights are read
)

// newTrace makes the trace of a spec, always the same.
func newTrace(s traceSpec) *trace {
	rng := rand.New(rand.NewPCG(s.seed, uint64(s.exponent*1000)))
	tr := &trace{kind: s.String(), cards: slices.Repeat([]int64{traceCard}, s.cards)}
	if s.equal {
		tr.slots = 4 * s.cards
	}
	for n := range s.models {
		m := traceModel{name: fmt.Sprintf("m%02d", n), size: traceCard / 4, loading: equalLoading}
		if !s.equal {
			// As many small models as large ones, by the logarithm; weights are read
			// at 0.5 to 2 GiB/s.
			m.size = int64(float64(unequalLeast) * math.Pow(float64(unequalMost)/float64(unequalLeast), rng.Float64()))
			seconds := float64(m.size) / float64(gib) * math.Exp2(2*rng.Float64()-1)
			m.loading = unequalServer + time.Duration(seconds*float64(time.Second)).Round(time.Second)
		}
		tr.models = append(tr.models, m)
	}
	share := zipf(rng, s.models, s.exponent)
	span := func(mean time.Duration) time.Duration { return time.Duration(rng.ExpFloat64() * float64(mean)) }
	phase := make([]float64, s.models) // when a model's day begins
	for n := range phase {
		phase[n] = rng.Float64()
	}
	use := func(at time.Time, model int) {
		tr.uses = append(tr.uses, traceUse{at: at, model: model, service: span(traceService)})
	}
	for now := start; len(tr.uses) < s.uses; {
		switch s.kind {
		case "zipf": // each request is of a model drawn by its share
			now = now.Add(span(s.gap))
			use(now, draw(rng, share))
		case "bursty": // each burst is
			now = now.Add(span(burstUses * s.gap))
			m := draw(rng, share)
			for at, n := now, int(rng.ExpFloat64()*burstUses); n >= 0; n-- {
				use(at, m)
				at = at.Add(span(burstGap))
			}
		case "diurnal": // each model has its hours, in which it is drawn by its share
			now = now.Add(span(s.gap) / 2)
			m := draw(rng, share)
			day := now.Sub(start).Hours()/24 + phase[m]
			if rng.Float64() < math.Pow(0.5+0.5*math.Sin(2*math.Pi*day), 2) {
				use(now, m)
			}
		default:
			panic("no such kind of trace: " + s.kind)
		}
	}
	slices.SortStableFunc(tr.uses, func(a, b traceUse) int { return a.at.Compare(b.at) })
	tr.uses = tr.uses[:s.uses]
	return tr
}

// zipf draws who is used how often: the n-th in favour by 1/n^exponent.
func zipf(rng *rand.Rand, models int, exponent float64) []float64 {
	share, sum := make([]float64, models), 0.0
	for n := range share {
		share[n] = math.Pow(float64(n+1), -exponent)
		sum += share[n]
	}
	for n := range share {
		share[n] /= sum
	}
	rng.Shuffle(models, func(a, b int) { share[a], share[b] = share[b], share[a] })
	return share
}

func draw(rng *rand.Rand, share []float64) int {
	x := rng.Float64()
	for n, s := range share {
		if x -= s; x < 0 {
			return n
		}
	}
	return len(share) - 1
}

// nextUses says for each request when the same model is used next, as its number
// in the trace; len(uses): never again.
func (tr *trace) nextUses() []int {
	next, of := make([]int, len(tr.uses)), make([]int, len(tr.models))
	for m := range of {
		of[m] = len(tr.uses)
	}
	for n := len(tr.uses) - 1; n >= 0; n-- {
		next[n] = of[tr.uses[n].model]
		of[tr.uses[n].model] = n
	}
	return next
}

// optimum is with how few loads the requests can be served one after the other
// where models are of equal size: by evicting the model that is used again last
// (Belady, 1966).
func (tr *trace) optimum() (loads int) {
	next, ready := tr.nextUses(), make(map[int]int) // model → its next use
	for n, u := range tr.uses {
		if _, ok := ready[u.model]; !ok {
			loads++
			if len(ready) == tr.slots {
				last, at := -1, -1
				for m, use := range ready {
					if use > at || use == at && m < last {
						last, at = m, use
					}
				}
				delete(ready, last)
			}
		}
		ready[u.model] = next[n]
	}
	return loads
}
