// This file reads from vLLM's log what it says of its memory.

package vllm

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
)

// Bounds of what a log may say. Beyond them it is not believed.
const (
	mostBytes       = 1 << 44 // more than any card has
	mostLength      = 1 << 26 // tokens of a context
	mostTokens      = 1 << 40 // in a cache
	mostConcurrency = 1e6
)

// figures are the lines with figures, and where each goes. A line may hold
// several. The messages are those of vLLM: load_model and capture_model in
// vllm/v1/worker/gpu_model_runner.py, determine_available_memory in
// vllm/v1/worker/gpu_worker.py, update_kv_cache_capacity and
// _auto_fit_max_model_len in vllm/v1/core/kv_cache_utils.py. What older versions
// call GB is GiB too.
var figures = []struct {
	mark    string // cheap to look for
	numbers *regexp.Regexp
	take    func(*footprint.Facts, []string)
}{
	{
		"took ",
		regexp.MustCompile(`(?:Model loading|Loading model weights) took ([\d.]{1,20}) ?(?:GiB|GB)\b`),
		func(f *footprint.Facts, n []string) { f.Weights = gibibytes(number(n[1])) },
	},
	{
		"Available KV cache memory",
		regexp.MustCompile(`Available KV cache memory: ([\d.]{1,20}) ?GiB\b`),
		func(f *footprint.Facts, n []string) { f.KV = gibibytes(number(n[1])) },
	},
	{
		"memory for KV Cache as specified by", // --kv-cache-memory-bytes
		regexp.MustCompile(`reserved ([\d.]{1,20}) ?GiB memory for KV Cache as specified by`),
		func(f *footprint.Facts, n []string) { f.KV = gibibytes(number(n[1])) },
	},
	{
		"GPU KV cache size",
		regexp.MustCompile(`GPU KV cache size: ([\d,]{1,25}) tokens`),
		func(f *footprint.Facts, n []string) { f.Tokens = whole64(n[1], mostTokens) },
	},
	{
		"Maximum concurrency for",
		regexp.MustCompile(`Maximum concurrency for ([\d,]{1,25}) tokens per request: ([\d.]{1,20})x`),
		func(f *footprint.Facts, n []string) {
			length, times := whole64(n[1], mostLength), number(n[2])
			if length > 0 && times > 0 && times <= mostConcurrency {
				f.MaxModelLen, f.Concurrency = length, times
			}
		},
	},
	{
		"Graph capturing finished in",
		regexp.MustCompile(`Graph capturing finished in \d{1,20} secs?, took ([\d.]{1,20}) ?GiB\b`),
		func(f *footprint.Facts, n []string) { f.Graphs = gibibytes(number(n[1])) },
	},
	{
		"Auto-fit max_model_len: reduced from",
		regexp.MustCompile(`Auto-fit max_model_len: reduced from \d{1,20} to (\d{1,20})\b`),
		func(f *footprint.Facts, n []string) { f.MaxModelLen = whole64(n[1], mostLength) },
	},
}

// facts reads one line.
func facts(line string) footprint.Facts {
	var f footprint.Facts
	for _, figure := range figures {
		if !strings.Contains(line, figure.mark) {
			continue
		}
		if found := figure.numbers.FindStringSubmatch(line); found != nil {
			figure.take(&f, found)
		}
	}
	return f
}

// number reads digits with a point; 0 where it is no number.
func number(digits string) float64 {
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0
	}
	return n
}

// gibibytes is so many GiB in bytes; 0 where no card could have them.
func gibibytes(n float64) int64 {
	if n > 0 && n <= mostBytes>>30 { // which NaN is not
		return int64(n * (1 << 30))
	}
	return 0
}

// whole64 reads digits with commas; 0 where there is none, or too many.
func whole64(digits string, most int64) int64 {
	n, err := strconv.ParseInt(strings.ReplaceAll(digits, ",", ""), 10, 64)
	if err != nil || n < 0 || n > most {
		return 0
	}
	return n
}
