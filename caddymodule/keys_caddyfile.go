// This file owns the options of the handler vllm_keys in a Caddyfile.

package caddymodule

import (
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// The sections of places where the handler's options stand.
const (
	keysSection  = "keys"
	trustSection = "trust_auth"
)

// UnmarshalCaddyfile reads the directive. Syntax:
//
//	vllm_keys [<matcher>] {
//		key <name> <key>|sha256:<hex> {
//			models         <names...>
//			class          <number>
//			admin          [on|off]
//			max_concurrent <number>
//			expires        <time>
//		}
//		file       <path>
//		trust_auth [<placeholder>] {
//			models         <names...>
//			class          <number>
//			admin          [on|off]
//			max_concurrent <number>
//		}
//	}
func (k *Keys) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return k.read(newReader(d))
}

// read reads the options, after the word that they belong to. No error quotes what
// stands where a key may stand.
func (k *Keys) read(r *reader) error {
	r.tokens[place{}] = r.Token()
	if r.NextArg() {
		return r.Err("the keys stand in a block, each in a line of its own: 'key <name> <key>'")
	}
	err := r.block(keysSection, []string{"key"}, func(word string) error {
		switch word {
		case "key":
			return k.readKey(r)
		case "file":
			return r.text(&k.File)
		case "trust_auth":
			return k.readTrust(r)
		}
		return r.Errf("%s no option of keys", isWord(word))
	})
	if err != nil {
		return err
	}
	return r.locate(k.check())
}

// readKey reads a key.
func (k *Keys) readKey(r *reader) error {
	key := new(Key)
	if !r.AllArgs(&key.Name, &key.Key) {
		return r.Err("a key has a name and the key itself: 'key <name> <key>', such as 'key alice {env.KEY_ALICE}'")
	}
	if err := checkKeyName(key.Name); err != nil {
		return r.Errf("key: %w", err)
	}
	section := keySection(key.Name)
	if _, ok := r.tokens[place{section, "", ""}]; ok {
		return r.Errf("%s is already defined", section)
	}
	r.tokens[place{section, "", ""}] = r.Token()
	k.Keys = append(k.Keys, key)
	return r.block(section, []string{"models"}, func(word string) error {
		if word == "expires" {
			return readExpiry(r, &key.Expires)
		}
		return key.option(r, word, "a key")
	})
}

// readTrust reads whom else to trust.
func (k *Keys) readTrust(r *reader) error {
	t := new(TrustedAuth)
	if args := r.RemainingArgs(); len(args) == 1 {
		t.User = args[0]
	} else if len(args) > 1 {
		return r.ArgErr()
	}
	k.TrustAuth = t
	return r.block(trustSection, []string{"models"}, func(word string) error { return t.option(r, word, "trust_auth") })
}

// option reads one of the options of a grant.
func (g *Grant) option(r *reader, word, of string) error {
	switch word {
	case "models":
		return r.list(&g.Models)
	case "class":
		return readClass(r, &g.Class)
	case "admin":
		var admin *bool
		if err := r.flag(&admin); err != nil {
			return err
		}
		g.Admin = *admin
		return nil
	case "max_concurrent":
		return r.count(&g.MaxConcurrent)
	}
	return r.Errf("%s no option of %s", isWord(word), of)
}

// readClass reads a priority class. Whether it is in range is checked with the rest.
func readClass(r *reader, class *int) error {
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	var err error
	if *class, err = strconv.Atoi(s); err != nil {
		return r.Errf("class: '%s' is not a whole number", s)
	}
	return nil
}

// readExpiry reads a moment.
func readExpiry(r *reader, at *time.Time) error {
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return r.Errf("expires: '%s' is not a time such as 2027-01-31T00:00:00Z", s)
	}
	*at = t
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Keys)(nil)
