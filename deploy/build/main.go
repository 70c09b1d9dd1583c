// Command build builds Caddy as xcaddy.json says: the file holds the fields of
// xcaddy's Builder, which no tool reads by itself, and this one gives them to it.
// It is a module of its own, so that who uses the gateway does not depend on what
// builds it.
//
// docs/building.md says how it is used.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	manifest := flag.String("manifest", "xcaddy.json", "the build manifest; paths in it are relative to its folder")
	output := flag.String("output", "caddy", "the binary to write")
	caddyOnly := flag.Bool("caddy-only", false,
		"build the manifest's Caddy without its plugins and throw it away: what that compiles lasts in Go's cache for as long as the manifest does")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "build: unknown argument %q\n", flag.Arg(0))
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := build(ctx, *manifest, *output, *caddyOnly)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, manifest, output string, caddyOnly bool) error {
	builder, err := readManifest(manifest)
	if err != nil {
		return err
	}
	if caddyOnly {
		builder.Plugins, builder.Replacements = nil, nil
		folder, err := os.MkdirTemp("", "caddy-only-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		output = filepath.Join(folder, "caddy")
	}
	if err := builder.Build(ctx, output); err != nil {
		return fmt.Errorf("building %s: %w", output, err)
	}
	return checkBinding(output)
}
