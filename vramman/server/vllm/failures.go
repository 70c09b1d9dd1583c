// This file owns vLLM's messages of failure: what class each is, and what a
// person is told to do about it.

package vllm

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// failure is one message that vLLM, or what it is built on, fails with.
type failure struct {
	marks []string // a line with any of these tells the failure
	class server.Class
	// say is what went wrong and what to do. Where numbers is set and finds
	// something in the line, detail says it instead, with what was found.
	say     string
	numbers *regexp.Regexp
	detail  func(found []string) string
	// more is how many GiB more on each card would have helped, of what numbers
	// finds; nil where the message does not say.
	more func(found []string) float64
}

// found says whether a line tells this failure.
func (f *failure) found(line string) bool {
	for _, m := range f.marks {
		if strings.Contains(line, m) {
			return true
		}
	}
	return false
}

// read is what a line that tells this failure says. Nothing of the line gets
// into the explanation but numbers and the names of flags.
func (f *failure) read(line string) server.Line {
	l := server.Line{Class: f.class, Why: f.say}
	if f.numbers == nil {
		return l
	}
	if found := f.numbers.FindStringSubmatch(line); found != nil {
		l.Why = f.detail(found)
		if f.more != nil {
			// Both figures were rounded to hundredths.
			l.More = gibibytes(f.more(found) + 0.01)
		}
	}
	return l
}

// lacking is how much a number exceeds another; NaN where it does not, or one
// is no number.
func lacking(need, have string) float64 {
	n, err := strconv.ParseFloat(need, 64)
	h, err2 := strconv.ParseFloat(have, 64)
	if err != nil || err2 != nil || n <= h {
		return math.NaN()
	}
	return n - h
}

