// This file owns group B from its beginning to its end.

package main

import (
	"fmt"
	"net/url"
	"strings"
)

// EndToEndResult is group B.
type EndToEndResult struct {
	Scenarios []*ScenarioResult `json:"scenarios"`
	// Resident is what each process holds of the machine's memory after all of them,
	// in bytes.
	Resident map[string]int64 `json:"resident_bytes"`
	// Counts are exact: see counts.
	Counts map[string]int64 `json:"counts"`
	Pinned bool             `json:"pinned"` // what is measured had a processor to itself
}

// measureEndToEnd starts everything, runs the scenarios, and ends everything.
func measureEndToEnd(set settings) (*EndToEndResult, error) {
	d := set.depth
	s, err := newStage()
	if err != nil {
		return nil, err
	}
	defer s.close()
	secure, err := s.certificate()
	if err != nil {
		return nil, err
	}
	upstream, err := startChild(s.dir, "upstream", s.others, order{Address: set.upstream})
	if err != nil {
		return nil, err
	}
	defer upstream.stop()
	e := &endToEnd{secure: secure, slice: d.slice, reps: d.reps}
	e.targets = append(e.targets, target{name: targetDirect, plain: &url.URL{Scheme: "http", Host: upstream.first.Address}})
	var proxies []*child
	files := map[string]func(site, string) string{
		targetGateway: func(at site, up string) string { return gatewayFile(at, up, 0, 0) },
		targetCaddy:   caddyFile,
	}
	for _, name := range []string{targetGateway, targetCaddy} {
		at, err := s.site(true)
		if err != nil {
			return nil, err
		}
		c, t, err := s.startProxy(name, files[name](at, upstream.first.Address), at)
		if err != nil {
			return nil, err
		}
		defer c.stop()
		e.targets, proxies = append(e.targets, t), append(proxies, c)
	}
	e.targets = append(e.targets, set.peers...)

	if len(s.others) > 0 {
		pinSelf(s.others)
		defer pinSelf(s.all)
	}
	res := &EndToEndResult{Pinned: len(s.proxy) > 0, Resident: map[string]int64{}}
	if res.Counts, err = counts(upstream, e.targets[1]); err != nil {
		return nil, err
	}
	for _, sc := range scenarios() {
		if sc.deep && !d.deep || !strings.Contains(sc.name, set.scenario) {
			continue
		}
		if err := profileAll(proxies, set.profile, sc.name); err != nil {
			return nil, err
		}
		r, err := e.measure(sc)
		if err != nil {
			return nil, err
		}
		if err := profileAll(proxies, set.profile, sc.name); err != nil {
			return nil, err
		}
		res.Scenarios = append(res.Scenarios, r)
		progress("%s: done", sc.name)
	}
	for _, t := range e.targets[1:] {
		if t.pid == 0 {
			continue
		}
		if res.Resident[t.name], err = resident(t.pid); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// profileAll begins or ends the profiles of the processor time of a scenario.
func profileAll(proxies []*child, folder, scenario string) error {
	if folder == "" {
		return nil
	}
	for _, c := range proxies {
		if err := c.profile(folder, "cpu", scenario); err != nil {
			return err
		}
	}
	return nil
}

// counted is how many requests are sent to count by.
const counted = 200

// counts tells what a server sees of requests through the gateway, sent one after
// the other over one connection. It is the same in every run.
func counts(upstream *child, gateway target) (map[string]int64, error) {
	c, err := dialPlain(gateway.plain, nil)
	if err != nil {
		return nil, err
	}
	defer c.close()
	s := &shot{body: chatBody(1<<10, false)}
	// The first has the model loaded, and its connection made.
	if _, _, err := c.do(s); err != nil {
		return nil, fmt.Errorf("the gateway's first request: %w", err)
	}
	before, err := upstream.counts()
	if err != nil {
		return nil, err
	}
	for range counted {
		if _, _, err := c.do(s); err != nil {
			return nil, err
		}
	}
	after, err := upstream.counts()
	if err != nil {
		return nil, err
	}
	return map[string]int64{
		fmt.Sprintf("requests at the server for %d", counted):        after.Requests - before.Requests,
		fmt.Sprintf("new connections to the server for %d", counted): after.Connections - before.Connections,
	}, nil
}

// find finds a scenario; nil: it was not run.
func (r *EndToEndResult) find(name string) *ScenarioResult {
	for _, s := range r.Scenarios {
		if s.Name == name {
			return s
		}
	}
	return nil
}
