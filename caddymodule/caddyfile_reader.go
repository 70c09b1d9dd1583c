// This file owns the reading of option lines from a Caddyfile: each kind of value,
// each mistake in it, and the memory of where everything stood.

package caddymodule

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// reader reads blocks of options. Its methods for values are called with the
// option's word current, and read the rest of its line.
type reader struct {
	*caddyfile.Dispenser
	section string
	tokens  map[place]caddyfile.Token // the last at each place
	servers map[string]ServerModule   // the guests read, by their section
}

func newReader(d *caddyfile.Dispenser) *reader {
	return &reader{
		Dispenser: d,
		tokens:    make(map[place]caddyfile.Token),
		servers:   make(map[string]ServerModule),
	}
}

// block reads a block of options, if there is one. option is called with each
// option's word; a word may come twice only if it is repeatable.
func (r *reader) block(section string, repeatable []string, option func(word string) error) error {
	outer := r.section
	r.section = section
	defer func() { r.section = outer }()
	first := make(map[string]int)
	for nesting := r.Nesting(); r.NextBlock(nesting); {
		word := r.Val()
		if line, ok := first[word]; ok && !slices.Contains(repeatable, word) {
			return r.Errf("%s is already specified, in line %d", word, line)
		}
		first[word] = r.Line()
		r.tokens[place{section, word, ""}] = r.Token()
		if err := option(word); err != nil {
			return err
		}
	}
	return nil
}

// unknown is the error for a word that is no option.
func (r *reader) unknown(what string) error {
	return r.Errf("unrecognized %s option '%s'", what, r.Val())
}

// locate gives an error its file and line: of the first of its places that was
// read, else the current line.
func (r *reader) locate(err error) error {
	if wrong, ok := errors.AsType[*configError](err); ok {
		for _, p := range wrong.places {
			if token, ok := r.tokens[p]; ok {
				d := caddyfile.NewDispenser([]caddyfile.Token{token})
				d.Next()
				return d.WrapErr(err)
			}
		}
	}
	if err != nil {
		return r.WrapErr(err)
	}
	return nil
}

// text reads one word.
func (r *reader) text(s *string) error {
	option := r.Val()
	if !r.AllArgs(s) {
		return r.ArgErr()
	}
	if *s == "" {
		return r.Errf("%s is empty", option)
	}
	return nil
}

// list reads one word or several, and adds them.
func (r *reader) list(list *[]string) error {
	option := r.Val()
	if !r.NextArg() {
		return r.ArgErr()
	}
	for more := true; more; more = r.NextArg() {
		if r.Val() == "" {
			return r.Errf("%s has an empty value", option)
		}
		r.tokens[place{r.section, option, r.Val()}] = r.Token()
		*list = append(*list, r.Val())
	}
	return nil
}

// pair reads a name and its value, and adds them.
func (r *reader) pair(m *map[string]string) error {
	option := r.Val()
	var name, value string
	if !r.AllArgs(&name, &value) {
		return r.ArgErr()
	}
	if _, ok := (*m)[name]; ok {
		return r.Errf("%s %s is already specified", option, name)
	}
	if *m == nil {
		*m = make(map[string]string)
	}
	r.tokens[place{r.section, option, name}] = r.Token()
	(*m)[name] = value
	return nil
}

// flag reads 'on', 'off', or nothing, which is 'on'.
func (r *reader) flag(b **bool) error {
	option, args := r.Val(), r.RemainingArgs()
	switch {
	case len(args) == 0, len(args) == 1 && args[0] == "on":
		*b = new(true)
	case len(args) == 1 && args[0] == "off":
		*b = new(false)
	case len(args) == 1:
		return r.Errf("%s is '%s', but must be 'on' or 'off'", option, args[0])
	default:
		return r.ArgErr()
	}
	return nil
}

// count reads a whole number of at least 1.
func (r *reader) count(n *int) error { return r.number(n, 1) }

// countOrZero reads a whole number of at least 0.
func (r *reader) countOrZero(n **int) error {
	*n = new(int)
	return r.number(*n, 0)
}

// countOrAuto reads a whole number of at least 1, or 'auto'.
func (r *reader) countOrAuto(n *int, auto *bool) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	if *auto = s == "auto"; *auto {
		return nil
	}
	return r.parseNumber(option, s, n, 1)
}

func (r *reader) number(n *int, least int) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	return r.parseNumber(option, s, n, least)
}

