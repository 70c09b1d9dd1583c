// This file owns one run of a load: requests at one target for a while, a set number
// at a time, each sent when the one before it is answered.

package main

import (
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// gunner sends a scenario's requests to a target.
type gunner struct {
	shot    *shot
	target  target
	clients []client
	shared  *http.Transport // of HTTP/2
}

// run is what came of one.
type run struct {
	latencies []time.Duration // sorted: of whole requests, or of streams until their first byte
	units     int64           // requests, or events
	wall      time.Duration
	cpu       time.Duration // of the target's process; 0: not known
}

// maxRequests bounds a run, however fast a target is.
const maxRequests = 200_000

func newGunner(s scenario, t target, secure *tls.Config) (*gunner, error) {
	g := &gunner{target: t, shot: &shot{body: chatBody(s.size, s.events > 0), stream: s.stream, events: s.events}}
	at := t.plain
	if s.secure {
		at = t.secure
	}
	if s.http2 {
		g.shared = newHTTP2(secure)
	}
	for range s.connections {
		if s.http2 {
			g.clients = append(g.clients, newHTTP2Client(at, g.shared))
			continue
		}
		c, err := dialPlain(at, secure)
		if err != nil {
			g.close()
			return nil, err
		}
		g.clients = append(g.clients, c)
	}
	return g, nil
}

func (g *gunner) close() {
	for _, c := range g.clients {
		c.close()
	}
	if g.shared != nil {
		g.shared.CloseIdleConnections()
	}
}

// run sends requests for a while, and waits for the last answers.
func (g *gunner) run(slice time.Duration) (run, error) {
	var left atomic.Int64
	left.Store(maxRequests)
	all := make([][]time.Duration, len(g.clients))
	errs := make([]error, len(g.clients))
	before, known := g.cpu()
	began := time.Now()
	var wg sync.WaitGroup
	for n, c := range g.clients {
		wg.Go(func() {
			for time.Since(began) < slice && left.Add(-1) >= 0 {
				first, whole, err := c.do(g.shot)
				if err != nil {
					errs[n] = err
					return
				}
				if g.shot.events > 0 {
					whole = first
				}
				all[n] = append(all[n], whole)
			}
		})
	}
	wg.Wait()
	r := run{wall: time.Since(began)}
	if after, ok := g.cpu(); ok && known {
		r.cpu = after - before
	}
	r.latencies = slices.Concat(all...)
	slices.Sort(r.latencies)
	r.units = int64(len(r.latencies) * max(1, g.shot.events))
	return r, errors.Join(errs...)
}

func (g *gunner) cpu() (time.Duration, bool) {
	if g.target.pid == 0 {
		return 0, false
	}
	d, err := cpuTime(g.target.pid)
	return d, err == nil
}

// percentile is the latency that a share q of all requests did not exceed.
func (r *run) percentile(q float64) time.Duration {
	n := len(r.latencies)
	if n == 0 {
		return 0
	}
	return r.latencies[min(n-1, int(q*float64(n)))]
}
