// This file owns the headers of a form's parts, and the parameters in them.

package openai

import (
	"bytes"
	"strings"
)

// part is what the headers of a form's part tell.
type part struct {
	field    string // its name
	file     bool   // it is a file
	disposed bool   // there was a Content-Disposition
}

// addHeader reads a line of the headers, without its end.
func (p *part) addHeader(line []byte) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isToken(string(name)) {
		return notForm("a part has a header that cannot be read")
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return notForm("a part has a control character in a header")
		}
	}
	text := strings.Trim(string(value), " \t")
	switch strings.ToLower(string(name)) {
	case "content-disposition":
		if p.disposed {
			return notForm("a part has two Content-Dispositions")
		}
		p.disposed = true
		return p.dispose(text)
	case "content-transfer-encoding":
		// RFC 7578 has deprecated it; some readers decode what others do not.
		switch strings.ToLower(text) {
		case "7bit", "8bit", "binary":
		default:
			return notForm("a part has a Content-Transfer-Encoding, which is not accepted")
		}
	}
	return nil
}

// dispose reads the value of a Content-Disposition.
func (p *part) dispose(value string) error {
	kind, parameters, ok := parseParameters(value)
	if !ok {
		return notForm("a part has a Content-Disposition that cannot be read")
	}
	if !strings.EqualFold(kind, "form-data") {
		return notForm("a part has a Content-Disposition other than form-data")
	}
	named := false
	for _, q := range parameters {
		switch {
		case q.key == "name":
			// Readers differ in what a backslash means.
			if strings.Contains(q.value, `\`) || q.escaped {
				return notForm("the name of a field has a backslash")
			}
			p.field, named = q.value, true
		case q.key == "filename" || q.key == "filename*":
			p.file = true
		case strings.Contains(q.key, "*"):
			return notForm("a part has a Content-Disposition with a parameter in parts")
		}
	}
	if !named {
		return notForm("a part names no field")
	}
	return nil
}

// parameter is a parameter of a header: its key in lower case, its value without
// the quotes. Escaped tells that its value was spelt with a backslash.
type parameter struct {
	key, value string
	escaped    bool
}

// parseParameters reads a header's value: a word, and parameters after semicolons,
// whose values are words or quoted strings. It is stricter than RFC 9110: nothing
// stands around the equals sign, no parameter occurs twice, and a quoted string in
// which readers differ on where it ends is not read.
func parseParameters(s string) (word string, parameters []parameter, ok bool) {
	word, s = cutToken(s, "/")
	if word == "" {
		return "", nil, false
	}
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" {
			return word, parameters, true
		}
		if s[0] != ';' {
			return "", nil, false
		}
		var p parameter
		p.key, s = cutToken(strings.TrimLeft(s[1:], " \t"), "")
		p.key = strings.ToLower(p.key)
		if p.key == "" || s == "" || s[0] != '=' {
			return "", nil, false
		}
		s = s[1:]
		if s != "" && s[0] == '"' {
			if p.value, s, p.escaped, ok = cutQuoted(s[1:]); !ok {
				return "", nil, false
			}
		} else if p.value, s = cutToken(s, ""); p.value == "" {
			return "", nil, false
		}
		for _, q := range parameters {
			if q.key == p.key {
				return "", nil, false
			}
		}
		parameters = append(parameters, p)
	}
}

// cutQuoted reads a quoted string to its closing quote. A backslash escapes a
// quote or a backslash; before anything else it stands for itself, as in the paths
// that old browsers send.
func cutQuoted(s string) (value, rest string, escaped, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], escaped, true
		case c < ' ' && c != '\t' || c == 0x7f:
			return "", "", false, false
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			escaped = true
			i++
			if s[i] == '\\' && i+1 < len(s) && s[i+1] == '"' {
				// The end, or an escaped quote for a reader that counts \" alone.
				return "", "", false, false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false, false
}

// cutToken cuts off the longest token (RFC 9110) that s begins with; also are
// further characters that count.
func cutToken(s, also string) (token, rest string) {
	i := 0
	for i < len(s) && (isTokenByte(s[i]) || strings.IndexByte(also, s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}

func isToken(s string) bool {
	token, rest := cutToken(s, "")
	return token != "" && rest == ""
}

func isTokenByte(c byte) bool {
	return isAlphanumeric(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
