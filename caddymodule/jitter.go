// This file owns the spread of the times at which clients are told to come back:
// those who are refused at one moment must not all return at one moment.

package caddymodule

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// jitterShare is by how much of itself a time is made longer or shorter at most.
const jitterShare = 0.2

// retryJitter spreads the times that this process tells.
var retryJitter = newJitter(rand.Uint64())

// jitter draws numbers that depend on its seed and on how many were drawn before
// alone: SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number
// Generators", OOPSLA 2014), whose state is a counter, so that no lock is needed.
type jitter struct{ state atomic.Uint64 }

func newJitter(seed uint64) *jitter {
	j := new(jitter)
	j.state.Store(seed)
	return j
}

// share draws a number of at least 0 and less than 1.
func (j *jitter) share() float64 {
	z := j.state.Add(0x9e3779b97f4a7c15)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// spread returns a time near d that clients may be told: up to a fifth longer or
// shorter, from minRetryAfter to maxRetryAfter.
func (j *jitter) spread(d time.Duration) time.Duration {
	d = min(max(d, minRetryAfter), maxRetryAfter)
	around := time.Duration(jitterShare * float64(d))
	from, to := max(d-around, minRetryAfter), min(d+around, maxRetryAfter)
	return from + time.Duration(j.share()*float64(to-from))
}
