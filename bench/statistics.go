// This file owns the statistics: how values of several runs become one figure
// with its spread.

package main

import (
	"math"
	"slices"
)

// Spread is the middle of some values and how far they lie apart.
type Spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"` // a quarter of the values is smaller
	Q3     float64 `json:"q3"` // a quarter of the values is larger
	N      int     `json:"n"`
}

// spreadOf is the spread of values; of none, it is zero.
func spreadOf(values []float64) Spread {
	s := slices.Sorted(slices.Values(values))
	return Spread{Median: quantile(s, 0.5), Q1: quantile(s, 0.25), Q3: quantile(s, 0.75), N: len(s)}
}

// quantile interpolates between the two nearest of sorted values (Hyndman and Fan,
// type 7, as most statistics programs do). It is 0 for no values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	low := int(math.Floor(at))
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// confidence is the least probability with which an interval holds the true median.
const confidence = 0.95

// Interval is a median and where the true one lies.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	N      int     `json:"n"`
	// Coverage is the probability that the interval holds the true median: at least
	// 0.95 from six values on, less for fewer.
	Coverage float64 `json:"coverage"`
}

// intervalOf is the median of values with an interval between two of them. It
// assumes that they are independent, and nothing of how they are distributed: how
// many of n values lie below the true median is binomial with p = 1/2. So the
// narrowest pair of order statistics with enough confidence is taken, or the
// smallest and the largest value where there are too few.
func intervalOf(values []float64) Interval {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n == 0 {
		return Interval{}
	}
	cut, covered := 0, between(n, 0)
	for cut+1 < n-1-cut-1 {
		c := between(n, cut+1)
		if c < confidence {
			break
		}
		cut, covered = cut+1, c
	}
	return Interval{Median: quantile(s, 0.5), Low: s[cut], High: s[n-1-cut], N: n, Coverage: covered}
}

// between is the probability that the true median lies between the values that are
// left when cut of n are taken away at either end.
func between(n, cut int) float64 {
	outside := 0.0
	for k := range cut + 1 {
		outside += binomial(n, k)
	}
	return max(0, 1-2*outside)
}

// binomial is the probability that k of n fair coins show heads.
func binomial(n, k int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	some, _ := math.Lgamma(float64(k + 1))
	rest, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(all - some - rest - float64(n)*math.Ln2)
}

// paired combines two series of interleaved runs, run by run. What was slow for
// both, as on a machine that does other work, cancels out.
func paired(a, b []float64, combine func(a, b float64) float64) []float64 {
	n := min(len(a), len(b))
	all := make([]float64, n)
	for i := range n {
		all[i] = combine(a[i], b[i])
	}
	return all
}

func ratio(a, b float64) float64 { return a / b }

func difference(a, b float64) float64 { return a - b }
