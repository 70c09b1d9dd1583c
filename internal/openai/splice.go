// This file owns what the gateway changes in a body: one copy of its bytes, with
// pieces left out and put in at the offsets that Scan noted.

package openai

import "slices"

// Edit is what changes in a body before it goes to a server. The key priority is
// always left out: it is the gateway's, and vLLM refuses one that is not zero
// unless it schedules by priority.
type Edit struct {
	// Model is the name to put in the place of the caller's, whether the body has
	// the key or not. Empty leaves it as it is.
	Model string
	// Defaults are added where the caller gave nothing. Nil adds nothing.
	Defaults *Defaults
	// Limits are what the caller's numbers are lowered to.
	Limits Limits
}

// Apply returns the JSON object of body with the changes made; f is what Scan
// found in it. What surrounds the object, white space and a byte order mark, is
// dropped.
//
// If nothing changes, the result is a part of body. Else it is written over dst,
// which must not overlap body, and is allocated at most once if dst is too small
// or nil. The result is as long as body and all additions at most, whatever the
// caller sent.
//
// An error is an Error with status 400: a key that the defaults would fill occurs
// twice, so that two readers could differ on what the caller gave; or what a limit
// is for is no number.
func (e Edit) Apply(dst, body []byte, f *Fields) ([]byte, error) {
	s := splice{dst: dst[:0], body: body, copied: int(f.object.start)}
	s.room = int(f.object.end-f.object.start) + len(`,"model":""`) + len(`\u0000`)*len(e.Model) + e.Limits.room()
	var defaults *defaultObject
	if e.Defaults != nil {
		defaults = e.Defaults.root
		s.room += e.Defaults.room
	}

	var given uint64 // the defaults that the caller gave
	kept := 0
	keptEnd := int(f.object.start) + 1 // after the brace or the last member kept
	for n := range f.count {
		m := f.member(n)
		switch n + 1 {
		case int(f.managed[KeyModel]):
			if e.Model != "" && e.Model != string(f.Model) {
				s.copyTo(int(m.value.start))
				s.dst = appendString(s.dst, e.Model)
				s.copied = int(m.value.end)
			}
		case int(f.managed[KeyPriority]):
			// One comma goes with it: the one before, or the one after if none is before.
			s.copyTo(keptEnd)
			s.copied = int(m.value.end)
			if kept == 0 && n+1 < f.count {
				s.copied = int(f.member(n+1).key.start) - 1
			}
			continue
		default:
			if defaults != nil {
				if _, err := s.fill(defaults, &given, m.key.of(body), int(m.value.start)); err != nil {
					return nil, err
				}
			}
			if err := s.clamp(e.Limits.of(f, n), m); err != nil {
				return nil, err
			}
		}
		kept++
		keptEnd = int(m.value.end)
	}

	closing := int(f.object.end) - 1
	if e.Model != "" && !f.Has(KeyModel) {
		s.copyTo(closing)
		if kept > 0 {
			s.dst = append(s.dst, ',')
		}
		s.dst = append(s.dst, `"model":`...)
		s.dst = appendString(s.dst, e.Model)
		kept++
	}
	if defaults != nil {
		s.addMissing(defaults, given, closing, kept > 0)
	}
	if !s.changed {
		return f.object.of(body), nil
	}
	s.copyTo(int(f.object.end))
	return s.dst, nil
}

// splice is a copy in the making.
type splice struct {
	dst, body []byte
	copied    int  // up to here body has been copied, or left out
	room      int  // an upper bound of the length of the result
	changed   bool // something has been copied, because something changes
}

// copyTo copies the body up to the offset i.
func (s *splice) copyTo(i int) {
	if !s.changed {
		s.changed = true
		s.dst = slices.Grow(s.dst, s.room)
	}
	s.dst = append(s.dst, s.body[s.copied:i]...)
	s.copied = i
}

// fill looks whether o has a default for the member of the caller with the key
// raw and the value at the offset value. If so it marks it as given, and adds what
// is missing inside it if both are objects. It returns the offset after the value
// if it had to find it, else 0.
func (s *splice) fill(o *defaultObject, given *uint64, raw []byte, value int) (int, error) {
	n := o.find(raw)
	if n < 0 {
		return 0, nil
	}
	m := &o.members[n]
	if *given&(1<<n) != 0 {
		return 0, twice(m.key)
	}
	*given |= 1 << n
	if m.object == nil || s.body[value] != '{' {
		return 0, nil
	}
	return s.merge(m.object, value)
}

// merge adds what is missing in the caller's object, which begins at i, and
// returns the offset after it. The text is known to be valid.
func (s *splice) merge(o *defaultObject, i int) (int, error) {
	var given uint64
	i = skipSpace(s.body, i+1)
	empty := s.body[i] == '}'
	for s.body[i] != '}' {
		if s.body[i] == ',' {
			i = skipSpace(s.body, i+1)
		}
		keyEnd, value, _ := skipKey(s.body, i)
		end, err := s.fill(o, &given, s.body[i+1:keyEnd-1], value)
		if err != nil {
			return 0, err
		}
		if end == 0 {
			end, _ = skipValue(s.body, value, 0)
		}
		i = skipSpace(s.body, end)
	}
	s.addMissing(o, given, i, !empty)
	return i + 1, nil
}

// addMissing adds the members of o that are not among given, before the closing
// brace at the offset closing. comma tells whether others stand before them.
func (s *splice) addMissing(o *defaultObject, given uint64, closing int, comma bool) {
	for n := range o.members {
		if given&(1<<n) != 0 {
			continue
		}
		s.copyTo(closing)
		if comma {
			s.dst = append(s.dst, ',')
		}
		s.dst = append(s.dst, o.members[n].text...)
		comma = true
	}
}
