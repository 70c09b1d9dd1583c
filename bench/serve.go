// This file owns the processes that the suite starts of itself: what they do, and
// how they are told.

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/vllm-gateway/vllm-gateway"
)

// order is a line that a process is told on its standard input. The first says
// what to do; the end of the input ends the process.
type order struct {
	Caddyfile string `json:"caddyfile,omitempty"` // of the roles gateway and caddy
	Address   string `json:"address,omitempty"`   // of the role upstream: where it listens
	Load      *load  `json:"load,omitempty"`      // of the role generator
	Ask       string `json:"ask,omitempty"`       // afterwards: "memory", "counts", "profile"
	File      string `json:"file,omitempty"`      // of a profile
}

// reply is the line that it answers with.
type reply struct {
	Error   string `json:"error,omitempty"`
	Address string `json:"address,omitempty"` // of the role upstream

	// To "memory": what is in use after a garbage collection, in bytes.
	Heap  int64 `json:"heap,omitempty"`
	Stack int64 `json:"stack,omitempty"`
	// Resident is what the process holds of the machine's memory; its parent reads it.
	Resident int64 `json:"-"`

	// To "counts".
	Requests    int64  `json:"requests,omitempty"`    // upstream: asked of a model
	Connections int64  `json:"connections,omitempty"` // upstream: opened
	Waiting     int64  `json:"waiting,omitempty"`     // caddy: requests in bench_wait
	Begun       int64  `json:"begun,omitempty"`       // generator: answers that have begun
	Failed      int64  `json:"failed,omitempty"`      // generator: requests that ended
	Why         string `json:"why,omitempty"`         // generator: how one of them did
}

// serve is the main function of such a process: `bench serve <role>`.
func serve(role string, in io.Reader, out io.Writer) error {
	orders, replies := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var first order
	if err := orders.Decode(&first); err != nil {
		return fmt.Errorf("reading what to serve: %w", err)
	}
	counts, answer, err := begin(role, first)
	if err != nil {
		answer.Error = err.Error()
	}
	for {
		if err := replies.Encode(answer); err != nil {
			return err
		}
		var next order
		switch err := orders.Decode(&next); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch {
		case next.Ask == "memory":
			answer = inUse()
		case next.Ask == "profile":
			answer = reply{}
			if err := profile(next.File); err != nil {
				answer.Error = err.Error()
			}
		case counts != nil:
			answer = counts()
		}
	}
}

// begin does what the first order says; counts tells of it later.
func begin(role string, o order) (counts func() reply, first reply, err error) {
	switch role {
	case "gateway", "caddy":
		return waitingCounts, reply{}, loadCaddyfile(o.Caddyfile)
	case "upstream":
		s := new(standIn)
		addr, err := s.serve(o.Address)
		if err != nil {
			return nil, reply{}, err
		}
		counts = func() reply {
			return reply{Requests: s.requests.Load(), Connections: s.connections.Load()}
		}
		return counts, reply{Address: addr.String()}, nil
	case "generator":
		if o.Load == nil {
			return nil, reply{}, errors.New("the generator was not told what to send")
		}
		return o.Load.begin().counts, reply{}, nil
	}
	return nil, reply{}, fmt.Errorf("%q is no role", role)
}

// profile writes a profile of what was allocated and is kept. For files whose names begin
// with "cpu", it writes one of the processor time: from the first time that it is asked
// for until the second.
func profile(file string) error {
	if !strings.HasPrefix(filepath.Base(file), "cpu") {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		return pprof.Lookup("heap").WriteTo(f, 0)
	}
	if profiled != nil {
		pprof.StopCPUProfile()
		defer func() { profiled = nil }()
		return profiled.Close()
	}
	var err error
	if profiled, err = os.Create(file); err != nil {
		return err
	}
	return pprof.StartCPUProfile(profiled)
}

// profiled is where a profile of the processor time goes that is under way.
var profiled *os.File

// inUse is what this process uses after a garbage collection.
func inUse() reply {
	runtime.GC() // what the first finds dead, pools and finalizers, the second frees
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return reply{Heap: int64(m.HeapAlloc), Stack: int64(m.StackInuse)}
}

// loadCaddyfile puts a configuration in force.
func loadCaddyfile(text string) error {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return fmt.Errorf("the benchmark's Caddyfile: %w", err)
	}
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("loading the benchmark's Caddyfile: %w", err)
	}
	return nil
}

// serveMain is serve as a program.
func serveMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "bench serve is what the suite starts itself by")
		return 2
	}
	if err := serve(args[0], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench serve:", err)
		return 1
	}
	_ = caddy.Stop()
	return 0
}
