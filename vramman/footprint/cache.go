package footprint

// This file keeps what was read from the hub.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Cache keeps bytes under keys. It may forget. It is used by several
// goroutines.
type Cache interface {
	// Load gives what was kept, or an error.
	Load(ctx context.Context, key string) ([]byte, error)
	// Store keeps a value whole or not at all.
	Store(ctx context.Context, key string, value []byte) error
}

// maxKept bounds a kept value, in bytes.
const maxKept = 128 << 20

// FolderCache keeps each value in a file of its own, with a checksum, so that
// a file that was torn or changed counts as not there.
type FolderCache struct{ path string }

// NewFolderCache makes a cache in a folder, which is made when it is needed.
func NewFolderCache(path string) FolderCache { return FolderCache{path: path} }

func (c FolderCache) file(key string) string {
	h := sha256.Sum256([]byte(key))
	return filepath.Join(c.path, hex.EncodeToString(h[:])+".kept")
}

// seal is the checksum in front of a value.
func seal(key string, value []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s", len(key), key)
	h.Write(value)
	return h.Sum(nil)
}

// Load reads a value.
func (c FolderCache) Load(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(c.file(key))
	if err != nil {
		return nil, fmt.Errorf("a kept file cannot be read: %w", bare(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKept+sha256.Size+1))
	if err != nil {
		return nil, fmt.Errorf("a kept file cannot be read: %w", bare(err))
	}
	if len(b) < sha256.Size || len(b) > maxKept+sha256.Size || !bytes.Equal(b[:sha256.Size], seal(key, b[sha256.Size:])) {
		return nil, errors.New("a kept file is torn")
	}
	return b[sha256.Size:], nil
}

// Store writes a value beside its place and moves it there.
func (c FolderCache) Store(ctx context.Context, key string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(value) > maxKept {
		return fmt.Errorf("%d bytes are too many to keep", len(value))
	}
	if err := os.MkdirAll(c.path, 0o700); err != nil {
		return fmt.Errorf("the folder for kept files cannot be made: %w", bare(err))
	}
	f, err := os.CreateTemp(c.path, "new-*")
	if err != nil {
		return fmt.Errorf("a file cannot be kept: %w", bare(err))
	}
	_, err = f.Write(append(seal(key, value), value...))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), c.file(key))
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("a file cannot be kept: %w", bare(err))
	}
	return nil
}