func (r *reader) parseNumber(option, s string, n *int, least int) error {
	var err error
	if *n, err = strconv.Atoi(s); err != nil {
		return r.Errf("%s: '%s' is not a whole number", option, s)
	}
	if *n < least {
		return r.Errf("%s must be at least %d", option, least)
	}
	return nil
}

// share reads a number above 0 and at most 1.
func (r *reader) share(x *float64) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	var err error
	if *x, err = strconv.ParseFloat(s, 64); err != nil {
		return r.Errf("%s: '%s' is not a number", option, s)
	}
	if !(*x > 0 && *x <= 1) {
		return r.Errf("%s must be above 0 and at most 1", option)
	}
	return nil
}

// size reads a number of bytes with its unit.
func (r *reader) size(n *int64) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	var err error
	*n, err = parseSize(s)
	if err != nil {
		return r.Errf("%s: %w", option, err)
	}
	return nil
}

// parseSize reads a size of VRAM. Units of 1024 have an i: 24GiB is 24·2³⁰ bytes,
// 24GB is 24·10⁹.
func parseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	switch {
	case err != nil || n > math.MaxInt64:
		return 0, errors.New("'" + s + "' is not a size, such as '3GiB'")
	case n < leastVRAM:
		return 0, errors.New("'" + s + "' is too little: is a unit missing, as in '3GiB'?")
	}
	return int64(n), nil
}

// duration reads a time above 0.
func (r *reader) duration(d *caddy.Duration) error {
	option := r.Val()
	var v *caddy.Duration
	if err := r.durationOrZero(&v); err != nil {
		return err
	}
	if *d = *v; *d == 0 {
		return r.Errf("%s must be above 0", option)
	}
	return nil
}

// durationOrZero reads a time of at least 0.
func (r *reader) durationOrZero(d **caddy.Duration) error {
	option := r.Val()
	var s string
	if err := r.text(&s); err != nil {
		return err
	}
	v, err := caddy.ParseDuration(s)
	if err != nil {
		return r.Errf("%s: '%s' is not a time, such as '90s' or '15m'", option, s)
	}
	if v < 0 {
		return r.Errf("%s is negative", option)
	}
	*d = new(caddy.Duration(v))
	return nil
}

// json reads one JSON value in quotes. Without them the Caddyfile's own grammar
// has its way with braces, quotes and spaces.
func (r *reader) json(raw *json.RawMessage) error {
	option := r.Val()
	if !r.NextArg() || !r.Token().Quoted() {
		return r.Errf("%s must stand in backticks: %s `{\"temperature\": 0.2}`", option, option)
	}
	text := r.Val()
	if r.NextArg() {
		return r.ArgErr()
	}
	if !json.Valid([]byte(text)) {
		return r.Errf("%s is not valid JSON", option)
	}
	*raw = json.RawMessage(strings.TrimSpace(text))
	return nil
}

// guest reads the name and the options of a module that plugs in here.
func (r *reader) guest(namespace, key string, raw *json.RawMessage) error {
	option := r.Val()
	if !r.NextArg() {
		return r.ArgErr()
	}
	name := r.Val()
	info, err := caddy.GetModule(namespace + "." + name)
	if err != nil {
		return r.Errf("there is no %s '%s': choose from %s", option, name, guestNames(namespace))
	}
	module := info.New()
	options, ok := module.(caddyfile.Unmarshaler)
	if !ok {
		return r.Errf("%s '%s' cannot be configured in a Caddyfile", option, name)
	}
	if err := options.UnmarshalCaddyfile(r.NewFromNextSegment()); err != nil {
		return err
	}
	if server, ok := module.(ServerModule); ok {
		r.servers[r.section] = server
	}
	*raw = caddyconfig.JSONModuleObject(module, key, name, nil)
	return nil
}

// guestBlock reads the options of a guest module: its name is the current word,
// and nothing else stands in its line.
func guestBlock(d *caddyfile.Dispenser, repeatable []string, option func(r *reader, word string) error, check func() error) error {
	r := newReader(d)
	r.Next() // the module's name
	r.tokens[place{}] = r.Token()
	if r.NextArg() {
		return r.ArgErr()
	}
	if err := r.block("", repeatable, func(word string) error { return option(r, word) }); err != nil {
		return err
	}
	return r.locate(check())
}

// bareGuest reads a guest module that has no options.
func bareGuest(d *caddyfile.Dispenser) error {
	none := func(r *reader, word string) error { return r.Errf("there are no options here, and so no '%s'", word) }
	return guestBlock(d, nil, none, func() error { return nil })
}
