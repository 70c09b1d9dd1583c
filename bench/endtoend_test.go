package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// The whole of group B, with as little in it as may be: every scenario is served by
// everything that is compared.
func TestEndToEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts three processes")
	}
	if _, err := cpuTime(1); err != nil {
		t.Skip(err)
	}
	s := settings{depth: depth{reps: 1, slice: time.Millisecond, deep: true}, upstream: "127.0.0.1:0"}
	r, err := measureEndToEnd(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Scenarios) != len(scenarios()) {
		t.Errorf("%d scenarios", len(r.Scenarios))
	}
	for _, sc := range r.Scenarios {
		for _, name := range sc.order() {
			if sc.Targets[name].Requests == 0 {
				t.Errorf("%s: %s served nothing", sc.Name, name)
			}
		}
		if sc.CPU.N != 1 || sc.CPU.Median <= 0 {
			t.Errorf("%s: the ratio of processor time is %+v", sc.Name, sc.CPU)
		}
	}
	want := map[string]int64{"requests at the server for 200": 200, "new connections to the server for 200": 0}
	for name, n := range want {
		if r.Counts[name] != n {
			t.Errorf("%s: %d, want %d", name, r.Counts[name], n)
		}
	}
	var out bytes.Buffer
	r.write(&out)
	for _, sc := range scenarios() {
		if !strings.Contains(out.String(), sc.name) {
			t.Errorf("the report does not tell of %q:\n%s", sc.name, &out)
		}
	}
}

// Of ten requests that wait, every one is counted; of ten streams, too.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	if _, err := resident(1); err != nil {
		t.Skip(err)
	}
	r, err := measureMemory(10, 10, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []Held{r.Waiting, r.Stream} {
		if h.Count != 10 || h.Gateway.sum() <= 0 || h.Caddy.sum() <= 0 {
			t.Errorf("held %+v", h)
		}
	}
	r.write(io.Discard)
}

func TestSwaps(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes")
	}
	if processors() == nil {
		t.Skip(errNoProcessors)
	}
	r, err := measureSwaps(1, false)
	if err != nil {
		t.Fatal(err)
	}
	// One that is cold, swap-0 in the place of swap-1, and both that sleep.
	if r.Starts != 4 || len(r.Swaps) != 3 || r.AfterReady.N != 1 {
		t.Errorf("%+v", r)
	}
	r.write(io.Discard)
}

const errNoProcessors = "this system does not tell which processors there are"

func TestServeErrors(t *testing.T) {
	for _, c := range []struct{ role, order, told string }{
		{"nobody", "{}", "no role"},
		{"generator", "{}", "not told what to send"},
		{"upstream", `{"address":"256.0.0.1:0"}`, "stand-in"},
		{"caddy", `{"caddyfile":"{"}`, "Caddyfile"},
	} {
		var out bytes.Buffer
		if err := serve(c.role, strings.NewReader(c.order), &out); err != nil || !strings.Contains(out.String(), c.told) {
			t.Errorf("%s: %v, %s", c.role, err, &out)
		}
	}
	if err := serve("caddy", strings.NewReader("{"), io.Discard); err == nil {
		t.Error("half an order was taken")
	}
}

func TestPercentile(t *testing.T) {
	r := run{}
	for n := range 100 {
		r.latencies = append(r.latencies, time.Duration(n))
	}
	if !slices.IsSorted(r.latencies) || r.percentile(0.5) != 50 || r.percentile(0.99) != 99 || (&run{}).percentile(0.5) != 0 {
		t.Errorf("p50 %d, p99 %d", r.percentile(0.5), r.percentile(0.99))
	}
}
