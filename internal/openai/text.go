// This file owns JSON strings: finding where one ends, decoding what was read,
// and encoding what is written.

package openai

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// A word with the same byte eight times.
const (
	lowBits  = 0x0101010101010101
	highBits = 0x80 * lowBits
)

// special marks, with the high bit of its byte, the first of the eight bytes of
// w that does not simply belong to a string: a quote, a backslash, a control
// character, or a byte of a multi-byte character. A borrow can mark later bytes
// wrongly, never earlier ones, so the lowest mark is right and no mark means
// none.
func special(w uint64) uint64 {
	quote, backslash := w^(lowBits*'"'), w^(lowBits*'\\')
	return ((w - lowBits*0x20) | (quote - lowBits) | (backslash - lowBits) | w) & highBits
}

// skipString returns the offset after the string whose first byte after the
// opening quote is at i. On a fault it is the offset of the fault.
func skipString(b []byte, i int) (int, fault) {
	for {
		// Long texts are what bodies consist of: eight bytes a step, four steps a turn.
		for len(b)-i >= 32 {
			p := b[i : i+32 : i+32]
			w0, w1 := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
			w2, w3 := binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:])
			m0, m1, m2, m3 := special(w0), special(w1), special(w2), special(w3)
			if m0|m1|m2|m3 == 0 {
				i += 32
				continue
			}
			switch {
			case m0 != 0:
				i += bits.TrailingZeros64(m0) / 8
			case m1 != 0:
				i += 8 + bits.TrailingZeros64(m1)/8
			case m2 != 0:
				i += 16 + bits.TrailingZeros64(m2)/8
			default:
				i += 24 + bits.TrailingZeros64(m3)/8
			}
			goto found
		}
		for i < len(b) && b[i] >= 0x20 && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i >= len(b) {
			return len(b), faultTruncated
		}
	found:
		var f fault
		switch c := b[i]; {
		case c == '"':
			return i + 1, none
		case c == '\\':
			i, f = skipEscapes(b, i)
		case c < 0x20:
			return i, faultControl
		default:
			i, f = skipMultibyte(b, i)
		}
		if f != none {
			return i, f
		}
	}
}

// skipEscapes returns the offset after the run of escapes that begins at i.
func skipEscapes(b []byte, i int) (int, fault) {
	for i < len(b) && b[i] == '\\' {
		if i+1 >= len(b) {
			return len(b), faultTruncated
		}
		switch b[i+1] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i += 2
		case 'u':
			if len(b)-i < 6 {
				for j := i + 2; j < len(b); j++ {
					if hexValue[b[j]] > 0xF {
						return i, faultEscape
					}
				}
				return len(b), faultTruncated
			}
			p := b[i+2 : i+6 : i+6]
			if hexValue[p[0]]|hexValue[p[1]]|hexValue[p[2]]|hexValue[p[3]] > 0xF {
				return i, faultEscape
			}
			i += 6
		default:
			return i, faultEscape
		}
	}
	return i, none
}

// hexValue is the value of a hexadecimal digit, or 0xFF for any other byte.
var hexValue = func() (t [256]uint8) {
	for i := range t {
		t[i] = 0xFF
	}
	for i := range 10 {
		t['0'+i] = uint8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = uint8(10+i), uint8(10+i)
	}
	return t
}()

// skipMultibyte returns the offset after the run of characters outside ASCII
// that begins at i, in the UTF-8 of RFC 3629: no surrogates, no overlong forms,
// nothing above U+10FFFF.
func skipMultibyte(b []byte, i int) (int, fault) {
	for len(b)-i >= 4 {
		// The first byte is the lowest of the word. Each test looks at the lead's
		// length bits and at all of its continuation bytes' at once.
		w := binary.LittleEndian.Uint32(b[i:])
		lead, second := byte(w), byte(w>>8)
		switch {
		case w&0x80 == 0:
			return i, none
		case w&0xC0C0F0 == 0x8080E0:
			if lead == 0xE0 && second < 0xA0 || lead == 0xED && second > 0x9F {
				return i, faultUTF8
			}
			i += 3
		case w&0xC0E0 == 0x80C0:
			if lead < 0xC2 {
				return i, faultUTF8
			}
			i += 2
		case w&0xC0C0C0F8 == 0x808080F0:
			if lead == 0xF0 && second < 0x90 || lead == 0xF4 && second > 0x8F || lead > 0xF4 {
				return i, faultUTF8
			}
			i += 4
		default:
			return i, faultUTF8
		}
	}
	for i < len(b) && b[i] >= utf8.RuneSelf {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n <= 1 {
			if !utf8.FullRune(b[i:]) {
				return len(b), faultTruncated
			}
			return i, faultUTF8
		}
		i += n
	}
	return i, none
}

// textIs reports whether raw, the inside of a JSON string that Scan has found
// well formed, stands for want.
func textIs(raw []byte, want string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == want
	}
	if len(raw) > len(`\u0000`)*len(want) {
		return false
	}
	var buf [256]byte
	text, _ := appendText(buf[:0], raw)
	return string(text) == want
}

// appendText appends to dst what raw, the inside of a well-formed JSON string,
// stands for. whole is false if an escape is one half of a surrogate pair without
// the other; it is then appended in three bytes that are not valid UTF-8, so that
// the text equals no other.
func appendText(dst, raw []byte) (text []byte, whole bool) {
	whole = true
	for {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			return append(dst, raw...), whole
		}
		dst = append(dst, raw[:n]...)
		c := raw[n+1]
		raw = raw[n+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := unhex(raw)
			raw = raw[4:]
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
					pair = utf16.DecodeRune(r, unhex(raw[2:]))
				}
				if pair == utf8.RuneError {
					whole = false
					dst = append(dst, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
					continue
				}
				r, raw = pair, raw[6:]
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
}

// unhex is the number that the four hexadecimal digits at the start of p make.
func unhex(p []byte) rune {
	return rune(hexValue[p[0]])<<12 | rune(hexValue[p[1]])<<8 | rune(hexValue[p[2]])<<4 | rune(hexValue[p[3]])
}

// appendString appends s to dst as a JSON string. Bytes that are not UTF-8 become
// U+FFFD. No byte of the result is a control character, so it fits on one line of
// an event stream.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xF])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}
