// This file owns where the manager keeps what it has measured and decided: in
// Caddy's storage, whatever module that is.

package caddymodule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/caddyserver/certmagic"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// storageFolder is what all keys in Caddy's storage begin with.
const storageFolder = "vramman"

// storage is a gateway's part of Caddy's storage. A value is replaced as a whole:
// that is what certmagic asks of storages, and what its files do by renaming.
type storage struct {
	all    certmagic.Storage
	prefix string
}

// newStorage is the part of the gateway of this name.
func newStorage(all certmagic.Storage, gateway string) storage {
	return storage{all, storageFolder + "/" + gateway + "/"}
}

// Load implements [vramman.Store]. certmagic, too, has a missing value be an
// [io/fs.ErrNotExist].
func (s storage) Load(ctx context.Context, key string) ([]byte, error) {
	value, err := s.all.Load(ctx, s.key(key))
	if err != nil {
		return nil, fmt.Errorf("loading from Caddy's storage: %w", err)
	}
	return value, nil
}

// Store implements [vramman.Store].
func (s storage) Store(ctx context.Context, key string, value []byte) error {
	if err := s.all.Store(ctx, s.key(key), value); err != nil {
		return fmt.Errorf("storing in Caddy's storage: %w", err)
	}
	return nil
}

// key is where a value stands. One that could not be a path in every storage, or
// would lead out of the gateway's part, becomes a hash.
func (s storage) key(key string) string {
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || len(part) > 200 || strings.Trim(part, nameLetters) != "" {
			sum := sha256.Sum256([]byte(key))
			return s.prefix + "other/" + hex.EncodeToString(sum[:])
		}
	}
	return s.prefix + key
}

// Interface guards
var _ vramman.Store = storage{}
