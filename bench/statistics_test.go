package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{nil, Spread{}},
		{[]float64{7}, Spread{7, 7, 7, 1}},
		{[]float64{4, 2}, Spread{3, 2.5, 3.5, 2}},
		{[]float64{5, 1, 4, 2, 3}, Spread{3, 2, 4, 5}},
		{[]float64{1, 2, 3, 4, 5, 1000}, Spread{3.5, 2.25, 4.75, 6}},
	} {
		values := slices.Clone(c.values)
		got := spreadOf(values)
		if !near(got.Median, c.want.Median) || !near(got.Q1, c.want.Q1) || !near(got.Q3, c.want.Q3) || got.N != c.want.N {
			t.Errorf("the spread of %v is %+v, want %+v", c.values, got, c.want)
		}
		if !slices.Equal(values, c.values) {
			t.Errorf("%v was sorted in place: series are paired run by run", c.values)
		}
	}
}

// The intervals are those of tables of the sign test: for n values the narrowest pair
// of order statistics with a confidence of 95 %.
func TestInterval(t *testing.T) {
	for _, c := range []struct {
		n, cut   int
		coverage float64
	}{
		{1, 0, 0},
		{2, 0, 0.5},
		{5, 0, 0.9375},
		{6, 0, 0.96875},
		{7, 0, 0.984375},
		{8, 0, 0.9921875},
		{9, 1, 0.9609375},
		{11, 1, 0.98828125},
		{12, 2, 0.96142578125},
		{15, 3, 0.96484375},
		{20, 5, 0.9586105346679688},
	} {
		values := make([]float64, c.n)
		for i := range values {
			values[i] = float64(i)
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(c.n, func(i, j int) { values[i], values[j] = values[j], values[i] })
		got := intervalOf(values)
		want := Interval{Median: float64(c.n-1) / 2, Low: float64(c.cut), High: float64(c.n - 1 - c.cut), N: c.n, Coverage: c.coverage}
		if !near(got.Coverage, want.Coverage) || got.Low != want.Low || got.High != want.High || got.Median != want.Median || got.N != want.N {
			t.Errorf("the interval of %d values is %+v, want %+v", c.n, got, want)
		}
	}
	if got := intervalOf(nil); got != (Interval{}) {
		t.Errorf("the interval of nothing is %+v", got)
	}
}

// Intervals hold the true median as often as they say, whatever the distribution.
func TestIntervalCovers(t *testing.T) {
	const seed, tries = 1, 20_000
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{6, 11, 15} {
		held, coverage := 0, 0.0
		for range tries {
			values := make([]float64, n)
			for i := range values {
				values[i] = rng.ExpFloat64()
			}
			got := intervalOf(values)
			if coverage = got.Coverage; got.Low <= math.Ln2 && math.Ln2 <= got.High {
				held++
			}
		}
		if share := float64(held) / tries; math.Abs(share-coverage) > 0.01 {
			t.Errorf("seed %d: of %d values, %.3f of the intervals hold the median; they say %.3f", seed, n, share, coverage)
		}
	}
}

// What slows both of a pair down does not show in their ratio.
func TestPaired(t *testing.T) {
	a, b := []float64{7, 70, 14, 1}, []float64{10, 100, 20}
	if got := intervalOf(paired(a, b, ratio)); got.Low != 0.7 || got.High != 0.7 || got.N != 3 {
		t.Errorf("the ratio is %+v", got)
	}
	if got := paired(a, b, difference); !slices.Equal(got, []float64{-3, -30, -6}) {
		t.Errorf("the differences are %v", got)
	}
}