// failures are tried in order: what is closer to the cause stands before what
// follows from it, and what the same line may contain besides.
//
// The messages are those of vLLM: vllm/v1/worker/utils.py (request_memory),
// vllm/v1/worker/gpu_worker.py (determine_available_memory),
// vllm/v1/core/kv_cache_utils.py (_check_enough_kv_cache_memory),
// vllm/v1/worker/gpu_model_runner.py (load_model, _dummy_sampler_run),
// vllm/config; and of argparse, PyTorch, Transformers and huggingface_hub.
var failures = []failure{
	// Memory of the card.
	{
		marks:   []string{"on startup is less than desired GPU memory utilization"},
		class:   server.ClassMemory,
		say:     "less VRAM was free on the card than the model's share when vLLM looked: another program holds it; end that program, or give the model less vram",
		numbers: regexp.MustCompile(`\(([\d.]{1,20})/([\d.]{1,20}) GiB\) on startup is less than desired GPU memory utilization \([\d.]{1,20}, ([\d.]{1,20}) GiB\)`),
		detail: func(n []string) string {
			return fmt.Sprintf("only %s of %s GiB were free on the card when vLLM looked, and the model's share is %s GiB: another program holds the rest; end that program, or give the model less vram", n[1], n[2], n[3])
		},
		more: func(n []string) float64 { return lacking(n[3], n[1]) },
	},
	{
		marks:   []string{"Error in memory profiling. Initial free memory"},
		class:   server.ClassRace,
		say:     "another program freed VRAM of the card while vLLM measured it; starting again helps, and if it keeps happening, keep other programs off the card",
		numbers: regexp.MustCompile(`Initial free memory ([\d.]{1,20})( GiB)?, current free memory ([\d.]{1,20})`),
		detail: func(n []string) string {
			return fmt.Sprintf("another program freed VRAM of the card while vLLM measured it (from %s to %s free); starting again helps, and if it keeps happening, keep other programs off the card", gib(n[1], n[2]), gib(n[3], n[2]))
		},
	},
	{
		marks: []string{"No available memory for the cache blocks"},
		class: server.ClassKVCache,
		say:   "the weights and their working memory leave none of the model's share for the KV cache: give the model more vram, or lower max_num_seqs or max_model_len",
	},
	{
		marks:   []string{"To serve at least one request with the model"}, // "model's" and, for long, "models's"
		class:   server.ClassKVCache,
		say:     "the KV cache does not hold one request of full length: give the model more vram, or lower max_model_len",
		numbers: regexp.MustCompile(`max seq len \((\d{1,20})\), \(?([\d.]{1,20}) GiB KV cache is needed, which is larger than the available KV cache memory \(([\d.]{1,20}) GiB\)(?:\.\s+Based on the available memory, the estimated maximum model length is (\d{1,20}))?`),
		detail: func(n []string) string {
			need, _ := strconv.ParseFloat(n[2], 64)
			have, _ := strconv.ParseFloat(n[3], 64)
			why := fmt.Sprintf("one request of %s tokens needs %s GiB of KV cache on each card and there are %s: give the model %.2f GiB more vram", n[1], n[2], n[3], need-have)
			if n[4] != "" {
				why += ", or set max_model_len to " + n[4] + " at most"
			}
			return why
		},
		more: func(n []string) float64 { return lacking(n[2], n[3]) },
	},
	{
		marks: []string{"Cannot auto-fit max_model_len"},
		class: server.ClassKVCache,
		say:   "the model's share does not hold the KV cache of a single token: give the model more vram",
	},
	{
		marks: []string{"Failed to load model - not enough GPU memory"},
		class: server.ClassConfig,
		say:   "the weights do not fit on the card: use larger cards, more of them (tensor_parallel), or a quantized model",
	},
	{
		marks:   []string{"CUDA out of memory occurred when warming up"},
		class:   server.ClassConfig,
		say:     "the card ran out of memory while vLLM warmed up: lower max_num_seqs",
		numbers: regexp.MustCompile(`warming up \w+ with (\d{1,20}) dummy requests`),
		detail: func(n []string) string {
			return "the card ran out of memory while vLLM warmed up with " + n[1] + " requests at once: set max_num_seqs lower than that"
		},
	},
	{
		marks:   []string{"CUDA out of memory", "torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError", "CUDA error: out of memory"},
		class:   server.ClassMemory,
		say:     "the card ran out of memory: give the model more vram, lower max_num_seqs or max_model_len, or end other programs on the card",
		numbers: regexp.MustCompile(`Tried to allocate ([\d.]{1,20} [KMG]iB)`),
		detail: func(n []string) string {
			return "the card ran out of memory with " + n[1] + " wanted: give the model more vram, lower max_num_seqs or max_model_len, or end other programs on the card"
		},
	},

	// The host and its driver.
	{
		marks:   []string{"NVIDIA driver on your system is too old", "CUDA driver version is insufficient", "unsupported toolchain"},
		class:   server.ClassEngine,
		say:     "the host's NVIDIA driver is too old for this vLLM: update the driver, or use an older vLLM",
		numbers: regexp.MustCompile(`too old \(found version (\d{1,20})\)`),
		detail: func(n []string) string {
			return "the host's NVIDIA driver (for CUDA version " + n[1] + ") is too old for this vLLM: update the driver, or use an older vLLM"
		},
	},
	{
		marks: []string{"no kernel image is available for execution"},
		class: server.ClassConfig,
		say:   "this vLLM was not built for the card's generation: use a vLLM that was, or other cards",
	},
	{
		marks: []string{"No CUDA GPUs are available", "no CUDA-capable device is detected", "Failed to infer device type", "NVML Shared Library Not Found"},
		class: server.ClassEngine,
		say:   "vLLM sees no GPU: check that nvidia-smi lists the card where the server runs, and that the pool's GPU is one of them",
	},
	{
		marks: []string{"invalid literal for int() with base 10: 'GPU-", "invalid literal for int() with base 10: 'MIG-"},
		class: server.ClassEngine,
		say:   "this vLLM cannot be given its cards by UUID: use a newer vLLM",
	},
	{
		marks: []string{"No space left on device"},
		class: server.ClassFetch,
		say:   "a disk, or the shared memory, that the server writes to is full: make room where the weights are kept",
	},
	{
		marks: []string{"address already in use", "Address already in use"},
		class: server.ClassEngine,
		say:   "another program took the server's port between its choice and its use; starting again helps",
	},

	// Repositories. The Hub answers 401 for what does not exist as well, so the
	// names of the errors go before the number.
	{
		marks: []string{"GatedRepoError", "access a gated repo", "Cannot access gated repo", "You must have access to it and be authenticated"},
		class: server.ClassFetch,
		say:   "the repository is gated: accept its terms on the Hugging Face Hub, and pass a token of that account as HF_TOKEN in the environment",
	},
	{
		marks: []string{"RepositoryNotFoundError", "Repository Not Found for url", "is not a local folder and is not a valid model identifier"},
		class: server.ClassFetch,
		say:   "the repository does not exist, or is private: check the model's repo, and for a private one pass HF_TOKEN in the environment",
	},
	{
		marks: []string{"RevisionNotFoundError", "is not a valid git identifier"},
		class: server.ClassFetch,
		say:   "the repository has no such revision: check --revision in the model's args",
	},
	{
		marks: []string{"401 Client Error", "403 Client Error", "Invalid user token", "Invalid username or password"},
		class: server.ClassFetch,
		say:   "the Hugging Face Hub refused the token: check HF_TOKEN in the environment, and that it may read the model's repo",
	},
	{
		marks: []string{"LocalEntryNotFoundError", "Cannot find an appropriate cached snapshot folder", "We couldn't connect to", "outgoing traffic has been disabled", "OfflineModeIsEnabled"},
		class: server.ClassFetch,
		say:   "the model is not in the cache and the Hugging Face Hub cannot be reached: check the network and its proxy, or put the model into the cache",
	},
	{
		marks: []string{"does not appear to have a file named", "Cannot find any model weights with"},
		class: server.ClassFetch,
		say:   "the repository lacks files that vLLM needs: check that the model's repo holds weights in the safetensors format",
	},
	{
		marks: []string{"FileNotFoundError: [Errno 2] No such file or directory"},
		class: server.ClassConfig,
		say:   "a file that the server was told to use does not exist: check the paths in the model's repo and args, as the server sees them",
	},

	// The configuration.
	{
		marks:   []string{"error: unrecognized arguments:"},
		class:   server.ClassConfig,
		say:     "vLLM does not know one of its arguments: check the model's args for this version of vLLM",
		numbers: regexp.MustCompile(`error: unrecognized arguments:.*?\s(--?[a-zA-Z][a-zA-Z0-9_-]{0,60})`),
		detail: func(n []string) string {
			return "vLLM does not know the argument " + n[1] + ": check the model's args for this version of vLLM"
		},
	},
	{
		marks:   []string{"error: argument -", "error: ambiguous option:"},
		class:   server.ClassConfig,
		say:     "vLLM refuses one of its arguments: check the model's options and args",
		numbers: regexp.MustCompile(`error: (?:argument|ambiguous option:) (--?[a-zA-Z][a-zA-Z0-9_-]{0,60})`),
		detail: func(n []string) string {
			return "vLLM refuses the value or the use of its argument " + n[1] + ": check the model's options and args"
		},
	},
	{
		marks:   []string{"is greater than the derived max_model_len"},
		class:   server.ClassConfig,
		say:     "max_model_len is more than the model was made for: lower it",
		numbers: regexp.MustCompile(`max_model_len \((\d{1,20})\) is greater than the derived max_model_len \(\w+=(\d{1,20})`),
		detail: func(n []string) string {
			return "max_model_len " + n[1] + " is more than the model was made for: set it to " + n[2] + " at most"
		},
	},
	{
		marks:   []string{"must be divisible by tensor parallel size"},
		class:   server.ClassConfig,
		say:     "the model cannot be split over that many cards: set tensor_parallel to a divisor of its number of attention heads",
		numbers: regexp.MustCompile(`attention heads \((\d{1,20})\) must be divisible by tensor parallel size \((\d{1,20})\)`),
		detail: func(n []string) string {
			return "the model's " + n[1] + " attention heads cannot be split over " + n[2] + " cards: set tensor_parallel to a divisor of " + n[1]
		},
	},
	{
		marks: []string{"is larger than the number of available GPUs"},
		class: server.ClassConfig,
		say:   "vLLM sees fewer cards than it is to use: check tensor_parallel, and that the server can see all cards of its pool",
	},
	{
		marks: []string{"are not supported for now. Supported architectures", "failed to be inspected", "Transformers does not recognize this architecture"},
		class: server.ClassConfig,
		say:   "this vLLM does not know the model's architecture: use a newer vLLM, or another model",
	},
	{
		// With the quotation mark: vLLM logs its whole configuration without.
		marks: []string{"`trust_remote_code=True`"},
		class: server.ClassConfig,
		say:   "the model brings code of its own, which vLLM runs only when told to: add --trust-remote-code to the model's args if you trust the repository",
	},
	{
		marks: []string{"Bfloat16 is only supported on GPUs with compute capability"},
		class: server.ClassConfig,
		say:   "the card is too old for bfloat16: set dtype to half",
	},
	{
		marks: []string{"Timed out waiting for engine core processes to"},
		class: server.ClassTimeout,
		say:   "vLLM's engine was not ready in the time that vLLM gives it: raise start_timeout, and see what the server's log ends with",
	},
}

// gib writes an amount of memory that older vLLMs log in bytes and newer ones
// with the unit.
func gib(number, unit string) string {
	if bytes, err := strconv.ParseFloat(number, 64); err == nil && unit == "" {
		number = strconv.FormatFloat(bytes/(1<<30), 'f', 2, 64)
	}
	return number + " GiB"
}
