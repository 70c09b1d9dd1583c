// GET /metrics: vLLM's names (vllm/v1/metrics/loggers.py), the stand-in's values, and
// one name of its own.

package vllmsim

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// metrics are the counters and histograms; gauges are read where they stand.
type metrics struct {
	mu                       sync.Mutex
	promptTokens, generation int64
	finished                 map[string]int64 // requests by reason

	firstTokens, interToken, perToken, whole, queue histogram
}

var (
	finishReasons = []string{"stop", "length", "abort", "error", "repetition"}

	firstTokenBuckets = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	tokenBuckets      = []float64{0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80}
	requestBuckets    = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

func newMetrics() metrics {
	return metrics{
		finished:    make(map[string]int64),
		firstTokens: newHistogram(firstTokenBuckets),
		interToken:  newHistogram(tokenBuckets),
		perToken:    newHistogram(tokenBuckets),
		whole:       newHistogram(requestBuckets),
		queue:       newHistogram(requestBuckets),
	}
}

// started records how long a request waited for its turn.
func (m *metrics) started(waited time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.observe(waited)
}

// firstToken records that a prompt has been processed.
func (m *metrics) firstToken(prompt int, since time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.promptTokens += int64(prompt)
	m.firstTokens.observe(since)
}

// step records tokens generated at once, and the time since those before them, or
// below zero if there were none.
func (m *metrics) step(tokens int, since time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation += int64(tokens)
	if since >= 0 {
		m.interToken.observe(since)
	}
}

// ended records a request's end; steps is how many tokens each sequence got, after
// the first token came.
func (m *metrics) ended(reason string, steps int, decoding, whole time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finished[reason]++
	m.whole.observe(whole)
	if steps > 1 {
		m.perToken.observe(decoding / time.Duration(steps-1))
	}
}

// histogram counts durations in seconds.
type histogram struct {
	bounds []float64
	counts []int64 // one more than bounds: the last is beyond them all
	sum    float64
}

func newHistogram(bounds []float64) histogram {
	return histogram{bounds: bounds, counts: make([]int64, len(bounds)+1)}
}

func (h *histogram) observe(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.counts[i]++
	h.sum += d.Seconds()
}

func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(s.metricsText()))
}

// metricsText is the metrics in Prometheus' text format.
func (s *Server) metricsText() string {
	e := exposition{labels: fmt.Sprintf(`engine="0",model_name="%s"`, labelValue(s.cfg.ServedNames[0]))}
	running, waiting := s.slots.counts()
	e.gauge("num_requests_running", "Number of requests in model execution batches.", float64(running))
	e.gauge("num_requests_waiting", "Number of requests waiting to be processed.", float64(waiting))
	e.family("num_requests_waiting_by_reason", "gauge", "Number of waiting requests by reason.")
	e.sample("num_requests_waiting_by_reason", `reason="capacity"`, float64(waiting))
	e.sample("num_requests_waiting_by_reason", `reason="deferred"`, 0)
	e.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.",
		min(1, float64(s.kvInUse.Load())/float64(s.loaded.kvTokens)))
	e.family("engine_sleep_state", "gauge", "Engine sleep state; awake = 0 means engine is sleeping; awake = 1 means engine is awake.")
	awake, offloaded, discarded := s.sleep.metric()
	e.sample("engine_sleep_state", `sleep_state="awake"`, awake)
	e.sample("engine_sleep_state", `sleep_state="weights_offloaded"`, offloaded)
	e.sample("engine_sleep_state", `sleep_state="discard_all"`, discarded)
	e.family("cache_config_info", "gauge", "Information of the LLMEngine CacheConfig")
	e.sample("cache_config_info", fmt.Sprintf(`block_size="%d",num_gpu_blocks="%d",kv_cache_size_tokens="%d",kv_cache_max_concurrency="%.2f"`,
		blockSize, s.loaded.kvTokens/blockSize, s.loaded.kvTokens, s.loaded.concurrency()), 1)

	m := &s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	e.counter("prefix_cache_queries", "Prefix cache queries, in terms of number of queried tokens.", m.promptTokens)
	e.counter("prefix_cache_hits", "Prefix cache hits, in terms of number of cached tokens.", 0)
	e.counter("num_preemptions", "Cumulative number of preemption from the engine.", 0)
	e.counter("prompt_tokens", "Number of prefill tokens processed.", m.promptTokens)
	e.counter("generation_tokens", "Number of generation tokens processed.", m.generation)
	e.family("request_success_total", "counter", "Count of successfully processed requests.")
	for _, reason := range finishReasons {
		e.sample("request_success_total", `finished_reason="`+reason+`"`, float64(m.finished[reason]))
	}
	e.histogram("time_to_first_token_seconds", "Histogram of time to first token in seconds.", &m.firstTokens)
	e.histogram("inter_token_latency_seconds", "Histogram of inter-token latency in seconds.", &m.interToken)
	e.histogram("request_time_per_output_token_seconds", "Histogram of time_per_output_token_seconds per request.", &m.perToken)
	e.histogram("e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", &m.whole)
	e.histogram("request_queue_time_seconds", "Histogram of time spent in WAITING phase for request.", &m.queue)
	// The stand-in's own: what a look now and then would miss.
	fmt.Fprintf(&e, "# HELP vllm_sim:num_requests_running_peak The most requests that ever ran at once.\n"+
		"# TYPE vllm_sim:num_requests_running_peak gauge\nvllm_sim:num_requests_running_peak{%s} %d\n", e.labels, s.slots.most())
	return e.String()
}

// exposition gathers lines of Prometheus' text format.
type exposition struct {
	strings.Builder
	labels string
}

func (e *exposition) family(name, kind, help string) {
	fmt.Fprintf(e, "# HELP vllm:%s %s\n# TYPE vllm:%s %s\n", name, help, name, kind)
}

func (e *exposition) sample(name, more string, value float64) {
	labels := e.labels
	if more != "" {
		labels += "," + more
	}
	fmt.Fprintf(e, "vllm:%s{%s} %s\n", name, labels, strconv.FormatFloat(value, 'g', -1, 64))
}

func (e *exposition) gauge(name, help string, value float64) {
	e.family(name, "gauge", help)
	e.sample(name, "", value)
}

// counter names a counter as Prometheus' Python client does: with "_total".
func (e *exposition) counter(name, help string, value int64) {
	e.family(name+"_total", "counter", help)
	e.sample(name+"_total", "", float64(value))
}

func (e *exposition) histogram(name, help string, h *histogram) {
	e.family(name, "histogram", help)
	var sum int64
	for i, n := range h.counts {
		sum += n
		bound := math.Inf(1)
		if i < len(h.bounds) {
			bound = h.bounds[i]
		}
		e.sample(name+"_bucket", `le="`+boundText(bound)+`"`, float64(sum))
	}
	e.sample(name+"_count", "", float64(sum))
	e.sample(name+"_sum", "", h.sum)
}

func boundText(bound float64) string {
	text := strconv.FormatFloat(bound, 'f', -1, 64)
	if !strings.ContainsAny(text, ".I") {
		text += ".0"
	}
	return text
}

// labelValue escapes a text for use as a label's value.
func labelValue(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text)
}
