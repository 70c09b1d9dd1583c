// This file owns group D: how much longer a client waits for the first byte of a model
// that must be loaded, woken or swapped in than its server takes.

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The times that the simulated servers take for themselves.
const (
	simLoad  = 300 * time.Millisecond
	simSleep = 50 * time.Millisecond
	simWake  = 100 * time.Millisecond
)

// SwapsResult is group D. Times are in milliseconds.
type SwapsResult struct {
	Alone Spread `json:"alone_ms"` // a server started by nobody's help, until it answers
	Swaps []Swap `json:"swaps"`
	// AfterReady is from the readiness of a server that is started cold to the first byte
	// of the answer.
	AfterReady Spread `json:"after_ready_ms"`
	// Starts is how many servers were started, for the models that still have one: the
	// same in every run of so many repetitions.
	Starts int64 `json:"starts"`
	// Parallel is ten models at once on eight cards: until the last has answered, in
	// milliseconds. 0: not measured.
	Parallel float64 `json:"parallel_ms,omitempty"`
}

// Swap is one way by which a model comes to serve.
type Swap struct {
	Name string `json:"name"`
	// Servers is what the servers take for themselves of it.
	Servers float64 `json:"servers_ms"`
	Whole   Spread  `json:"whole_ms"` // from the request to the first byte of its answer
	Added   Spread  `json:"added_ms"` // beyond Servers
}

// The ways.
const (
	swapCold  = "cold start on a free card"
	swapEvict = "swap, another model is stopped for it"
	swapWake  = "wake, another model is put to sleep for it"
)

// swapFile is the gateway on simulated cards: one for each of so many models that are
// started cold, one for two models that stop each other, one for two that put each
// other to sleep.
func swapFile(at site, cold int) string {
	var b strings.Builder
	for n := range cold + 2 {
		fmt.Fprintf(&b, "\t\t\tgpu GPU-%d 24GiB\n", n)
	}
	b.WriteString("\t\t}\n")
	model := func(name string, card int, more string) {
		fmt.Fprintf(&b, "\t\tmodel %s {\n\t\t\trepo bench/%s\n\t\t\tvram 20GiB\n\t\t\tpin_gpus GPU-%d\n%s\t\t}\n", name, name, card, more)
	}
	for n := range cold {
		model(fmt.Sprintf("cold-%d", n), n, "")
	}
	model("swap-0", cold, "")
	model("swap-1", cold, "")
	model("nap-0", cold+1, "\t\t\tsleep\n")
	model("nap-1", cold+1, "\t\t\tsleep\n")
	return simulatedFile(at, b.String())
}

// simulatedFile is the gateway with the simulated engine: cards and models follow.
func simulatedFile(at site, cardsAndModels string) string {
	return at.options(fmt.Sprintf(`	vramman {
		engine simulated {
			env VLLM_SIM_LOAD_TIME %v
			env VLLM_SIM_SLEEP_TIME %v
			env VLLM_SIM_WAKE_TIME %v
			env VLLM_SIM_TTFT 0s
			env VLLM_SIM_REPLY_TOKENS 1
		}
		min_residency 0s
		gpus simulated {
			folder cards
%s	}`, simLoad, simSleep, simWake, cardsAndModels)) + at.sites("\tvllm_gateway")
}

