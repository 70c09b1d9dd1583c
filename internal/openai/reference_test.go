// This file owns the slow and obviously right reading of a body, by encoding/json,
// that Scan and Edit are compared with.

package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// refPair is one member of an object; an object is a []refPair, so that keys
// given twice are seen.
type refPair struct {
	key   string
	value any
}

// refDecode reads body as one JSON value: scalars as encoding/json decodes them,
// arrays as []any, objects as []refPair. Where Python's json.loads differs from
// encoding/json, it does as package openai says. For NaN and the infinities, which
// encoding/json lacks, it gives an empty array: neither a string nor a Boolean.
func refDecode(body []byte) (any, error) {
	body = bytes.TrimPrefix(body, []byte("\uFEFF"))
	if !utf8.Valid(body) {
		return nil, errors.New("invalid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(refPlain(body)))
	d.UseNumber()
	v, err := refValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("trailing text")
	}
	return v, nil
}

// refPlain puts an empty array in the place of each NaN and Infinity.
func refPlain(body []byte) []byte {
	var out []byte
	inString := false
	for i := 0; i < len(body); {
		c := body[i]
		switch {
		case inString && c == '\\' && i+1 < len(body):
			out = append(out, c, body[i+1])
			i += 2
			continue
		case c == '"':
			inString = !inString
		case !inString:
			found := false
			for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(body[i:], []byte(word)) {
					out = append(out, "[]"...)
					i += len(word)
					found = true
					break
				}
			}
			if found {
				continue
			}
		}
		out = append(out, c)
		i++
	}
	return out
}

func refValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth >= maxDepth {
		return nil, errors.New("too deep")
	}
	if delim == '{' {
		object := []refPair{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := refValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			object = append(object, refPair{key.(string), value})
		}
		_, err = d.Token()
		return object, err
	}
	array := []any{}
	for d.More() {
		value, err := refValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		array = append(array, value)
	}
	_, err = d.Token()
	return array, err
}

// refFields is what Scan must find.
type refFields struct {
	model  string
	stream bool
	object []refPair
}

func refScan(body []byte) (refFields, error) {
	v, err := refDecode(body)
	if err != nil {
		return refFields{}, err
	}
	object, ok := v.([]refPair)
	if !ok {
		return refFields{}, errors.New("not an object")
	}
	if len(object) > maxMembers {
		return refFields{}, errors.New("too many members")
	}
	f := refFields{object: object}
	for k := range numKeys {
		values := refValues(object, k.String())
		if len(values) > 1 {
			return refFields{}, errors.New("twice")
		}
		if len(values) == 0 || values[0] == nil {
			continue
		}
		switch k {
		case KeyModel:
			if f.model, ok = values[0].(string); !ok {
				return refFields{}, errors.New("model is not a string")
			}
		case KeyStream:
			if f.stream, ok = values[0].(bool); !ok {
				return refFields{}, errors.New("stream is not a Boolean")
			}
		}
	}
	return f, nil
}

func refValues(object []refPair, key string) (values []any) {
	for _, p := range object {
		if p.key == key {
			values = append(values, p.value)
		}
	}
	return values
}

// refApply is what Edit must make of object, as nested maps in which the last of
// the keys given twice counts.
func refApply(object []refPair, model string, defaults []refPair) (any, error) {
	var kept []refPair
	for _, p := range object {
		switch {
		case p.key == "priority":
		case p.key == "model" && model != "":
		default:
			kept = append(kept, p)
		}
	}
	if model != "" {
		kept = append(kept, refPair{"model", model})
	}
	merged, err := refMerge(kept, defaults)
	return refPlainMaps(merged), err
}

func refMerge(object, defaults []refPair) ([]refPair, error) {
	for _, d := range defaults {
		n := len(refValues(object, d.key))
		if n > 1 {
			return nil, errors.New("twice")
		}
		if n == 0 {
			object = append(object, d)
			continue
		}
		for i, p := range object {
			theirs, ok1 := p.value.([]refPair)
			ours, ok2 := d.value.([]refPair)
			if p.key == d.key && ok1 && ok2 {
				inner, err := refMerge(theirs, ours)
				if err != nil {
					return nil, err
				}
				object[i].value = inner
			}
		}
	}
	return object, nil
}

// refPlainMaps turns objects into maps.
func refPlainMaps(v any) any {
	switch v := v.(type) {
	case []refPair:
		m := map[string]any{}
		for _, p := range v {
			m[p.key] = refPlainMaps(p.value)
		}
		return m
	case []any:
		for i := range v {
			v[i] = refPlainMaps(v[i])
		}
	}
	return v
}
