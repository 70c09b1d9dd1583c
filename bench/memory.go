// This file owns group C: the memory of what stays open, requests that wait and
// streams that idle, in the gateway and in a Caddy that does no more than it must.

package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// MemoryResult is group C. Sizes are in bytes.
type MemoryResult struct {
	Waiting Held `json:"waiting"` // a request with a body, of which Caddy keeps the same
	Stream  Held `json:"stream"`  // a stream of which one event has come
}

// Held is what one of many that stay open takes: of the heap and the stacks, after a
// garbage collection.
type Held struct {
	Count   int  `json:"count"`
	Body    int  `json:"body"` // its size, part of the figures below
	Gateway Used `json:"gateway"`
	Caddy   Used `json:"caddy"`
}

// Used is what one takes.
type Used struct {
	Heap  float64 `json:"heap"`
	Stack float64 `json:"stack"`
	// Resident is all of it as the system sees it, with what the garbage collector has
	// not given back.
	Resident float64 `json:"resident"`
}

func (u Used) sum() float64 { return u.Heap + u.Stack }

// holding is a proxy that many are to be kept open at.
type holding struct {
	stage     *stage
	what      string // is held
	profiles  string // a folder for them; empty: none
	role      string
	caddyfile func(site) string
	load      load
	open      func(proxy, generator *child, at site) (int64, error) // how many are open now
	prepare   func(at site) error                                   // what is done before it is empty; nil: nothing
}

// perOne measures what one of many takes.
func (h *holding) perOne() (Used, error) {
	at, err := h.stage.site(false)
	if err != nil {
		return Used{}, err
	}
	at.h2c = h.load.HTTP2
	proxy, err := startChild(h.stage.dir, h.role, nil, order{Caddyfile: h.caddyfile(at)})
	if err != nil {
		return Used{}, err
	}
	defer proxy.stop()
	if h.prepare != nil {
		if err := h.prepare(at); err != nil {
			return Used{}, err
		}
	}
	before, err := proxy.memory()
	if err != nil {
		return Used{}, err
	}
	h.load.URL = "http://" + at.plain
	generator, err := startChild(h.stage.dir, "generator", nil, order{Load: &h.load})
	if err != nil {
		return Used{}, err
	}
	defer generator.stop()
	err = eventually(fmt.Sprintf("%d are open at the %s", h.load.Count, h.role), time.Minute, func() (bool, error) {
		c, err := generator.counts()
		if err == nil && c.Failed > 0 {
			err = fmt.Errorf("%d requests have ended that should stay: %s", c.Failed, c.Why)
		}
		if err != nil {
			return false, err
		}
		n, err := h.open(proxy, generator, at)
		return n == int64(h.load.Count), err
	})
	if err != nil {
		return Used{}, err
	}
	after, err := proxy.memory()
	if err == nil && h.profiles != "" {
		err = proxy.profile(h.profiles, "heap", h.what)
	}
	each := func(n int64) float64 { return float64(n) / float64(h.load.Count) }
	return Used{each(after.Heap - before.Heap), each(after.Stack - before.Stack), each(after.Resident - before.Resident)}, err
}

// waitingBody is the size of the body of a request that waits.
const waitingBody = 1 << 10

// measureMemory measures with so many requests that wait, and so many streams.
func measureMemory(requests, streams int, profiles string) (*MemoryResult, error) {
	s, err := newStage()
	if err != nil {
		return nil, err
	}
	defer s.close()
	upstream, err := startChild(s.dir, "upstream", nil, order{Address: "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	defer upstream.stop()
	server := upstream.first.Address
	r := &MemoryResult{Waiting: Held{Count: requests, Body: waitingBody}, Stream: Held{Count: streams, Body: waitingBody}}

	wait := holding{
		stage: s, role: "gateway", what: "waiting", profiles: profiles,
		caddyfile: func(at site) string { return gatewayFile(at, server, 1, requests) },
		load:      load{Count: requests, HTTP2: true, Body: waitingBody},
		prepare:   occupy,
		open:      func(_, _ *child, at site) (int64, error) { return queueDepth(at) },
	}
	if r.Waiting.Gateway, err = wait.perOne(); err != nil {
		return nil, err
	}
	wait.role, wait.caddyfile, wait.prepare = "caddy", waitFile, nil
	wait.open = func(proxy, _ *child, _ site) (int64, error) {
		c, err := proxy.counts()
		return c.Waiting, err
	}
	if r.Waiting.Caddy, err = wait.perOne(); err != nil {
		return nil, err
	}

	idle := holding{
		stage: s, role: "gateway", what: "streams", profiles: profiles,
		caddyfile: func(at site) string { return gatewayFile(at, server, streams, streams) },
		load:      load{Count: streams, Body: waitingBody, Stream: "2 hold"},
		prepare:   once,
		open: func(_, generator *child, _ site) (int64, error) {
			c, err := generator.counts()
			return c.Begun, err
		},
	}
	if r.Stream.Gateway, err = idle.perOne(); err != nil {
		return nil, err
	}
	idle.role, idle.caddyfile = "caddy", func(at site) string { return caddyFile(at, server) }
	r.Stream.Caddy, err = idle.perOne()
	return r, err
}

// once sends a request, so that all is loaded that the first has loaded.
func once(at site) error {
	_, err := firstEvent(at, "", false)
	return err
}

// occupy takes the only slot of the gateway's model with a stream that does not end
// before the gateway does.
func occupy(at site) error {
	_, err := firstEvent(at, "2 hold", true)
	return err
}

// firstEvent sends a request and reads the beginning of its answer. The rest is left
// where it is if the stream is to stay open.
func firstEvent(at site, stream string, stay bool) (time.Duration, error) {
	t := &http.Transport{DisableCompression: true}
	res, took, err := ask("http://"+at.plain, t, &shot{body: chatBody(waitingBody, stream != ""), stream: stream})
	if err != nil {
		return 0, err
	}
	if !stay {
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		t.CloseIdleConnections()
	}
	return took, nil
}

func memoryVerdicts(m *MemoryResult) []Verdict {
	beyond := m.Waiting.Gateway.sum() - m.Waiting.Caddy.sum()
	of := m.Stream.Gateway.sum() / m.Stream.Caddy.sum()
	return []Verdict{
		judge(fmt.Sprintf("a waiting request beyond its body and Caddy's own, of %d", m.Waiting.Count), mostWaiting, "B", beyond, beyond, beyond),
		judge(fmt.Sprintf("memory of an idle stream, of a bare Caddy's, of %d", m.Stream.Count), mostStream, "", of, of, of),
	}
}

func (m *MemoryResult) write(out io.Writer) {
	w := table(out, "Memory of one that stays open, after a garbage collection",
		"", "heap", "stack", "together", "as the system sees it")
	for _, h := range []struct {
		name string
		Held
	}{{"a request that waits, HTTP/2, with a body of 1 KiB", m.Waiting}, {"a stream that idles, HTTP/1.1", m.Stream}} {
		row(w, fmt.Sprintf("%s (of %d)", h.name, h.Count))
		tell := func(name string, u Used) {
			row(w, "  "+name, bytesText(u.Heap), bytesText(u.Stack), bytesText(u.sum()), bytesText(u.Resident))
		}
		g, c := h.Gateway, h.Caddy
		tell("caddy", c)
		tell("gateway", g)
		tell("gateway beyond caddy", Used{g.Heap - c.Heap, g.Stack - c.Stack, g.Resident - c.Resident})
	}
	w.Flush()
}
