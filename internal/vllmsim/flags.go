// Reading the command line as vLLM's parser does (vllm/utils/argparse_utils.py on
// top of Python's argparse): "_" for "-", "--a=b", abbreviations, "--no-" for
// switches, dotted keys of JSON options, lists of values.

package vllmsim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// UsageError says what is wrong with the arguments, in argparse's words.
type UsageError struct{ msg string }

func (e *UsageError) Error() string { return e.msg }

func usageErrorf(format string, args ...any) *UsageError {
	return &UsageError{fmt.Sprintf(format, args...)}
}

var (
	errHelp    = errors.New("help is wanted")
	errVersion = errors.New("the version is wanted")
)

// arguments is a command line taken apart. Flags stand under their full names
// without dashes; the last of several occurrences counts.
type arguments struct {
	model    string // the positional model_tag, or empty
	values   map[string][]string
	switches map[string]bool
}

// parseArguments takes a command line apart, "serve" first or not.
func parseArguments(args []string) (*arguments, error) {
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	p := &arguments{values: make(map[string][]string), switches: make(map[string]bool)}
	var positional, unknown []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			positional = append(positional, args...)
			break
		}
		if !isOption(arg) {
			positional = append(positional, arg)
			continue
		}
		opt, err := findOption(arg)
		if err != nil {
			return nil, err
		}
		switch {
		case opt == nil:
			unknown = append(unknown, arg)
		case opt.name == "help":
			return nil, errHelp
		case opt.name == "version":
			return nil, errVersion
		default:
			if args, err = p.take(opt, args); err != nil {
				return nil, err
			}
		}
	}
	if len(positional) > 0 {
		p.model = positional[0]
		unknown = append(unknown, positional[1:]...)
	}
	if len(unknown) > 0 {
		return nil, usageErrorf("unrecognized arguments: %s", strings.Join(unknown, " "))
	}
	return p, nil
}

// isOption tells options from values: "-1" and a lone "-" are values.
func isOption(arg string) bool {
	if len(arg) < 2 || arg[0] != '-' || strings.ContainsRune(arg, ' ') && !strings.ContainsRune(arg, '=') {
		return false
	}
	_, err := strconv.ParseFloat(arg, 64)
	return err != nil
}

// option is one occurrence of a flag.
type option struct {
	name     string
	spelled  string // as the user wrote it, without a value
	kind     flagKind
	negated  bool // "--no-…"
	value    string
	hasValue bool // "--a=b"
}

// findOption resolves an argument to a flag; nil if there is none such.
func findOption(arg string) (*option, error) {
	spelled, value, hasValue := strings.Cut(arg, "=")
	if !strings.HasPrefix(arg, "--") {
		return findShort(spelled, value, hasValue), nil
	}
	key, _, dotted := strings.Cut(strings.TrimPrefix(spelled, "--"), ".")
	key = strings.ReplaceAll(key, "_", "-")
	opt := &option{spelled: spelled, value: value, hasValue: hasValue}
	if opt.resolve(key) {
		if dotted && opt.kind != jsonFlag {
			return nil, nil
		}
		return opt, nil
	}
	matches := completions(key)
	switch {
	case key == "" || len(matches) == 0:
		return nil, nil
	case len(matches) > 1:
		return nil, usageErrorf("ambiguous option: %s could match --%s", spelled, strings.Join(matches, ", --"))
	}
	opt.resolve(matches[0])
	return opt, nil
}

// resolve fills in the flag of exactly this key.
func (o *option) resolve(key string) bool {
	if kind, ok := flagTable[key]; ok {
		o.name, o.kind = key, kind
		return true
	}
	positive, ok := strings.CutPrefix(key, "no-")
	if kind, known := flagTable[positive]; ok && known && kind == switchFlag {
		o.name, o.kind, o.negated = positive, kind, true
		return true
	}
	return false
}

// completions are the flags that a key abbreviates, in order.
func completions(key string) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(flagTable)) {
		if strings.HasPrefix(name, key) {
			found = append(found, name)
		}
		if flagTable[name] == switchFlag && strings.HasPrefix("no-"+name, key) {
			found = append(found, "no-"+name)
		}
	}
	return found
}

