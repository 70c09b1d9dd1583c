// This file owns what the gateway wants to know of a JSON body: which model it
// names, whether it asks for a stream, and where its top-level members stand.

package openai

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
)

// Key is a top-level key that the gateway manages: it reads it or writes it, so
// it must mean the same to the gateway and to the server behind it.
type Key uint8

// The managed keys. The limits on generated tokens are those of chat completions
// (max_tokens, max_completion_tokens), responses (max_output_tokens) and messages
// (max_tokens); how many answers there are to be is said by n, and how many are
// computed for them by best_of.
const (
	KeyModel Key = iota
	KeyStream
	KeyPriority
	KeyMaxTokens
	KeyMaxCompletionTokens
	KeyMaxOutputTokens
	KeyN
	KeyBestOf
	numKeys
)

var keyNames = [numKeys]string{
	KeyModel:               "model",
	KeyStream:              "stream",
	KeyPriority:            "priority",
	KeyMaxTokens:           "max_tokens",
	KeyMaxCompletionTokens: "max_completion_tokens",
	KeyMaxOutputTokens:     "max_output_tokens",
	KeyN:                   "n",
	KeyBestOf:              "best_of",
}

// String is the key as it stands in a body.
func (k Key) String() string { return keyNames[k] }

// managedKey finds the managed key that raw, the inside of a JSON string, stands
// for.
func managedKey(raw []byte) (Key, bool) {
	switch string(raw) {
	case "model":
		return KeyModel, true
	case "stream":
		return KeyStream, true
	case "priority":
		return KeyPriority, true
	case "max_tokens":
		return KeyMaxTokens, true
	case "max_completion_tokens":
		return KeyMaxCompletionTokens, true
	case "max_output_tokens":
		return KeyMaxOutputTokens, true
	case "n":
		return KeyN, true
	case "best_of":
		return KeyBestOf, true
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		for k, name := range keyNames {
			if textIs(raw, name) {
				return Key(k), true
			}
		}
	}
	return 0, false
}

const (
	// maxMembers bounds what a body can make the gateway remember of it. Real ones
	// have a few dozen top-level keys at most.
	maxMembers = 1024
	// inlineMembers is how many members are remembered without an allocation.
	inlineMembers = 24
)

// span is a range of offsets in a body: from start, up to but not including end.
type span struct{ start, end int32 }

func (s span) of(body []byte) []byte { return body[s.start:s.end] }

// member is one top-level member: its key without the quotes, and its value.
type member struct{ key, value span }

// Fields is what Scan found in a body. It is valid for that body only, and as
// long as the body is not written to. It is not small: it need not outlive the
// Edit that it is for.
type Fields struct {
	// Model is the model that the body names, decoded. It is empty when the key is
	// absent, null or "", all of which vLLM reads as the model it serves. It may
	// point into the body.
	Model []byte
	// Stream is true when the body says "stream": true.
	Stream bool

	object  span            // the object, braces included
	managed [numKeys]uint16 // 1 + the number of the member, or 0
	count   int             // of members
	inline  [inlineMembers]member
	more    []member // those after the first inlineMembers
}

// Has reports whether the body has the key k at its top level.
func (f *Fields) Has(k Key) bool { return f.managed[k] != 0 }

// Value is the value of k in the body that was scanned, as it is spelt there, or
// nil when the body does not have k. Except for model and stream its type has not
// been looked at.
func (f *Fields) Value(body []byte, k Key) []byte {
	if !f.Has(k) {
		return nil
	}
	return f.member(int(f.managed[k]) - 1).value.of(body)
}

func (f *Fields) member(n int) member {
	if n < inlineMembers {
		return f.inline[n]
	}
	return f.more[n-inlineMembers]
}

func (f *Fields) add(m member) {
	if f.count < inlineMembers {
		f.inline[f.count] = m
	} else {
		f.more = append(f.more, m)
	}
	f.count++
}

