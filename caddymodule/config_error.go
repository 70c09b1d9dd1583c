// This file owns what is wrong with a configuration and where a person finds it.
// The checks know nothing of Caddyfiles: they name places, and whoever has read a
// Caddyfile knows in which line each place is.

package caddymodule

import "fmt"

// place is where something stands in a configuration.
type place struct {
	section string // "model gemma3-4b", "pool llm", "defaults"; empty: the top level
	option  string // of the section; empty: the section itself
	value   string // of an option that may stand several times; else empty
}

// configError is something wrong with a configuration.
type configError struct {
	err    error
	places []place // where to mend it, the likeliest first
}

// configErrorf makes a configError. The message names the section by itself, since
// whoever writes JSON sees nothing else of the place.
func configErrorf(at []place, format string, args ...any) error {
	return &configError{fmt.Errorf(format, args...), at}
}

// at lists places.
func at(places ...place) []place { return places }

func (e *configError) Error() string { return e.err.Error() }

func (e *configError) Unwrap() error { return e.err }