// measureSwaps measures each way n times.
func measureSwaps(n int, parallel bool) (*SwapsResult, error) {
	s, err := newStage()
	if err != nil {
		return nil, err
	}
	defer s.close()
	at, err := s.site(false)
	if err != nil {
		return nil, err
	}
	gateway, err := startChild(s.dir, "gateway", nil, order{Caddyfile: swapFile(at, n)})
	if err != nil {
		return nil, err
	}
	defer gateway.stop()
	// The second of two models is loaded first, so that each request for the other is a
	// swap. Two that sleep must both have been loaded.
	for _, model := range []string{"swap-1", "nap-0", "nap-1"} {
		if _, err := firstByte(at, model); err != nil {
			return nil, err
		}
	}
	var alone, cold, swap, wake, after []float64
	for k := range n {
		for _, way := range []struct {
			model string
			took  *[]float64
		}{
			{fmt.Sprintf("cold-%d", k), &cold}, {fmt.Sprintf("swap-%d", k%2), &swap}, {fmt.Sprintf("nap-%d", k%2), &wake},
		} {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			var ready <-chan time.Time
			if way.took == &cold {
				ready = readiness(ctx, way.model)
			}
			began := time.Now()
			took, err := firstByte(at, way.model)
			if ready != nil && err == nil {
				if at, ok := <-ready; ok {
					after = append(after, millis(began.Add(took).Sub(at)))
				}
			}
			cancel()
			if err != nil {
				return nil, err
			}
			*way.took = append(*way.took, millis(took))
		}
		took, err := serverAlone(s.dir)
		if err != nil {
			return nil, err
		}
		alone = append(alone, millis(took))
	}
	res := &SwapsResult{Alone: spreadOf(alone), AfterReady: spreadOf(after)}
	add := func(name string, took, servers []float64) {
		res.Swaps = append(res.Swaps, Swap{Name: name, Servers: spreadOf(servers).Median, Whole: spreadOf(took), Added: spreadOf(paired(took, servers, difference))})
	}
	add(swapCold, cold, alone)
	add(swapEvict, swap, alone)
	naps := make([]float64, n)
	for k := range naps {
		naps[k] = millis(simSleep + simWake)
	}
	add(swapWake, wake, naps)
	if res.Starts, err = starts(at); err != nil {
		return nil, err
	}
	if parallel {
		res.Parallel, err = measureParallel(s)
	}
	return res, err
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// firstByte asks a model for an answer.
func firstByte(at site, model string) (time.Duration, error) {
	t := &http.Transport{DisableCompression: true}
	defer t.CloseIdleConnections()
	body := fmt.Sprintf(`{"model":%q,"stream":false,"messages":[{"role":"user","content":"hello"}]}`, model)
	res, took, err := ask("http://"+at.plain, t, &shot{body: []byte(body)})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", model, err)
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return took, err
}

// serverAlone starts a simulated server by itself, and sends it a request as soon as
// it listens: this long the machine takes for it without a gateway.
func serverAlone(dir string) (time.Duration, error) {
	addr, err := address()
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "vllm-sim", "serve", "bench/alone", "--served-model-name", "alone", "--host", "127.0.0.1", "--port", port)
	cmd.Dir = filepath.Clean(dir)
	cmd.Env = append(os.Environ(), "VLLM_SIM_LOAD_TIME="+simLoad.String(), "VLLM_SIM_TTFT=0s", "VLLM_SIM_REPLY_TOKENS=1")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting a server: %w", err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = conn.Close()
			break
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("a server of its own did not listen: %w", ctx.Err())
		}
	}
	if _, err := firstByte(site{plain: addr}, "alone"); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// measureParallel asks for ten models at once that eight cards have no room for.
func measureParallel(s *stage) (float64, error) {
	at, err := s.site(false)
	if err != nil {
		return 0, err
	}
	const cards, models = 8, 10
	var b strings.Builder
	for n := range cards {
		fmt.Fprintf(&b, "\t\t\tgpu GPU-%d 24GiB\n", n)
	}
	b.WriteString("\t\t}\n")
	for n := range models {
		fmt.Fprintf(&b, "\t\tmodel model-%d {\n\t\t\trepo bench/model-%d\n\t\t\tvram 20GiB\n\t\t}\n", n, n)
	}
	gateway, err := startChild(s.dir, "gateway", nil, order{Caddyfile: simulatedFile(at, b.String())})
	if err != nil {
		return 0, err
	}
	defer gateway.stop()
	errs := make(chan error, models)
	began := time.Now()
	for n := range models {
		go func() {
			_, err := firstByte(at, fmt.Sprintf("model-%d", n))
			errs <- err
		}()
	}
	for range models {
		if err := <-errs; err != nil {
			return 0, err
		}
	}
	return millis(time.Since(began)), nil
}

func swapVerdicts(r *SwapsResult) []Verdict {
	most := map[string]float64{swapCold: mostSwap, swapEvict: mostSwap, swapWake: mostSwap}
	all := []Verdict{ofSpread("from a server's readiness to the first byte", mostFirstByte, "ms", r.AfterReady, 1)}
	for _, s := range r.Swaps {
		all = append(all, ofSpread("added by a "+s.Name, most[s.Name], "ms", s.Added, 1))
	}
	return all
}

func (r *SwapsResult) write(out io.Writer) {
	w := table(out, "From a request to the first byte of its answer, on the simulated engine", "", "whole", "", "servers' own", "added", "")
	quartiles := func(s Spread) string { return fmt.Sprintf("(%.0f to %.0f)", s.Q1, s.Q3) }
	row(w, "a server alone", fmt.Sprintf("%.0f ms", r.Alone.Median), quartiles(r.Alone))
	for _, s := range r.Swaps {
		row(w, s.Name, fmt.Sprintf("%.0f ms", s.Whole.Median), quartiles(s.Whole), fmt.Sprintf("%.0f ms", s.Servers),
			fmt.Sprintf("%.0f ms", s.Added.Median), quartiles(s.Added))
	}
	row(w, "from a server's readiness, cold start", fmt.Sprintf("%.0f ms", r.AfterReady.Median), quartiles(r.AfterReady))
	row(w, "servers started (of models that have one now)", fmt.Sprint(r.Starts))
	if r.Parallel > 0 {
		row(w, "ten models at once on eight cards", fmt.Sprintf("%.0f ms", r.Parallel))
	}
	w.Flush()
}
