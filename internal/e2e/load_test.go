package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// 500 streams at once on one model: 50 are served at a time, by the server's own
// count, and none is lost.
func TestManyStreams(t *testing.T) {
	const streams, limit = 500, 50
	hold := filepath.Join(t.TempDir(), "hold")
	g := start(t, fmt.Sprintf(`
		max_queue 500
		model many {
			repo org/many
			env VLLM_SIM_REPLY_TOKENS 8
			env VLLM_SIM_TOKENS_PER_SECOND 100
			env VLLM_SIM_HOLD %q
			max_num_seqs 1000
		}`, hold))
	if code, _, body := g.chat(t, "many"); code != 200 { // it is loaded
		t.Fatalf("status %d: %s", code, body)
	}
	metrics := "http://" + listening(t, "many") + "/metrics"
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range streams {
		wg.Go(func() {
			if err := g.stream(t.Context(), "many", nil); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "50 are served and 450 wait", func() bool {
		return gauge(t, metrics, "vllm:num_requests_running") == limit &&
			g.status(t).model("many").Queue.Depth == streams-limit
	})
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if most := gauge(t, metrics, "vllm_sim:num_requests_running_peak"); most != limit {
		t.Errorf("%d streams were served at once at most, want %d", most, limit)
	}
	if q := g.status(t).model("many").Queue; q.Depth != 0 || q.Serving != 0 || q.Refused != 0 {
		t.Errorf("the queue is %+v after the last", q)
	}
}

// With the default limits, the 251st request at once is refused, and is told when
// to come back: within a factor of two of when the queue has emptied.
func TestRetryAfterIsHonest(t *testing.T) {
	const service = 800 * time.Millisecond
	g := start(t, `
		model busy {
			repo org/busy
			env VLLM_SIM_REPLY_TOKENS 1
			env VLLM_SIM_TTFT `+service.String()+`
			max_num_seqs 1000
		}`)
	var wg sync.WaitGroup
	send := func(n int) {
		for range n {
			wg.Go(func() {
				if code, _, body := g.chat(t, "busy"); code != 200 {
					t.Errorf("status %d: %s", code, body)
				}
			})
		}
	}
	send(1) // loads it
	wg.Wait()
	send(50)
	wg.Wait()
	send(250)
	eventually(t, "50 are served and 200 wait", func() bool {
		q := g.status(t).model("busy").Queue
		return q.Serving == 50 && q.Depth == 200
	})
	began := time.Now()
	code, header, body := g.chat(t, "busy")
	if code != http.StatusTooManyRequests {
		t.Errorf("status %d: %s", code, body)
	}
	if header.Get("X-Queue-Max-Size") != "200" || header.Get("X-Queue-Depth") == "" {
		t.Errorf("the headers are %v", header)
	}
	after, err := strconv.Atoi(header.Get("Retry-After"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue is empty", func() bool { return g.status(t).model("busy").Queue.Depth == 0 })
	took := time.Since(began)
	told := time.Duration(after) * time.Second
	t.Logf("Retry-After %v (%s ms), and the queue was empty after %v", told, header.Get("Retry-After-Ms"), took)
	if took < 2*time.Second || told > 2*took || took > 2*told {
		t.Errorf("Retry-After %v, but the queue was empty after %v", told, took)
	}
	wg.Wait()
}

// listening is the address of the server of a model, as its process was told it.
func listening(t *testing.T, model string) string {
	t.Helper()
	_, args := serverProcess(t, os.Getpid(), model)
	return "127.0.0.1:" + args[slices.Index(args, "--port")+1]
}

// serverProcess finds the process that serves a model for a gateway, by the number
// of the gateway's process, and its arguments.
func serverProcess(t *testing.T, gateway int, model string) (pid int, args []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("there is no /proc to find the server in")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if parentOf(parentOf(pid)) != gateway { // between them is its watcher
			continue
		}
		args := strings.Split(string(bytes.TrimRight(text, "\x00")), "\x00")
		name, port := slices.Index(args, "--served-model-name"), slices.Index(args, "--port")
		if name > 0 && port > 0 && args[name+1] == model {
			return pid, args
		}
	}
	t.Fatalf("there is no process that serves %s", model)
	return 0, nil
}

// parentOf reads /proc/<pid>/stat: the parent is the second field after the
// program's name in parentheses. It is 0 for a process that has ended.
func parentOf(pid int) int {
	stat, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(rest)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}

// gauge is the value of one of a server's metrics.
func gauge(t *testing.T, metrics, name string) int {
	res, err := http.Get(metrics)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name+"{") {
			fields := strings.Fields(line)
			n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				t.Error(err)
			}
			return int(n)
		}
	}
	t.Errorf("no %s in %q", name, text)
	return 0
}
