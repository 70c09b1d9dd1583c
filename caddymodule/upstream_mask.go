// This file owns what of a server's words a client does not see: where files and
// machines are.

package caddymodule

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
)

// What takes the place of what is masked.
const (
	maskedURL     = "[url]"
	maskedPath    = "[path]"
	maskedAddress = "[address]"
)

var (
	urls = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)
	// hosts are names with a port. A name alone may be anything.
	hosts = regexp.MustCompile(`(?i)\b(?:localhost|[a-z0-9_-]+(?:\.[a-z0-9_-]+)+):\d{1,5}\b`)
	// addresses are what may be an IP address, with a port or without; netip decides.
	addresses = regexp.MustCompile(`\[[0-9A-Fa-f:.%]+\](?::\d{1,5})?|[0-9A-Fa-f:.]*[0-9A-Fa-f]`)
	// paths have two names at least, and stand where a word begins. Of one name alone
	// nobody can say whether it is a path.
	paths = regexp.MustCompile(`(^|[\s"'` + "`" + `(\[{=,:;<>|])(~?(?:/[^\s"'` + "`" + `()\[\]{},:;<>|/]+){2,}/?)`)
	// windowsPaths are those of a machine with drives.
	windowsPaths = regexp.MustCompile(`\b[A-Za-z]:\\[^\s"'<>|]+`)
)

// ownPaths begin paths that say nothing of the server's machine: its routes.
var ownPaths = []string{"/v1/", "/v2/"}

// mask takes URLs, paths of files and addresses of machines out of a text. Masking
// twice is masking once.
func mask(text string) string {
	text = urls.ReplaceAllString(text, maskedURL)
	text = hosts.ReplaceAllString(text, maskedAddress)
	text = windowsPaths.ReplaceAllString(text, maskedPath)
	text = addresses.ReplaceAllStringFunc(text, func(s string) string {
		if isAddress(s) {
			return maskedAddress
		}
		return s
	})
	return paths.ReplaceAllStringFunc(text, func(s string) string {
		at := strings.IndexAny(s, "/~")
		for _, own := range ownPaths {
			if strings.HasPrefix(s[at:], own) {
				return s
			}
		}
		return s[:at] + maskedPath
	})
}

// isAddress says whether a text is an IP address, with a port or without.
func isAddress(s string) bool {
	if strings.Count(s, ".") != 3 && strings.Count(s, ":") < 2 {
		return false
	}
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// maskJSON masks all texts of a JSON value, names of members excepted. The result
// is body itself where there is nothing to mask. False means that body is no JSON.
func maskJSON(body []byte) ([]byte, bool) {
	var value any
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber()
	if err := d.Decode(&value); err != nil || d.More() {
		return nil, false
	}
	masked, changed := maskValue(value)
	if !changed {
		return body, true
	}
	body, err := json.Marshal(masked)
	return body, err == nil
}

// maskValue masks a decoded JSON value in its place.
func maskValue(value any) (masked any, changed bool) {
	switch v := value.(type) {
	case string:
		m := mask(v)
		return m, m != v
	case []any:
		for i := range v {
			m, c := maskValue(v[i])
			v[i], changed = m, changed || c
		}
	case map[string]any:
		for name := range v {
			m, c := maskValue(v[name])
			v[name], changed = m, changed || c
		}
	}
	return value, changed
}
