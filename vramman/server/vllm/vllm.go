// Package vllm is the server vLLM: how it is launched, when it is ready, and
// what its log lines mean. Everything that the gateway knows of vLLM's command
// line and environment is here.
package vllm

import (
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

const (
	// keepAlive is how long vLLM is told to keep idle connections. Its own 5 s
	// are shorter than what HTTP clients keep, which ends in requests sent on a
	// connection that is just being closed.
	keepAlive = 120 * time.Second
	// readyMargin is how much longer than the gateway vLLM waits for its own
	// engine, so that the gateway's timeout, which explains itself, comes first.
	readyMargin = time.Minute
	// minReady is vLLM's own default for that wait; it is never shortened.
	minReady = 10 * time.Minute
	// shutdownMargin is how long before the engine kills it vLLM gives up on
	// its requests: that is when it begins to end its workers, which takes it
	// 5 s and more.
	shutdownMargin = 10 * time.Second
)

// Server launches and understands vLLM. The zero Server is ready for use.
//
// Its arguments fit after the command "vllm serve" and after "python -m
// vllm.entrypoints.openai.api_server". Only the flag --model serves for both;
// "vllm serve" takes it for the positional argument that it prefers, with a
// warning in its log.
type Server struct{}

// Key implements [server.Server]. There is nothing to configure.
func (Server) Key() string { return "vllm" }

// Args implements [server.Server]. The instance's key is not among them: every
// user of a host can read the arguments of every process.
func (Server) Args(m server.Model, p server.Place, l engine.Listen) []string {
	args := []string{
		"--model", modelReference(m),
		"--served-model-name", m.Name,
		"--host", l.Host,
		"--port", strconv.Itoa(l.Port),
	}
	if m.TensorParallel > 1 {
		args = append(args, "--tensor-parallel-size", strconv.Itoa(m.TensorParallel))
	}
	if n := maxModelLen(m, p.Cache); n > 0 {
		args = append(args, "--max-model-len", strconv.Itoa(n))
	}
	if m.MaxNumSeqs > 0 {
		args = append(args, "--max-num-seqs", strconv.Itoa(m.MaxNumSeqs))
	}
	if m.DType != "" {
		args = append(args, "--dtype", m.DType)
	}
	if m.Quantization != "" {
		args = append(args, "--quantization", m.Quantization)
	}
	if m.EnforceEager {
		args = append(args, "--enforce-eager")
	}
	if m.Sleep {
		args = append(args, "--enable-sleep-mode")
	}
	if p.CardTotal > 0 {
		args = append(args, "--gpu-memory-utilization", utilization(p))
	}
	if p.KVBytes > 0 {
		// With it vLLM does not size the cache by what it measures, so a
		// neighbour that takes or frees memory meanwhile changes nothing.
		args = append(args, "--kv-cache-memory-bytes", strconv.FormatInt(p.KVBytes, 10))
	}
	args = append(args, loraArgs(m.LoRA)...)
	args = append(args, "--shutdown-timeout", seconds(shutdownTimeout(p.StopGrace)))
	return append(args, m.Args...)
}

// SleepRequest implements [server.Sleeper]. At level 1 the weights go to the
// host's memory and the KV cache is given up. Requests that run are waited for:
// vLLM's own way would abort them.
func (Server) SleepRequest() *http.Request {
	return request(http.MethodPost, "/sleep", "level=1&mode=wait")
}

// WakeRequest implements [server.Sleeper].
func (Server) WakeRequest() *http.Request { return request(http.MethodPost, "/wake_up", "") }

// request is one for the gateway's own use. The host means nothing: requests
// go where the instance is dialled.
func request(method, path, query string) *http.Request {
	return &http.Request{
		Method: method,
		URL:    &url.URL{Scheme: "http", Host: "vllm", Path: path, RawQuery: query},
		Header: make(http.Header),
	}
}

// unread are files that repositories have for other programs, weights again in
// most of them, which would double what is downloaded. vLLM leaves original/ out
// by itself and looks for none of the others. Older clients heed the last one only.
var unread = []string{
	"*.onnx", "*.onnx_data", "openvino/*", "*.h5", "*.msgpack", "*.tflite", "*.ot", "coreml/*", "original/*",
}

// FetchCommand implements [server.Server]: the Hugging Face client, which vLLM
// depends on, downloads what is missing and resumes what was begun. A repo that
// is a path is there already. Of a GGUF repository, which usually holds a model
// many times, only what is served is brought.
func (Server) FetchCommand(m server.Model) []string {
	if local(m.Repo) {
		return nil
	}
	command := []string{"hf", "download", m.Repo}
	if r := revision(m.Args); r != "" {
		command = append(command, "--revision", r)
	}
	if m.File != "" {
		return append(command, fetchGGUF(m.File)...)
	}
	for _, pattern := range unread {
		command = append(command, "--exclude", pattern)
	}
	return command
}

// Env implements [server.Server].
func (Server) Env(m server.Model, p server.Place) []string {
	ready := max(p.StartTimeout+readyMargin, minReady)
	env := []string{
		"VLLM_HTTP_TIMEOUT_KEEP_ALIVE=" + seconds(keepAlive),
		"VLLM_ENGINE_READY_TIMEOUT_S=" + strconv.Itoa(int(math.Ceil(ready.Seconds()))),
		"VLLM_NO_USAGE_STATS=1",
	}
	if p.Key != "" {
		env = append(env, "VLLM_API_KEY="+p.Key)
	}
	if m.Sleep {
		// Without it vLLM has no routes for sleeping.
		env = append(env, "VLLM_SERVER_DEV_MODE=1")
	}
	if whole(m, p.Cache) && !needsMore(m.Args) && !fetchesAdapters(m) {
		// No start waits for a hub that is slow or away.
		env = append(env, "HF_HUB_OFFLINE=1")
	}
	return env
}

// ReadyRequest implements [server.Server]. vLLM refuses connections until its
// engine is ready, and answers 200 here from then on.
func (Server) ReadyRequest() *http.Request {
	return request(http.MethodGet, "/health", "")
}

// KeepAlive implements [server.Server].
func (Server) KeepAlive() time.Duration { return keepAlive }

// shutdownTimeout is how long vLLM may finish requests after SIGTERM, when the
// engine kills it after grace. Without it vLLM aborts them at once. Of a short
// grace half is left for vLLM's own end.
func shutdownTimeout(grace time.Duration) time.Duration {
	return max(0, grace-min(shutdownMargin, grace/2))
}

// seconds writes a time as whole seconds, rounded down.
func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// Interface guards
var (
	_ server.Server  = Server{}
	_ server.Sleeper = Server{}
)
