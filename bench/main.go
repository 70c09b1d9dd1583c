// Command bench measures the gateway: what it costs for each request, part by part;
// beside a bare Caddy and beside nothing; the memory of what waits; and swaps.
//
//	go run ./bench quick      # about 30 s
//	go run ./bench realistic  # about 2 min
//	go run ./bench detailed   # about 5 min
//
// docs/performance.md says what is measured and how. All traffic stays on loopback.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/vllmsim"
)

// main is also the program of all processes that the suite starts, the stand-in
// servers of the simulated engine included.
func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			os.Exit(serveMain(os.Args[2:]))
		case "vllm-sim":
			os.Exit(vllmsim.Main(os.Args[2:], os.Stdout, os.Stderr, os.Getenv))
		}
	}
	switch failed, err := suite(os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	case failed:
		os.Exit(3)
	}
}

// depth is how much is measured.
type depth struct {
	name      string
	partReps  int           // repetitions of group A
	partSlice time.Duration // of each part in each
	reps      int           // repetitions of group B
	slice     time.Duration // of each run
	deep      bool          // all scenarios
	waiting   int           // requests that wait at once in group C
	streams   int           // streams that idle at once
	swaps     int           // of each kind in group D
	parallel  bool          // ten models on eight cards
}

var depths = []depth{
	{name: "quick", partReps: 7, partSlice: 15 * time.Millisecond, reps: 7, slice: 110 * time.Millisecond, waiting: 1000, streams: 200, swaps: 2},
	{name: "realistic", partReps: 11, partSlice: 40 * time.Millisecond, reps: 11, slice: 220 * time.Millisecond, deep: true, waiting: 10_000, streams: 1000, swaps: 5},
	{name: "detailed", partReps: 15, partSlice: 100 * time.Millisecond, reps: 15, slice: 450 * time.Millisecond, deep: true, waiting: 10_000, streams: 1000, swaps: 10, parallel: true},
}

// groups are what can be measured by itself.
var groups = []string{"parts", "endtoend", "memory", "swaps"}

// settings are the command line.
type settings struct {
	depth    depth
	only     []string
	json     string
	baseline string
	write    string
	profile  string
	scenario string
	upstream string
	peers    []target
}

// parse reads the command line. Flags may stand before or after the depth.
func parse(args []string, errors io.Writer) (settings, error) {
	s := settings{only: groups}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errors)
	f.Usage = func() {
		fmt.Fprintln(errors, "usage: go run ./bench [flags] quick|realistic|detailed")
		f.PrintDefaults()
	}
	f.StringVar(&s.json, "json", "", "write all results to this `file`")
	f.StringVar(&s.baseline, "baseline", "", "fail if allocations, counts or ratios are worse than in this `file`")
	f.StringVar(&s.write, "write-baseline", "", "write what a baseline holds to this `file`")
	f.StringVar(&s.scenario, "scenario", "", "of group endtoend, measure only scenarios whose names hold this `text`")
	f.StringVar(&s.profile, "profile", "", "write profiles of the gateway and of Caddy to this `folder`, which slows both")
	f.StringVar(&s.upstream, "upstream", "127.0.0.1:0", "the stand-in server's `address`, for peers that must know it")
	f.Func("only", "measure only these `groups`: "+strings.Join(groups, ","), func(v string) error {
		s.only = strings.Split(v, ",")
		for _, g := range s.only {
			if !slices.Contains(groups, g) {
				return fmt.Errorf("there is no group %q", g)
			}
		}
		return nil
	})
	f.Func("peer", "`name=url` of another proxy in front of the stand-in, on this machine; repeatable", func(v string) error {
		t, err := parsePeer(v)
		s.peers = append(s.peers, t)
		return err
	})
	f.Func("peer-pid", "the process `number` of the peer before it, whose processor time is told", func(v string) error {
		return peerPID(s.peers, v)
	})
	if err := f.Parse(args); err != nil {
		return s, err
	}
	name := f.Arg(0)
	if err := f.Parse(f.Args()[min(1, f.NArg()):]); err != nil {
		return s, err
	}
	i := slices.IndexFunc(depths, func(d depth) bool { return d.name == name })
	if i < 0 || f.NArg() > 0 {
		f.Usage()
		return s, flag.ErrHelp
	}
	s.depth = depths[i]
	if s.profile != "" { // the processes have folders of their own
		var err error
		if s.profile, err = filepath.Abs(s.profile); err != nil {
			return s, err
		}
		if err := os.MkdirAll(s.profile, 0o755); err != nil { //nolint:gosec // results are for everybody to read
			return s, err
		}
	}
	return s, checkLoopback(s.upstream)
}

// suite measures what the arguments say. failed is true if the baseline is not kept.
func suite(args []string, out io.Writer) (failed bool, err error) {
	s, err := parse(args, os.Stderr)
	if err != nil {
		return false, err
	}
	var base *Baseline
	if s.baseline != "" { // before minutes are spent
		if base, err = readBaseline(s.baseline); err != nil {
			return false, err
		}
	}
	r, err := measure(s)
	if err != nil {
		return false, err
	}
	r.write(out)
	if s.json != "" {
		if err := writeJSON(s.json, r); err != nil {
			return false, err
		}
	}
	if s.write != "" {
		if err := writeJSON(s.write, r.baseline()); err != nil {
			return false, err
		}
	}
	if base == nil {
		return false, nil
	}
	return compare(out, base, r.baseline()), nil
}

// measure measures the groups that were asked for.
func measure(s settings) (*Report, error) {
	r := newReport(s.depth.name)
	steps := map[string]func() error{
		"parts": func() (err error) {
			r.Parts, err = measureParts(s.depth.partReps, s.depth.partSlice)
			return err
		},
		"endtoend": func() (err error) {
			r.EndToEnd, err = measureEndToEnd(s)
			return err
		},
		"memory": func() (err error) {
			r.Memory, err = measureMemory(s.depth.waiting, s.depth.streams, s.profile)
			return err
		},
		"swaps": func() (err error) {
			r.Swaps, err = measureSwaps(s.depth.swaps, s.depth.parallel)
			return err
		},
	}
	for _, g := range groups {
		if !slices.Contains(s.only, g) {
			continue
		}
		began := time.Now()
		if err := steps[g](); err != nil {
			return nil, fmt.Errorf("%s: %w", g, err)
		}
		progress("%s: %v", g, time.Since(began).Round(time.Second/10))
	}
	r.finish()
	return r, nil
}

// progress tells how far the suite is, to who looks on.
func progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", values...)
}
