// This file owns a model's request defaults as the config gives them: checked and
// cut into members once, at load time.

package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxDefaults is how many keys one object of the defaults may have: a bit each in
// the set of those that a caller gave.
const maxDefaults = 64

// Defaults are the members that a model's config adds to a body that lacks them.
// Where caller and defaults both have an object under a key, the same holds inside
// it; in everything else the caller's value stands, null included.
type Defaults struct {
	root *defaultObject
	text string
	room int // an upper bound of the bytes they add to a body
}

// defaultObject is one object of the defaults.
type defaultObject struct{ members []defaultMember }

// defaultMember is one member of an object of the defaults.
type defaultMember struct {
	key    string
	text   []byte         // the whole member, compact: "key":value
	object *defaultObject // the value, if it is an object
}

// ParseDefaults reads a JSON object of defaults. Strict JSON is asked for, without
// NaN; a key may stand in an object only once and an object may have up to 64. At
// the top level model and priority are refused, which the gateway sets itself, and
// stream, because the shape of the answer is the caller's choice alone. The empty
// object gives defaults that add nothing.
func ParseDefaults(text []byte) (*Defaults, error) {
	i := skipSpace(text, 0)
	end, f := skipValue(text, i, 0)
	if f == none && skipSpace(text, end) < len(text) {
		f = faultTrailing
	}
	if f != none {
		return nil, fmt.Errorf("request defaults are not valid JSON: %v, at byte %d", f, end)
	}
	if text[i] != '{' {
		return nil, errors.New("request defaults must be a JSON object")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, fmt.Errorf("request defaults are not valid JSON: %w", err)
	}
	b := compact.Bytes()
	d := &Defaults{text: compact.String(), room: len(b)}
	var err error
	if d.root, err = d.parseObject(b, ""); err != nil {
		return nil, fmt.Errorf("request defaults: %w", err)
	}
	for _, m := range d.root.members {
		switch m.key {
		case "model", "priority":
			return nil, fmt.Errorf("request defaults: %s is set by the gateway itself; remove it", m.key)
		case "stream":
			return nil, errors.New("request defaults: stream is the caller's choice; remove it")
		}
	}
	return d, nil
}

// parseObject reads the object b, which is compact and valid. Its keys are named
// below path in errors.
func (d *Defaults) parseObject(b []byte, path string) (*defaultObject, error) {
	o := &defaultObject{}
	for i := 1; b[i] != '}'; {
		if b[i] == ',' {
			i++
		}
		keyEnd, value, _ := skipKey(b, i)
		end, _ := skipValue(b, value, 0)
		text, whole := appendText(nil, b[i+1:keyEnd-1])
		m := defaultMember{key: string(text), text: b[i:end]}
		name := path + m.key
		if !whole {
			return nil, fmt.Errorf("the key %q has half a surrogate pair", strings.ToValidUTF8(name, "\uFFFD"))
		}
		if o.find(b[i+1:keyEnd-1]) >= 0 {
			return nil, fmt.Errorf("%s occurs twice", name)
		}
		if len(o.members) == maxDefaults {
			return nil, fmt.Errorf("there are more than %d keys beside %s", maxDefaults, name)
		}
		if b[value] == '{' {
			var err error
			if m.object, err = d.parseObject(b[value:end], name+"."); err != nil {
				return nil, err
			}
		}
		o.members = append(o.members, m)
		d.room++ // its comma
		i = end
	}
	return o, nil
}

// find is the number of the member that raw, the inside of a JSON string, is the
// key of, or -1.
func (o *defaultObject) find(raw []byte) int {
	for n := range o.members {
		if textIs(raw, o.members[n].key) {
			return n
		}
	}
	return -1
}

// String is the defaults as compact JSON.
func (d *Defaults) String() string { return d.text }

var _ fmt.Stringer = (*Defaults)(nil)
