// This file takes vLLM's arguments apart, as its parser does
// (vllm/utils/argparse_utils.py on Python's argparse).

package vllm

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// flag is one flag among arguments, and what it is given.
type flag struct {
	name   string   // without the dashes, "_" as "-"
	key    string   // behind a point: "model" of --speculative-config.model
	values []string // after "=", or the arguments up to the next flag
	off    bool     // it is "--no-" and the name of a switch
}

// String is the flag as a user knows it.
func (f flag) String() string {
	switch {
	case len(f.name) <= 3:
		return "-" + f.name
	case f.off:
		return "--no-" + f.name
	}
	return "--" + f.name
}

// value is what the flag is given; empty when that is nothing, or several.
func (f flag) value() string {
	if len(f.values) == 1 {
		return f.values[0]
	}
	return ""
}

// negative is a number that argparse does not take for a flag.
var negative = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// flags takes arguments apart. What stands before the first flag is left out.
func flags(args []string) []flag {
	var all []flag
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		if len(arg) < 2 || arg[0] != '-' || strings.ContainsAny(name, " \t\n") || negative.MatchString(arg) {
			if len(all) > 0 {
				last := &all[len(all)-1]
				last.values = append(last.values, arg)
			}
			continue
		}
		var f flag
		f.name, f.key, _ = strings.Cut(strings.TrimLeft(name, "-"), ".")
		if strings.HasPrefix(name, "--") {
			f.name = strings.ReplaceAll(f.name, "_", "-")
			f.name, f.off = strings.CutPrefix(f.name, "no-")
		}
		if given {
			f.values = []string{value}
		}
		all = append(all, f)
	}
	return all
}

// suffixes are what a number may end with (human_readable_int in vLLM's
// vllm/engine/arg_utils.py).
var suffixes = map[byte]float64{
	'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12,
	'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40,
}

// humanInt reads a whole number such as "8192", "8K" (8192) or "8.2k" (8200).
func humanInt(text string) (int, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, false
	}
	times, ok := suffixes[text[len(text)-1]]
	if !ok {
		n, err := strconv.Atoi(text)
		return n, err == nil && n >= 0
	}
	n, err := strconv.ParseFloat(text[:len(text)-1], 64)
	n *= times
	if err != nil || !(n >= 0 && n <= math.MaxInt32) {
		return 0, false
	}
	return int(n), true
}