// findShort resolves "-tp" and its like, and "-O3", whose value is part of it.
func findShort(spelled, value string, hasValue bool) *option {
	base, _, _ := strings.Cut(spelled, ".")
	if name, ok := shortFlags[base]; ok {
		return &option{name: name, spelled: spelled, kind: flagTable[name], value: value, hasValue: hasValue}
	}
	if level, ok := strings.CutPrefix(spelled, "-O"); ok && !hasValue && level != "" {
		return &option{name: "optimization-level", spelled: "-O", kind: valueFlag, value: level, hasValue: true}
	}
	return nil
}

// take stores an option with its values and returns the arguments after them.
func (p *arguments) take(o *option, rest []string) ([]string, error) {
	switch o.kind {
	case switchFlag:
		if o.hasValue {
			return nil, usageErrorf("argument %s: ignored explicit argument %q", o.spelled, o.value)
		}
		p.switches[o.name] = !o.negated
		return rest, nil
	case listFlag:
		if o.hasValue {
			p.values[o.name] = []string{o.value}
			return rest, nil
		}
		n := 0
		for n < len(rest) && rest[n] != "--" && !isOption(rest[n]) {
			n++
		}
		if n == 0 {
			return nil, usageErrorf("argument %s: expected at least one argument", o.spelled)
		}
		p.values[o.name] = rest[:n]
		return rest[n:], nil
	}
	if o.hasValue {
		p.values[o.name] = []string{o.value}
		return rest, nil
	}
	if len(rest) == 0 || isOption(rest[0]) {
		return nil, usageErrorf("argument %s: expected one argument", o.spelled)
	}
	p.values[o.name] = rest[:1]
	return rest[1:], nil
}

// text is the value of a flag, or def.
func (p *arguments) text(name, def string) string {
	if v := p.values[name]; len(v) > 0 {
		return v[0]
	}
	return def
}

// choice is the value of a flag that must be one of a few.
func (p *arguments) choice(name, def string, choices ...string) (string, error) {
	v := p.text(name, def)
	if !slices.Contains(choices, v) {
		return "", usageErrorf("argument --%s: invalid choice: %q (choose from %s)", name, v, strings.Join(choices, ", "))
	}
	return v, nil
}

// integer is the value of a flag that must be a whole number from low to high.
func (p *arguments) integer(name string, def, low, high int64) (int64, error) {
	v, ok := p.values[name]
	if !ok {
		return def, nil
	}
	n, err := strconv.ParseInt(v[0], 10, 64)
	if err != nil {
		return 0, usageErrorf("argument --%s: invalid int value: %q", name, v[0])
	}
	return n, checkRange(name, n, low, high)
}

// count is like integer and also takes 32K (binary), 32k (decimal) and so on.
func (p *arguments) count(name string, def, low, high int64) (int64, error) {
	v, ok := p.values[name]
	if !ok {
		return def, nil
	}
	n, err := parseCount(v[0])
	if err != nil {
		return 0, usageErrorf("argument --%s: %v", name, err)
	}
	return n, checkRange(name, n, low, high)
}

func checkRange(name string, n, low, high int64) error {
	if n < low || n > high {
		return usageErrorf("argument --%s: %d is not between %d and %d", name, n, low, high)
	}
	return nil
}

// parseCount reads a number with vLLM's suffixes: k, m, g, t are powers of 1000
// and take decimals, K, M, G, T are powers of 1024 and do not.
func parseCount(s string) (int64, error) {
	number, factor := s, 1.0
	if s != "" {
		for i := range 4 {
			switch s[len(s)-1] {
			case "kmgt"[i]:
				number = s[:len(s)-1]
				for range i + 1 {
					factor *= 1000
				}
			case "KMGT"[i]:
				number = s[:len(s)-1]
				factor = float64(int64(1) << (10 * (i + 1)))
				if strings.ContainsRune(number, '.') {
					return 0, fmt.Errorf("decimals are not allowed with binary suffixes: %q", s)
				}
			}
		}
	}
	if factor == 1 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("invalid int value: %q", s)
		}
		return n, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != f || f*factor >= 1<<62 || f*factor <= -(1<<62) {
		return 0, fmt.Errorf("invalid int value: %q", s)
	}
	return int64(f * factor), nil
}
