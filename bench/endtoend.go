// This file owns the scenarios of requests over loopback, and in which order what is
// compared is sent them.

package main

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"
)

// scenario is one kind of load.
type scenario struct {
	name        string
	size        int    // of a request's body, in bytes
	connections int    // requests at a time
	stream      string // see streamHeader
	events      int    // of each answer; 0: it is no stream
	secure      bool   // HTTPS
	http2       bool
	deep        bool // not in the quick depth
}

// unit is what processor time is counted by.
func (s *scenario) unit() string {
	if s.events > 0 {
		return "event"
	}
	return "request"
}

// The scenarios that verdicts are about.
const (
	scenarioSmall   = "1 KB, 16 connections"
	scenario100KB   = "100 KB, 16 connections"
	scenarioMB      = "1 MB, 4 connections"
	scenarioSingle  = "1 KB, 1 connection"
	scenarioStreams = "stream of 64 events, 2 ms apart, 16 connections"
	scenarioBurst   = "stream of 64 events at once, 16 connections"
)

// scenarios are all of them.
func scenarios() []scenario {
	return []scenario{
		{name: scenarioSmall, size: 1 << 10, connections: 16},
		{name: scenarioSingle, size: 1 << 10, connections: 1},
		{name: scenario100KB, size: 100 << 10, connections: 16},
		{name: scenarioMB, size: 1 << 20, connections: 4},
		{name: scenarioStreams, size: 1 << 10, connections: 16, stream: "64 2ms", events: 64},
		{name: scenarioBurst, size: 1 << 10, connections: 16, stream: "64 0s", events: 64},
		{name: "1 KB, 16 connections, TLS", size: 1 << 10, connections: 16, secure: true, deep: true},
		{name: "1 KB, 16 at a time, HTTP/2 with TLS", size: 1 << 10, connections: 16, secure: true, http2: true, deep: true},
		{name: "100 KB, 16 at a time, HTTP/2 with TLS", size: 100 << 10, connections: 16, secure: true, http2: true, deep: true},
		{name: "stream of 64 events, 2 ms apart, 16 at a time, HTTP/2 with TLS", size: 1 << 10, connections: 16, stream: "64 2ms", events: 64, secure: true, http2: true, deep: true},
	}
}

// target is something that requests are sent to.
type target struct {
	name   string
	plain  *url.URL
	secure *url.URL // nil: it has no HTTPS
	pid    int      // of its process; 0: not known, and its processor time is not told
}

// The targets that are always there.
const (
	targetDirect  = "direct"
	targetGateway = "gateway"
	targetCaddy   = "caddy"
)

// TargetResult is what a target did in a scenario. Times are in microseconds.
type TargetResult struct {
	CPU        Spread `json:"cpu_us"`         // processor time of its process for each unit
	P50        Spread `json:"p50_us"`         // of a whole request, or of a stream's first byte
	P99        Spread `json:"p99_us"`         // of the same
	AddedP50   Spread `json:"added_p50_us"`   // beyond the direct ones, run by run
	AddedP99   Spread `json:"added_p99_us"`   //
	Throughput Spread `json:"units_a_second"` //
	Requests   int64  `json:"requests"`       // in all runs
	cpu        []float64
	p50, p99   []float64
	rate       []float64
}

// ScenarioResult is a scenario with all targets.
type ScenarioResult struct {
	Name    string                   `json:"name"`
	Unit    string                   `json:"unit"`
	Targets map[string]*TargetResult `json:"targets"`
	// Ratios are of the gateway to the bare Caddy, run by run.
	CPU Interval `json:"cpu_ratio"`
	P99 Interval `json:"p99_ratio"`
	// AddedP99 is by how much more the gateway's 99th percentile lies beyond the direct
	// one than Caddy's does, in microseconds, run by run.
	AddedP99 Interval `json:"added_p99_us"`
}

// bench is what all end-to-end measurements share.
type endToEnd struct {
	targets []target
	secure  *tls.Config
	slice   time.Duration // of a run
	reps    int
}

// measure runs a scenario: in each repetition every target has its turn, in another
// order each time, so that none always follows the same other.
func (e *endToEnd) measure(s scenario) (*ScenarioResult, error) {
	var targets []target
	for _, t := range e.targets {
		if !s.secure || t.secure != nil {
			targets = append(targets, t)
		}
	}
	res := &ScenarioResult{Name: s.name, Unit: s.unit(), Targets: map[string]*TargetResult{}}
	gunners := map[string]*gunner{}
	defer func() {
		for _, g := range gunners {
			g.close()
		}
	}()
	for _, t := range targets {
		g, err := newGunner(s, t, e.secure)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", s.name, t.name, err)
		}
		gunners[t.name], res.Targets[t.name] = g, new(TargetResult)
	}
	for rep := range e.reps + 1 {
		for _, k := range rand.New(rand.NewPCG(uint64(rep), 0)).Perm(len(targets)) {
			t := targets[k]
			slice := e.slice
			if rep == 0 { // warms up
				slice /= 2
			}
			r, err := gunners[t.name].run(slice)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.name, t.name, err)
			}
			if rep > 0 {
				res.Targets[t.name].add(r)
			}
		}
	}
	res.finish()
	return res, nil
}

// add adds a run.
func (t *TargetResult) add(r run) {
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	t.Requests += int64(len(r.latencies))
	t.p50 = append(t.p50, micros(r.percentile(0.5)))
	t.p99 = append(t.p99, micros(r.percentile(0.99)))
	t.rate = append(t.rate, float64(r.units)/r.wall.Seconds())
	if r.cpu > 0 {
		t.cpu = append(t.cpu, micros(r.cpu)/float64(r.units))
	}
}

// finish makes figures of the runs.
func (s *ScenarioResult) finish() {
	direct := s.Targets[targetDirect]
	for _, t := range s.Targets {
		t.CPU, t.P50, t.P99, t.Throughput = spreadOf(t.cpu), spreadOf(t.p50), spreadOf(t.p99), spreadOf(t.rate)
		if direct != nil && t != direct {
			t.AddedP50 = spreadOf(paired(t.p50, direct.p50, difference))
			t.AddedP99 = spreadOf(paired(t.p99, direct.p99, difference))
		}
	}
	gateway, caddy := s.Targets[targetGateway], s.Targets[targetCaddy]
	if gateway != nil && caddy != nil {
		s.CPU = intervalOf(paired(gateway.cpu, caddy.cpu, ratio))
		s.P99 = intervalOf(paired(gateway.p99, caddy.p99, ratio))
		s.AddedP99 = intervalOf(paired(gateway.p99, caddy.p99, difference))
	}
}
