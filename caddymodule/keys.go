// This file owns what an API key is in a configuration, what is wrong with one, and
// what becomes of it: a hash with what its owner may do.

package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Grant is what somebody may do who was let in.
type Grant struct {
	// The models that may be used, by their configured names; an alias of such a
	// model comes with it. Others do not exist for whoever has this grant. Default:
	// all models.
	Models []string `json:"models,omitempty"`

	// The priority class, from -100 to 100: requests of a higher one go first, in each
	// model's queue. Default: 0.
	Class int `json:"class,omitempty"`

	// Whether the gateway's status is told wherever the request comes from. Default:
	// false.
	Admin bool `json:"admin,omitempty"`

	// How many requests may be waiting or served at once, over all models; more are
	// refused with status 429. Default: as many as there are.
	MaxConcurrent int `json:"max_concurrent,omitempty"`
}

// Key is an API key.
type Key struct {
	// The name by which logs know the key's owner: letters, digits and '-_.@'. It is
	// no secret.
	Name string `json:"name"`

	// The key, in one of three forms: a placeholder such as `{env.KEY_ALICE}` or
	// `{file./run/secrets/alice}`; `sha256:` and the key's SHA-256 in hexadecimal
	// digits; or the key itself, which then stands in the configuration for all to see
	// who may read that. In a file of keys placeholders are not resolved.
	Key string `json:"key"`

	Grant

	// When the key stops being accepted, such as `2027-01-31T00:00:00Z`. Default:
	// never.
	Expires time.Time `json:"expires,omitzero"`
}

const (
	// maxKeyName is how long a key's name may be: it stands in each line of the log.
	maxKeyName = 64
	// maxKeyLength bounds the keys that are looked at, in bytes.
	maxKeyLength = 512
	// shortKey is the length under which a key does not look like a random one. It
	// matters, since the hash of a key that can be guessed tells the key.
	shortKey = 20
	// maxClass bounds the priority classes on both sides.
	maxClass = 100
	// hashPrefix is what a hashed key begins with.
	hashPrefix = "sha256:"
)

// keySection is the section of a key in places and messages.
func keySection(name string) string { return "key " + name }

// checkKeys looks for what is wrong with keys. No message holds a key, or what
// stands where one belongs.
func checkKeys(keys []*Key) error {
	names := make(map[string]bool, len(keys))
	for i, k := range keys {
		if k == nil || k.Name == "" {
			return configErrorf(nil, "key %d is without a name", i+1)
		}
		if err := checkKeyName(k.Name); err != nil {
			return configErrorf(nil, "key %d: %w", i+1, err)
		}
		section := keySection(k.Name)
		if names[k.Name] {
			return configErrorf(at(place{section, "", ""}), "%s is already defined", section)
		}
		names[k.Name] = true
		if k.Key == "" {
			return configErrorf(at(place{section, "", ""}), "%s is empty", section)
		}
		if err := k.check(section); err != nil {
			return err
		}
	}
	return nil
}

// checkKeyName does not tell the name: who mixes up name and key has a key there.
func checkKeyName(name string) error {
	odd := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.@", r))
	}
	switch {
	case strings.HasPrefix(name, "sk-"):
		return fmt.Errorf("its name looks like a key; the name comes first, then the key")
	case len(name) > maxKeyName || strings.ContainsFunc(name, odd):
		return fmt.Errorf("its name must be at most %d letters, digits and '-_.@'; the name comes first, then the key", maxKeyName)
	}
	return nil
}

// check looks for values out of range.
func (g *Grant) check(section string) error {
	wrong := func(option, format string, args ...any) error {
		return configErrorf(at(place{section, option, ""}), "%s "+format, append([]any{optionName(section, option)}, args...)...)
	}
	switch {
	case g.Models != nil && len(g.Models) == 0:
		return wrong("models", "is empty: leave it out to allow all models")
	case slices.Contains(g.Models, ""):
		return wrong("models", "has an empty value")
	case g.Class < -maxClass || g.Class > maxClass:
		return wrong("class", "must be from -%d to %d", maxClass, maxClass)
	case g.MaxConcurrent < 0:
		return wrong("max_concurrent", "must be at least 1")
	}
	return nil
}

