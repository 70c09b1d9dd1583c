package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	campaignRequests = flag.Int("campaign", 500, "requests of the campaign against servers that are killed")
	campaignSeed     = flag.Uint64("campaign-seed", 0, "seed of the campaign; 0: a new one")
)

// While servers are killed at any moment, each request is answered right, or refused
// with an error that says so: never half, never twice, never with another's answer.
func TestCampaign(t *testing.T) {
	seed := *campaignSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d requests; repeat with -campaign-seed %d", *campaignRequests, seed)
	const clients = 12
	// A model whose server dies twice in a row is left alone for a while, so there are
	// many, and they are killed in turn.
	models := make([]string, 12)
	for i := range models {
		models[i] = fmt.Sprintf("camp-%d", i)
	}
	var config strings.Builder
	config.WriteString("max_wait 20s\n")
	for _, m := range models {
		fmt.Fprintf(&config, "model %s {\n repo org/%s\n max_concurrent 4\n max_queue 6\n env VLLM_SIM_TTFT 2ms\n env VLLM_SIM_TOKENS_PER_SECOND 1000\n}\n", m, m)
	}
	g := start(t, config.String())

	var next atomic.Int64
	due := make(chan struct{}, 1) // a server is to be killed
	killing := make(chan struct{})
	var kills int
	go func() {
		defer close(killing)
		r := rand.New(rand.NewPCG(seed, 0))
		for i := 0; ; i++ {
			if _, more := <-due; !more {
				return
			}
			<-time.After(time.Duration(r.IntN(20)) * time.Millisecond) // anywhere within a request
			if pid := aServer(t, models[i%len(models)]); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
				kills++
			}
		}
	}()
	var outcomes tally
	var away patience
	var wg sync.WaitGroup
	for client := range uint64(clients) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, client+1))
			for n := next.Add(1); n <= int64(*campaignRequests) && !t.Failed(); n = next.Add(1) {
				if n%100 == 0 {
					select {
					case due <- struct{}{}:
					default:
					}
				}
				model := away.choose(r, models)
				outcome, after := campaignRequest(t, g, model, n, r.IntN(2) == 0, 1+r.IntN(20))
				outcomes.add(outcome)
				away.heed(model, after)
			}
		})
	}
	wg.Wait()
	close(due)
	<-killing
	t.Logf("%d servers were killed; outcomes: %v", kills, &outcomes)
	if outcomes.of["200"] == 0 || kills == 0 {
		t.Error("nothing was served, or nobody was killed")
	}
	eventually(t, "nothing is served or waits", func() bool {
		for _, m := range g.status(t).Models {
			if m.Queue.Serving != 0 || m.Queue.Depth != 0 {
				return false
			}
		}
		return true
	})
	for _, m := range models {
		eventually(t, m+" is back", func() bool { code, _, _ := g.chat(t, m); return code == 200 })
	}
}

// patience is what clients do who are told to come back later: they ask for other
// models meanwhile.
type patience struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// heed notes that a model is not to be asked for so long.
func (p *patience) heed(model string, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = make(map[string]time.Time)
	}
	if after > 0 {
		p.until[model] = time.Now().Add(after)
	}
}

// choose chooses a model, and waits until there is one.
func (p *patience) choose(r *rand.Rand, models []string) string {
	for {
		p.mu.Lock()
		now, soonest := time.Now(), time.Hour
		for _, i := range r.Perm(len(models)) {
			left := p.until[models[i]].Sub(now)
			if left <= 0 {
				p.mu.Unlock()
				return models[i]
			}
			soonest = min(soonest, left)
		}
		p.mu.Unlock()
		<-time.After(soonest)
	}
}

