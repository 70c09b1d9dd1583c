// This file owns how the key that a client presents is compared with those that
// there are.

package caddymodule

import (
	"crypto/sha256"
	"crypto/subtle"
	"time"
)

// storedKey is a key as it is kept: by its SHA-256 alone. Passwords want a slow
// hash with a salt, since people choose them and others guess; a key is long and
// random, so nobody can find it by trying, and a fast hash costs requests nothing.
type storedKey struct {
	hash    [sha256.Size]byte
	short   bool      // too short to be random
	expires time.Time // zero: never
	caller  *Caller
}

// expired says whether the key is no longer accepted.
func (s *storedKey) expired(now time.Time) bool { return !s.expires.IsZero() && !now.Before(s.expires) }

// keyring is all keys of a handler. It is never changed once it is in use.
type keyring []storedKey

// find returns the key that a client presents, expired or not; nil: there is no
// such key. How long it takes tells nothing of the keys but their number: it is
// hashes that are compared, in constant time, with every key, whether one was found
// or not.
func (k keyring) find(presented string) *storedKey {
	return k.findBy(presented, subtle.ConstantTimeCompare)
}

// findBy is find with a comparison that returns 1 for what is equal, else 0.
func (k keyring) findBy(presented string, compare func(x, y []byte) int) *storedKey {
	hash := sha256.Sum256([]byte(presented))
	found := -1
	for i := range k {
		found = subtle.ConstantTimeSelect(compare(hash[:], k[i].hash[:]), i, found)
	}
	if found < 0 {
		return nil
	}
	return &k[found]
}

// twice finds two keys with one hash or one name: it could not be told whose request
// it is. It returns nil if there are none.
func (k keyring) twice() (first, second *storedKey) {
	hashes := make(map[[sha256.Size]byte]*storedKey, len(k))
	names := make(map[string]*storedKey, len(k))
	for i := range k {
		s := &k[i]
		if other, ok := hashes[s.hash]; ok {
			return other, s
		}
		if other, ok := names[s.caller.Name]; ok {
			return other, s
		}
		hashes[s.hash], names[s.caller.Name] = s, s
	}
	return nil, nil
}
