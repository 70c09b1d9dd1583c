// This file owns what an answer tells of the tokens that it took.

package openai

import (
	"bytes"
	"strconv"
)

// Usage is how many tokens a request took, by its server's count.
type Usage struct{ Prompt, Output int64 }

// FindUsage looks for the last usage in text, which is the end of an answer or of a
// stream of events: the object under a key "usage", with OpenAI's names of its
// members (prompt_tokens, completion_tokens) or those of responses and of
// Anthropic (input_tokens, output_tokens). False means that there is none that can
// be read.
//
// The text need not begin at a boundary of JSON. Inside of a string the key's quotes
// would be escaped, so what is found is never what a model wrote.
func FindUsage(text []byte) (Usage, bool) {
	const key = `"usage"`
	for {
		i := bytes.LastIndex(text, []byte(key))
		if i < 0 {
			return Usage{}, false
		}
		if u, ok := readUsage(text, i+len(key)); ok {
			return u, true
		}
		text = text[:i]
	}
}

// readUsage reads the object that follows a key which ends at i.
func readUsage(b []byte, i int) (u Usage, found bool) {
	for _, mark := range []byte{':', '{'} {
		if i = skipSpace(b, i); i >= len(b) || b[i] != mark {
			return Usage{}, false
		}
		i++
	}
	for {
		if i = skipSpace(b, i); i >= len(b) || b[i] == '}' {
			return u, found && i < len(b)
		}
		keyEnd, value, f := skipKey(b, i)
		if f != none {
			return Usage{}, false
		}
		end, f := skipValue(b, value, 0)
		if f != none {
			return Usage{}, false
		}
		var n *int64
		switch string(b[i+1 : keyEnd-1]) {
		case "prompt_tokens", "input_tokens":
			n = &u.Prompt
		case "completion_tokens", "output_tokens":
			n = &u.Output
		}
		if n != nil {
			if v, err := strconv.ParseInt(string(b[value:end]), 10, 64); err == nil && v >= 0 {
				*n, found = v, true
			}
		}
		if i = skipSpace(b, end); i < len(b) && b[i] == ',' {
			i++
		} else if i >= len(b) || b[i] != '}' {
			return Usage{}, false
		}
	}
}