// campaignRequest sends one request and checks its answer. It returns in a word
// what became of it, and for how long its model is to be left alone.
func campaignRequest(t *testing.T, g *gateway, model string, n int64, stream bool, words int) (outcome string, after time.Duration) {
	said := strings.TrimSpace(strings.Repeat(fmt.Sprintf("word-%d ", n), words))
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"max_tokens":1000,"messages":[{"role":"user","content":%q}]}`, model, stream, said)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, g.plain+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return "", 0
	}
	r.Header.Set("Content-Type", "application/json")
	id := strconv.FormatInt(n, 10)
	r.Header.Set("X-Request-Id", id)
	res, err := g.client.Do(r)
	if err != nil {
		t.Errorf("request %d: %v", n, err)
		return "", 0
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("request %d: %v after %q", n, err, text)
		return "", 0
	}
	if got := res.Header.Get("X-Request-Id"); got != id {
		t.Errorf("request %d: the answer is to %q", n, got)
	}
	want := "You said: " + said
	switch {
	case res.StatusCode != http.StatusOK:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return campaignRefusal(t, n, res, text), min(time.Duration(seconds)*time.Second, time.Second)
	case !stream:
		var a struct {
			Model   string
			Choices []struct{ Message struct{ Content string } }
		}
		if err := json.Unmarshal(text, &a); err != nil || a.Model != model || len(a.Choices) != 1 || a.Choices[0].Message.Content != want {
			t.Errorf("request %d: %v, the answer is %s, want %q", n, err, text, want)
		}
		return "200", 0
	}
	got, end := campaignStream(t, n, text)
	switch {
	case end == "[DONE]" && got == want:
		return "200", 0
	case end == "upstream_failed" && strings.HasPrefix(want, got):
		return "200, broken off", 0
	}
	t.Errorf("request %d: the stream says %q and ends with %q, want %q", n, got, end, want)
	return "", 0
}

// campaignStream puts a stream's text together. end is [DONE] or an error's code,
// and is the last of it.
func campaignStream(t *testing.T, n int64, text []byte) (said, end string) {
	for event := range bytes.SplitSeq(text, []byte("\n\n")) {
		if len(event) == 0 {
			continue
		}
		data, ok := bytes.CutPrefix(event, []byte("data: "))
		var e struct {
			Choices []struct{ Delta struct{ Content string } }
			Error   *struct{ Code string }
		}
		switch {
		case !ok || end != "":
			t.Errorf("request %d: event %q after %q", n, event, end)
		case string(data) == "[DONE]":
			end = "[DONE]"
		case json.Unmarshal(data, &e) != nil:
			t.Errorf("request %d: event %q", n, event)
		case e.Error != nil:
			end = e.Error.Code
		default:
			for _, c := range e.Choices {
				said += c.Delta.Content
			}
		}
	}
	return said, end
}

// campaignRefusal checks the answer to a request that was refused.
func campaignRefusal(t *testing.T, n int64, res *http.Response, text []byte) string {
	var told struct {
		Error struct {
			Message, Type, Code string
			Param               *string
		}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&told)
	what := fmt.Sprintf("%d %s", res.StatusCode, told.Error.Code)
	switch what {
	case "429 queue_full", "503 start_failed", "503 upstream_failed", "503 vram_unavailable":
		if res.Header.Get("Retry-After") == "" {
			t.Errorf("request %d: %s without Retry-After", n, what)
		}
	case "502 upstream_failed", "504 queue_timeout":
	default:
		t.Errorf("request %d: status %d, %s", n, res.StatusCode, text)
	}
	if err != nil || told.Error.Message == "" || strings.Contains(told.Error.Message, "127.0.0.1") {
		t.Errorf("request %d: %v, %s", n, err, text)
	}
	return what
}

// tally counts what became of requests.
type tally struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tally) add(outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = make(map[string]int)
	}
	c.of[outcome]++
}

func (c *tally) String() string { return fmt.Sprint(c.of) }

// aServer is the process that serves a model for this gateway; 0: there is none.
func aServer(t *testing.T, model string) int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Error("there is no /proc to find servers in")
		return 0
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte("--served-model-name\x00"+model+"\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if parentOf(parentOf(pid)) == os.Getpid() { // between them is its watcher
			return pid
		}
	}
	return 0
}