// Scan reads body, which must be one JSON object, and notes what the gateway
// needs of it. The whole body is checked, as package openai says; nothing but the
// model's name is decoded.
//
// An error is an Error with status 400: the body is not such an object, a managed
// key occurs twice, model is neither a string nor null, or stream is neither a
// Boolean nor null. It has status 413 if the body is larger than 2 GiB. Scan
// allocates only for an error, for a model's name with escapes, and for a body
// with more than two dozen top-level members.
func Scan(body []byte) (f Fields, err error) {
	i, err := start(body)
	if err != nil {
		return Fields{}, err
	}
	f.object.start = int32(i)
	i = skipSpace(body, i+1)
	if i < len(body) && body[i] == '}' {
		i++
	} else if i, err = f.scanMembers(body, i); err != nil {
		return Fields{}, err
	}
	f.object.end = int32(i)
	if i = skipSpace(body, i); i < len(body) {
		return Fields{}, notJSON(faultTrailing, i)
	}
	return f, nil
}

// start returns the offset of the body's opening brace.
func start(body []byte) (int, error) {
	if len(body) > math.MaxInt32 {
		return 0, Error{Status: http.StatusRequestEntityTooLarge, Code: CodeBodyTooLarge, Message: "the body is larger than 2 GiB"}
	}
	i := 0
	if bytes.HasPrefix(body, []byte("\uFEFF")) {
		i = len("\uFEFF")
	} else if len(body) >= 2 && (body[0] == 0 || body[1] == 0 || body[0] == 0xFF && body[1] == 0xFE || body[0] == 0xFE && body[1] == 0xFF) {
		return 0, invalidBody("", "the body is not UTF-8; UTF-16 and UTF-32 are not accepted")
	}
	i = skipSpace(body, i)
	if i == len(body) {
		return 0, invalidBody("", "the body is empty; a JSON object is expected")
	}
	if body[i] != '{' {
		if at, f := skipValue(body, i, 0); f != none {
			return 0, notJSON(f, at)
		}
		return 0, invalidBody("", "the body is not a JSON object")
	}
	return i, nil
}

// scanMembers reads the members of the object, of which the first begins at i,
// and returns the offset after its closing brace.
func (f *Fields) scanMembers(body []byte, i int) (int, error) {
	for {
		keyEnd, value, flt := skipKey(body, i)
		if flt != none {
			return 0, notJSON(flt, value)
		}
		end, flt := skipValue(body, value, 1)
		if flt != none {
			return 0, notJSON(flt, end)
		}
		if f.count == maxMembers {
			return 0, invalidBody("", fmt.Sprintf("the body has more than %d top-level keys", maxMembers))
		}
		m := member{
			key:   span{int32(i + 1), int32(keyEnd - 1)},
			value: span{int32(value), int32(end)},
		}
		f.add(m)
		if k, ok := managedKey(m.key.of(body)); ok {
			if f.Has(k) {
				return 0, twice(k.String())
			}
			f.managed[k] = uint16(f.count)
			if err := f.read(k, m.value.of(body)); err != nil {
				return 0, err
			}
		}
		i = skipSpace(body, end)
		switch {
		case i >= len(body):
			return 0, notJSON(faultTruncated, len(body))
		case body[i] == '}':
			return i + 1, nil
		case body[i] != ',':
			return 0, notJSON(faultObject, i)
		}
		i = skipSpace(body, i+1)
	}
}

// read takes the value of a key whose value the gateway acts on.
func (f *Fields) read(k Key, value []byte) error {
	switch k {
	case KeyModel:
		if string(value) == "null" {
			return nil
		}
		if value[0] != '"' {
			return invalidBody("model", "model must be a string")
		}
		f.Model = value[1 : len(value)-1]
		if bytes.IndexByte(f.Model, '\\') >= 0 {
			var whole bool
			if f.Model, whole = appendText(nil, f.Model); !whole {
				return invalidBody("model", "model has half a surrogate pair")
			}
		}
	case KeyStream:
		switch string(value) {
		case "true":
			f.Stream = true
		case "false", "null":
		default:
			return invalidBody("stream", "stream must be true or false")
		}
	}
	return nil
}

func notJSON(f fault, offset int) Error {
	return invalidBody("", fmt.Sprintf("the body is not valid JSON: %v, at byte %d", f, offset))
}

func twice(key string) Error {
	return invalidBody(key, fmt.Sprintf("%s occurs twice in the body", key))
}

func invalidBody(param, message string) Error {
	return Error{Status: http.StatusBadRequest, Code: CodeInvalidBody, Param: param, Message: message}
}
