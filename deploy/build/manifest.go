package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/xcaddy"
)

// readManifest reads a file of xcaddy.Builder's fields. An unknown field is an
// error. A replacement that begins with a dot is a folder, seen from the
// manifest's own, and comes back as a full path: xcaddy builds in a temporary one.
func readManifest(path string) (xcaddy.Builder, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return xcaddy.Builder{}, fmt.Errorf("reading the manifest: %w", err)
	}
	var b xcaddy.Builder
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		return xcaddy.Builder{}, fmt.Errorf("reading the manifest %s: %w", path, err)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return xcaddy.Builder{}, err
	}
	for i, r := range b.Replacements {
		if strings.HasPrefix(r.New.String(), ".") {
			b.Replacements[i].New = xcaddy.ReplacementPath(filepath.Join(folder, r.New.String()))
		}
	}
	return b, nil
}
