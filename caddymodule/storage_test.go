package caddymodule

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func TestStorage(t *testing.T) {
	folder := t.TempDir()
	all := &certmagic.FileStorage{Path: filepath.Join(folder, "data")}
	var s vramman.Store = newStorage(all, "house")

	if _, err := s.Load(t.Context(), "footprints.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for what was never stored", err)
	}
	keys := []string{
		"footprints.json", "hub/" + strings.Repeat("0f", 32) + ".kept", "../../out", "/root", "a//b", "", ".hidden", "a/..",
		"https://hub/org/name?x=ä", strings.Repeat("x", 300),
	}
	for _, key := range keys {
		if err := s.Store(t.Context(), key, []byte("old "+key)); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		if err := s.Store(t.Context(), key, []byte(key)); err != nil {
			t.Fatalf("%q: %v", key, err)
		}
	}
	for _, key := range keys {
		if got, err := s.Load(t.Context(), key); err != nil || string(got) != key {
			t.Errorf("got %q, %v under %q", got, err, key)
		}
	}

	// All of it stands where the documentation says.
	if _, err := os.Stat(filepath.Join(folder, "data", "vramman", "house", "footprints.json")); err != nil {
		t.Error(err)
	}
	for _, dir := range []struct{ path, only string }{
		{"", "data"}, {"data", "vramman"}, {"data/vramman", "house"},
	} {
		entries, err := os.ReadDir(filepath.Join(folder, dir.path))
		if err != nil || len(entries) != 1 || entries[0].Name() != dir.only {
			t.Errorf("in %q are %v, %v, want %s alone", dir.path, entries, err, dir.only)
		}
	}

	other := newStorage(all, "other")
	if _, err := other.Load(t.Context(), "footprints.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another gateway's value is found: %v", err)
	}
}

func TestSpecHasAStore(t *testing.T) {
	got, ok := specOf(t, "name house").Store.(storage)
	if !ok || got.all == nil || got.prefix != "vramman/house/" {
		t.Errorf("got %+v", got)
	}
}