// caller is the caller of a name whom this is granted.
func (g *Grant) caller(name string) *Caller {
	return &Caller{Name: name, Models: g.Models, Class: g.Class, Admin: g.Admin, MaxConcurrent: g.MaxConcurrent}
}

// literal says whether the key itself stands in the configuration.
func (k *Key) literal() bool {
	braces := strings.NewReplacer(`\{`, "", `\}`, "").Replace(k.Key)
	return !strings.HasPrefix(k.Key, hashPrefix) && !strings.ContainsAny(braces, "{}")
}

// resolved returns the key's text with its placeholders resolved. An empty
// placeholder is an error: a key that is missing must not look like one that is
// there.
func (k *Key) resolved() (string, error) {
	repl := caddy.NewReplacer()
	text, err := repl.ReplaceOrErr(k.Key, true, true)
	if err == nil {
		return strings.TrimSpace(text), nil
	}
	// Not err itself: it quotes the text, which may be a key with a brace.
	if _, err := repl.ReplaceOrErr(k.Key, false, true); err != nil {
		return "", fmt.Errorf("%s has a placeholder that Caddy does not know; write '\\{' for a brace that stands for itself", keySection(k.Name))
	}
	return "", fmt.Errorf("%s is empty: set the variable that its placeholder names, or put a key into the file", keySection(k.Name))
}

// stored makes of a key's text, resolved, what requests are compared with.
func (k *Key) stored(text string) (storedKey, error) {
	s := storedKey{caller: k.caller(k.Name), expires: k.Expires}
	digits, hashed := strings.CutPrefix(text, hashPrefix)
	switch {
	case hashed:
		hash, err := hex.DecodeString(digits)
		if err != nil || len(hash) != sha256.Size {
			return s, fmt.Errorf("%s: '%s' must be followed by %d hexadecimal digits", keySection(k.Name), hashPrefix, 2*sha256.Size)
		}
		copy(s.hash[:], hash)
	case text == "":
		return s, fmt.Errorf("%s is empty", keySection(k.Name))
	case len(text) > maxKeyLength:
		return s, fmt.Errorf("%s is longer than %d bytes", keySection(k.Name), maxKeyLength)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return s, fmt.Errorf("%s has a space or another character that a client cannot send", keySection(k.Name))
	default:
		s.hash = sha256.Sum256([]byte(text))
		s.short = len(text) < shortKey
	}
	return s, nil
}

// storedKeys makes the keyring of keys that were checked. resolve returns a key's
// text.
func storedKeys(keys []*Key, resolve func(*Key) (string, error)) (keyring, error) {
	ring := make(keyring, 0, len(keys))
	for _, k := range keys {
		text, err := resolve(k)
		if err != nil {
			return nil, err
		}
		s, err := k.stored(text)
		if err != nil {
			return nil, err
		}
		ring = append(ring, s)
	}
	return ring, nil
}

// warn tells the log what is not wise about keys that are right.
func (k keyring) warn(log *zap.Logger, now time.Time) {
	for i := range k {
		name := zap.String("name", k[i].caller.Name)
		if k[i].short {
			log.Warn("an API key is so short that it can be guessed; 'caddy vllm key' makes a better one", name)
		}
		if k[i].expired(now) {
			log.Warn("an API key has expired", name, zap.Time("expires", k[i].expires))
		}
	}
}

// MarshalLogObject tells logs of a key without the key: Caddy can be made to log
// the configuration of each handler that a request meets.
func (k *Key) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("name", k.Name)
	return nil
}

// Interface guards
var _ zapcore.ObjectMarshaler = (*Key)(nil)
