// This file owns the reading of JSON values: where a number, a literal, an array
// or an object ends, and whether it is well formed. Nothing is decoded. Strings
// are in text.go.

package openai

// maxDepth is how deep a body may nest: far deeper than any schema, and less
// than what Python's decoder stands (about 1,000 frames, some already used).
const maxDepth = 512

// fault is what is wrong with a text, or none.
type fault uint8

const (
	none fault = iota
	faultTruncated
	faultUTF8
	faultControl
	faultEscape
	faultNumber
	faultValue
	faultKey
	faultColon
	faultArray
	faultObject
	faultDepth
	faultTrailing
)

var faultTexts = [...]string{
	none:           "nothing",
	faultTruncated: "it ends too early",
	faultUTF8:      "invalid UTF-8",
	faultControl:   "control character in a string",
	faultEscape:    "invalid escape in a string",
	faultNumber:    "invalid number",
	faultValue:     "a value is expected",
	faultKey:       "a key in double quotes is expected",
	faultColon:     `":" is expected after a key`,
	faultArray:     `"," or "]" is expected`,
	faultObject:    `"," or "}" is expected`,
	faultDepth:     "nested too deeply",
	faultTrailing:  "more text after the object",
}

// String tells the fault in words that follow "the body is not valid JSON: ".
func (f fault) String() string { return faultTexts[f] }

// skipSpace returns the offset of the first byte from i on that is not JSON's
// white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipNumber returns the offset after the number that begins at i, where a
// digit or a minus sign stands.
func skipNumber(b []byte, i int) (int, fault) {
	if b[i] == '-' {
		i++
		if i < len(b) && b[i] == 'I' {
			return skipLiteral(b, i, "Infinity")
		}
	}
	switch {
	case i >= len(b):
		return len(b), faultTruncated
	case b[i] == '0':
		i++
	case isDigit(b[i]):
		i = skipDigits(b, i+1)
	default:
		return i, faultNumber
	}
	if i < len(b) && b[i] == '.' {
		i++
		if i >= len(b) {
			return len(b), faultTruncated
		}
		if !isDigit(b[i]) {
			return i, faultNumber
		}
		i = skipDigits(b, i+1)
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if i >= len(b) {
			return len(b), faultTruncated
		}
		if !isDigit(b[i]) {
			return i, faultNumber
		}
		i = skipDigits(b, i+1)
	}
	return i, none
}

func isDigit(c byte) bool { return c-'0' <= 9 }

func skipDigits(b []byte, i int) int {
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i
}

// skipIntegers returns the offset after the run of elements of an array, each a
// natural number and its comma, that begins at i; another element begins there. It
// is what makes a prompt of token numbers quick to read.
func skipIntegers(b []byte, i int) int {
	for i < len(b) && isDigit(b[i]) {
		end := i + 1
		if b[i] != '0' {
			end = skipDigits(b, end)
		}
		if end >= len(b) || b[end] != ',' {
			break
		}
		i = end + 1
		if i < len(b) && b[i] == ' ' {
			i++
		}
	}
	return skipSpace(b, i)
}

// skipLiteral returns the offset after word, which must stand at i.
func skipLiteral(b []byte, i int, word string) (int, fault) {
	for j := range len(word) {
		if i+j >= len(b) {
			return len(b), faultTruncated
		}
		if b[i+j] != word[j] {
			return i, faultValue
		}
	}
	return i + len(word), none
}

// skipScalar returns the offset after the string, number or literal that begins
// at i, which is less than len(b).
func skipScalar(b []byte, i int) (int, fault) {
	switch c := b[i]; c {
	case '"':
		return skipString(b, i+1)
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return skipNumber(b, i)
	case 't':
		return skipLiteral(b, i, "true")
	case 'f':
		return skipLiteral(b, i, "false")
	case 'n':
		return skipLiteral(b, i, "null")
	case 'N':
		return skipLiteral(b, i, "NaN")
	case 'I':
		return skipLiteral(b, i, "Infinity")
	default:
		return i, faultValue
	}
}

// skipKey returns the offset after the key that begins at i, and that of the
// value after its colon. No white space is skipped before the key.
func skipKey(b []byte, i int) (end, value int, f fault) {
	if i >= len(b) {
		return len(b), len(b), faultTruncated
	}
	if b[i] != '"' {
		return i, i, faultKey
	}
	if end, f = skipString(b, i+1); f != none {
		return end, end, f
	}
	i = skipSpace(b, end)
	if i >= len(b) {
		return len(b), len(b), faultTruncated
	}
	if b[i] != ':' {
		return i, i, faultColon
	}
	return end, skipSpace(b, i+1), none
}

// skipValue returns the offset after the value that begins at i, inside depth
// objects or arrays. On a fault it is the offset of the fault.
func skipValue(b []byte, i, depth int) (int, fault) {
	if i >= len(b) {
		return len(b), faultTruncated
	}
	if b[i] != '{' && b[i] != '[' {
		return skipScalar(b, i)
	}
	// One bit for each open container: set for an object.
	var open [(maxDepth + 63) / 64]uint64
	var f fault
	outer := depth
	for {
		// A value begins at i.
		if i >= len(b) {
			return len(b), faultTruncated
		}
		c := b[i]
		if c == '{' || c == '[' {
			if depth >= maxDepth {
				return i, faultDepth
			}
			bit := uint64(1) << (depth % 64)
			i = skipSpace(b, i+1)
			if c == '{' {
				open[depth/64] |= bit
				depth++
				if i >= len(b) || b[i] != '}' {
					if _, i, f = skipKey(b, i); f != none {
						return i, f
					}
					continue
				}
			} else {
				open[depth/64] &^= bit
				depth++
				if i >= len(b) || b[i] != ']' {
					i = skipIntegers(b, i)
					continue
				}
			}
		} else {
			if i, f = skipScalar(b, i); f != none {
				return i, f
			}
			i = skipSpace(b, i)
		}
		// A value, or an empty container's opening, is behind: close what ends here.
		for {
			if i >= len(b) {
				return len(b), faultTruncated
			}
			object := open[(depth-1)/64]&(1<<((depth-1)%64)) != 0
			c := b[i]
			if c == ',' {
				i = skipSpace(b, i+1)
				if object {
					if _, i, f = skipKey(b, i); f != none {
						return i, f
					}
				} else {
					i = skipIntegers(b, i)
				}
				break
			}
			if object && c != '}' {
				return i, faultObject
			}
			if !object && c != ']' {
				return i, faultArray
			}
			i++
			depth--
			if depth == outer {
				return i, none
			}
			i = skipSpace(b, i)
		}
	}
}
