// This file owns how vLLM's log lines are read, and the stages of its start.

package vllm

import (
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// The stages of vLLM's start, in the order in which they come.
const (
	StageLoading   server.Stage = "loading weights"
	StageCompiling server.Stage = "compiling"
	StageProfiling server.Stage = "profiling memory"
	StageCache     server.Stage = "allocating the KV cache"
	StageGraphs    server.Stage = "capturing graphs"
	StageWarming   server.Stage = "warming up"
	StageListening server.Stage = "listening"
)

// stages are the lines that tell a stage. vLLM mostly logs what has ended, so a
// line often stands for what comes after it. All are substrings: a line begins
// with the process's name, the level, the time and the place in the source.
var stages = []struct {
	mark  string
	stage server.Stage
}{
	{"Starting to load model", StageLoading},
	{"Loading safetensors checkpoint shards", StageLoading},
	{"Loading weights took", StageLoading},
	{"Model loading took", StageProfiling},
	{"for vLLM's torch.compile", StageCompiling}, // "Using cache directory: …"
	{"Dynamo bytecode transform time", StageCompiling},
	{"Compiling a graph for", StageCompiling},
	{"torch.compile took", StageProfiling},
	{"torch.compile takes", StageProfiling}, // older versions
	{"Available KV cache memory", StageCache},
	{"memory for KV Cache as specified by kv_cache_memory_bytes", StageCache},
	{"GPU KV cache size", StageCache},
	{"Capturing CUDA graph", StageGraphs}, // a progress bar: "Capturing CUDA graphs (…): 0%"
	{"Graph capturing finished in", StageWarming},
	{"init engine (profile, create kv cache, warmup model) took", StageWarming},
	{"Starting vLLM API server", StageWarming},
	{"Starting vLLM server on", StageWarming},
	{"Application startup complete", StageListening},
}

// clientText marks the lines that repeat what a client sent; whatever they
// contain is no message of vLLM's.
const clientText = "Received request "

// Line implements [server.Server]. A failure usually shows as several lines of
// a traceback in several processes; each that is known gives the same class or
// a wider one, so the first is the one to keep.
func (Server) Line(line string) server.Line {
	if strings.Contains(line, clientText) {
		return server.Line{}
	}
	for _, f := range failures {
		if f.found(line) {
			return f.read(line)
		}
	}
	l := server.Line{Facts: facts(line)}
	for _, s := range stages {
		if strings.Contains(line, s.mark) {
			l.Stage = s.stage
			break
		}
	}
	return l
}
