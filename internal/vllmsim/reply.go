// The text of replies, made of the prompt's own words.

package vllmsim

import (
	"slices"
	"strconv"
	"strings"
)

// reply is what one sequence generates: words, a token each.
type reply struct {
	words  []string // the natural reply; numbered words follow it
	length int      // tokens
	reason string   // "stop" or "length"
}

// newReply plans the reply to a message. limit is the most tokens it may have.
func newReply(message string, limit int, p *sampling, fixed int) reply {
	r := reply{words: append([]string{"You", "said:"}, strings.Fields(message)...), reason: "stop"}
	r.length = len(r.words)
	if fixed > 0 {
		r.length = fixed
	}
	r.length = max(r.length, p.MinTokens)
	if r.length > limit || p.IgnoreEOS {
		r.length, r.reason = limit, "length"
	}
	return r
}

// token is the text of one token, with the space before it.
func (r reply) token(i int) string {
	word := "word" + strconv.Itoa(i+1)
	if i < len(r.words) {
		word = r.words[i]
	}
	if i > 0 {
		return " " + word
	}
	return word
}

// text is that of the first n tokens.
func (r reply) text(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(r.token(i))
	}
	return b.String()
}

// replies plans one reply for each message and each of its n samples.
func replies(messages []string, limit int, p *sampling, fixed int) []reply {
	var all []reply
	for _, m := range messages {
		all = append(all, slices.Repeat([]reply{newReply(m, limit, p, fixed)}, p.samples())...)
	}
	return all
}

// countTokens is the length of a text as the stand-in's tokenizer sees it.
func countTokens(text string) int { return len(strings.Fields(text)) }
