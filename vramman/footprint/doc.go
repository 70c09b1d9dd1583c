// Package footprint says how much VRAM a model takes on each of its cards, in
// parts: weights, KV cache, activation, CUDA graphs, context.
//
// [Estimate] computes the parts from what the model's files say of it and from
// how it is launched. It follows vLLM, whose sources the comments name; where
// vLLM itself cannot know before it has measured (activation, graphs, context)
// it guesses high. What it does not understand it refuses with [ErrCannot] and
// the reason: never a wrong number.
//
// Each part stands under its own [Signature], the hash of all that it depends
// on, so that a [Measured] figure of one part outlives a change that only
// touches another. [Believe] puts the two together.
//
// Files come from a [Source]: a folder, such as a snapshot in a Hugging Face
// cache, or the hub. Everything is a value; the package keeps no state.
package footprint

import (
	"errors"
	"fmt"
	"math"
)

// ErrCannot is what every refusal to estimate wraps. The text goes on with
// "because" and the reason.
var ErrCannot = errors.New("cannot estimate")

// cannot makes a refusal.
func cannot(format string, args ...any) error {
	return fmt.Errorf("%w, because %w", ErrCannot, fmt.Errorf(format, args...))
}

// ceilDiv is a/b rounded up, for a ≥ 0 and b > 0.
func ceilDiv(a, b int64) int64 { return a/b + min(a%b, 1) }

// product multiplies numbers that are not negative, and stops at the largest
// there is instead of wrapping: what comes from outside may be any number.
func product(factors ...int64) int64 {
	p := int64(1)
	for _, f := range factors {
		if f == 0 {
			return 0
		}
		if p > math.MaxInt64/f {
			p = math.MaxInt64
		} else {
			p *= f
		}
	}
	return p
}

// sum adds numbers that are not negative, and stops like product.
func sum(terms ...int64) int64 {
	var s int64
	for _, t := range terms {
		if s > math.MaxInt64-t {
			return math.MaxInt64
		}
		s += t
	}
	return s
}
