// This file owns the limits on what a body may ask for: numbers that are too large
// are lowered.

package openai

import (
	"fmt"
	"math"
	"strconv"
)

// Limits bound what a request may ask for at its top level. 0 is no limit. What the
// caller leaves out, or says is null, is left to the server.
type Limits struct {
	MaxTokens int // max_tokens, max_completion_tokens, max_output_tokens
	N         int // n, best_of
}

// maxDigits is how long a limit is at most as text.
const maxDigits = 20

// limit is one limit on the value of a key.
type limit struct {
	key Key
	max int
}

// room is an upper bound of the bytes that limits add to a body.
func (l Limits) room() int {
	if l == (Limits{}) {
		return 0
	}
	return 5 * maxDigits
}

// of is the limit on the member n of a body; its max is 0 if there is none.
func (l Limits) of(f *Fields, n int) limit {
	if l.MaxTokens > 0 {
		for _, k := range [...]Key{KeyMaxTokens, KeyMaxCompletionTokens, KeyMaxOutputTokens} {
			if int(f.managed[k]) == n+1 {
				return limit{k, l.MaxTokens}
			}
		}
	}
	if l.N > 0 {
		for _, k := range [...]Key{KeyN, KeyBestOf} {
			if int(f.managed[k]) == n+1 {
				return limit{k, l.N}
			}
		}
	}
	return limit{}
}

// clamp lowers the value of a member to its limit. Where there is one, the value
// must be a number or null: a server could take a text, such as "100", for one.
func (s *splice) clamp(l limit, m member) error {
	if l.max == 0 {
		return nil
	}
	value := m.value.of(s.body)
	if string(value) == "null" {
		return nil
	}
	if c := value[0]; !isDigit(c) && c != '-' && c != 'I' && c != 'N' {
		return invalidBody(l.key.String(), fmt.Sprintf("%s must be a number", l.key))
	}
	// A number beyond float64 is infinite here, and the error says no more.
	if x, _ := strconv.ParseFloat(string(value), 64); x <= float64(l.max) || math.IsNaN(x) {
		return nil
	}
	s.copyTo(int(m.value.start))
	s.dst = strconv.AppendInt(s.dst, int64(l.max), 10)
	s.copied = int(m.value.end)
	return nil
}
