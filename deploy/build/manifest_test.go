package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadManifest(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	b, err := readManifest("../../xcaddy.json")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.CaddyVersion, "v2.") || len(b.Plugins) != 1 || len(b.Replacements) != 1 || !b.Cgo || b.BuildFlags == "" {
		t.Fatalf("xcaddy.json is read as %+v", b)
	}
	if got := b.Replacements[0].New.String(); got != root {
		t.Errorf("the plugin is replaced by %s, want the manifest's folder, %s", got, root)
	}
}

func TestReadManifestFails(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"a field that xcaddy does not have", `{"caddy": "v2.11.9"}`, `unknown field "caddy"`},
		{"no JSON", `caddy_version v2.11.9`, "invalid character"},
	} {
		path := filepath.Join(t.TempDir(), "xcaddy.json")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readManifest(path); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.says)
		}
	}
	if _, err := readManifest(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a manifest that is not there is read")
	}
}
