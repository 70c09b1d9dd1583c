package footprint

// This file reads JSON objects strictly: a field is there with the right type
// and a sensible size, or it is absent, or it is a mistake.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// object is a JSON object being read. The first mistake is kept, and what is
// read after it is zero, so that callers check once.
type object struct {
	path   string // where the object is, for errors: "config.json", "text_config"
	fields map[string]json.RawMessage
	err    error
}

// parseObject takes an object apart.
func parseObject(path string, text []byte) (*object, error) {
	o := &object{path: path}
	if err := json.Unmarshal(text, &o.fields); err != nil {
		return nil, fmt.Errorf("%s is not a JSON object: %w", path, err)
	}
	if o.fields == nil {
		return nil, fmt.Errorf("%s is null", path)
	}
	return o, nil
}

func (o *object) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf(format, args...)
	}
}

// has says whether a field is there; null counts as absent, as it does for
// the libraries that read these files.
func (o *object) has(key string) bool {
	raw, ok := o.fields[key]
	return ok && string(raw) != "null"
}

// whole reads a whole number in [least, most]; ok is false when it is absent.
// 8.0 is a whole number, "8" is not.
func (o *object) whole(key string, least, most int) (n int, ok bool) {
	if !o.has(key) {
		return 0, false
	}
	var f float64
	if err := json.Unmarshal(o.fields[key], &f); err != nil || f != math.Trunc(f) {
		o.fail("%s in %s is not a whole number", key, o.path)
		return 0, false
	}
	if f < float64(least) || f > float64(most) {
		o.fail("%s in %s is %g, not within %d and %d", key, o.path, f, least, most)
		return 0, false
	}
	return int(f), true
}

// size reads the first of the keys that is there: a number of heads, a width.
// It is a mistake when none is.
func (o *object) size(most int, keys ...string) int {
	if n := o.sizeOr(0, most, keys...); n > 0 || o.err != nil {
		return n
	}
	o.fail("%s says no %s", o.path, keys[0])
	return 0
}

// sizeOr is like size with a default.
func (o *object) sizeOr(otherwise, most int, keys ...string) int {
	for _, key := range keys {
		if n, ok := o.whole(key, 1, most); ok {
			return n
		}
	}
	return otherwise
}

// flag reads a boolean.
func (o *object) flag(key string, otherwise bool) bool {
	b := otherwise
	if o.has(key) && json.Unmarshal(o.fields[key], &b) != nil {
		o.fail("%s in %s is neither true nor false", key, o.path)
	}
	return b
}

// text reads a string; empty when it is absent.
func (o *object) text(key string) string {
	var s string
	if o.has(key) && json.Unmarshal(o.fields[key], &s) != nil {
		o.fail("%s in %s is not a text", key, o.path)
	}
	return s
}

// texts reads a list of strings, and numbers one of whole numbers; nil when
// it is absent.
func (o *object) texts(key string) []string {
	var list []string
	if o.has(key) && json.Unmarshal(o.fields[key], &list) != nil {
		o.fail("%s in %s is not a list of texts", key, o.path)
	}
	return list
}

func (o *object) numbers(key string) []int {
	var list []int
	if o.has(key) && json.Unmarshal(o.fields[key], &list) != nil {
		o.fail("%s in %s is not a list of whole numbers", key, o.path)
	}
	return list
}

// nested reads an object within; nil when it is absent.
func (o *object) nested(key string) *object {
	if !o.has(key) {
		return nil
	}
	inner, err := parseObject(key, o.fields[key])
	if err != nil {
		o.fail("%w", err)
		return nil
	}
	return inner
}

// plainJSON replaces the numbers that Python writes and JSON does not know,
// Infinity and NaN, by null. Configurations of Mamba models have them.
func plainJSON(text []byte) []byte {
	if !bytes.Contains(text, []byte("Infinity")) && !bytes.Contains(text, []byte("NaN")) {
		return text
	}
	plain := make([]byte, 0, len(text))
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\' && i+1 < len(text):
			plain = append(plain, c, text[i+1])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted:
			if n := notANumber(text[i:]); n > 0 {
				plain = append(plain, "null"...)
				i += n - 1
				continue
			}
		}
		plain = append(plain, text[i])
	}
	return plain
}

// notANumber is the length of such a number at the beginning of a text, or 0.
func notANumber(text []byte) int {
	for _, word := range []string{"-Infinity", "Infinity", "NaN"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return len(word)
		}
	}
	return 0
}
