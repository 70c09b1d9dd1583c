// This file owns the log that goes nowhere. Caddy's own `discard` formats nothing,
// and would hide what a line costs.

package main

import (
	"io"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() { caddy.RegisterModule(logSink{}) }

// logSink is the log writer "bench".
type logSink struct{}

// CaddyModule returns the Caddy module information.
func (logSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.bench", New: func() caddy.Module { return new(logSink) }}
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler: there are no options.
func (*logSink) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

// String implements caddy.WriterOpener.
func (logSink) String() string { return "nowhere" }

// WriterKey implements caddy.WriterOpener.
func (logSink) WriterKey() string { return "bench" }

// OpenWriter implements caddy.WriterOpener.
func (logSink) OpenWriter() (io.WriteCloser, error) { return nowhere{io.Discard}, nil }

type nowhere struct{ io.Writer }

// Close implements io.Closer.
func (nowhere) Close() error { return nil }

// Interface guards
var (
	_ caddy.WriterOpener    = (*logSink)(nil)
	_ caddyfile.Unmarshaler = (*logSink)(nil)
)
