package vllm

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

func TestStages(t *testing.T) {
	// One start, as v0.2x logs it, with the stage that each line begins.
	var last server.Stage
	for _, c := range []struct {
		line string
		want server.Stage
	}{
		{`(APIServer pid=1) INFO 11-23 10:00:00 [utils.py:253] non-default args: {'model': 'Qwen/Qwen3-8B', 'trust_remote_code': True}`, ""},
		{`(EngineCore pid=60) INFO 11-23 10:00:10 [core.py:93] Initializing a V1 LLM engine (v0.30.0) with config: model='Qwen/Qwen3-8B', trust_remote_code=True, dtype=torch.bfloat16`, ""},
		{`(EngineCore pid=60) INFO 11-23 10:00:14 [gpu_model_runner.py:2602] Starting to load model Qwen/Qwen3-8B...`, StageLoading},
		{"Loading safetensors checkpoint shards:   0% Completed | 0/5 [00:00<?, ?it/s]", StageLoading},
		{`(EngineCore pid=60) INFO 11-23 10:00:22 [default_loader.py:267] Loading weights took 6.53 seconds`, StageLoading},
		{`(EngineCore pid=60) INFO 11-23 10:00:23 [gpu_model_runner.py:2653] Model loading took 15.2683 GiB memory and 8.281474 seconds`, StageProfiling},
		{`(EngineCore pid=60) INFO 11-23 10:00:30 [backends.py:548] Using cache directory: /root/.cache/vllm/torch_compile_cache/aa/rank_0_0/backbone for vLLM's torch.compile`, StageCompiling},
		{`(EngineCore pid=60) INFO 11-23 10:00:31 [backends.py:559] Dynamo bytecode transform time: 6.41 s`, StageCompiling},
		{`(EngineCore pid=60) INFO 11-23 10:00:50 [monitor.py:34] torch.compile took 25.33 s in total`, StageProfiling},
		{`(EngineCore pid=60) INFO 11-23 10:00:51 [gpu_worker.py:298] Available KV cache memory: 54.66 GiB`, StageCache},
		{`(EngineCore pid=60) INFO 11-23 10:00:51 [kv_cache_utils.py:1087] GPU KV cache size: 398,000 tokens, Maximum concurrency for 40,960 tokens per request: 9.72x`, StageCache},
		{"Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):   0%|          | 0/67 [00:00<?, ?it/s]", StageGraphs},
		{`(EngineCore pid=60) INFO 11-23 10:00:55 [gpu_model_runner.py:3480] Graph capturing finished in 4 secs, took 0.63 GiB`, StageWarming},
		{`(EngineCore pid=60) INFO 11-23 10:00:55 [core.py:210] init engine (profile, create kv cache, warmup model) took 31.69 seconds`, StageWarming},
		{`(APIServer pid=1) INFO 11-23 10:00:56 [api_server.py:1634] Starting vLLM API server 0 on http://127.0.0.1:8000`, StageWarming},
		{`(APIServer pid=1) INFO:     Application startup complete.`, StageListening},
		{`(APIServer pid=1) INFO:     127.0.0.1:52812 - "POST /v1/chat/completions HTTP/1.1" 200 OK`, ""},
	} {
		got := Server{}.Line(c.line)
		if got.Stage != c.want || got.Class != "" || got.Why != "" || got.More != 0 {
			t.Errorf("%s\ngot %+v, want the stage %q", c.line, got, c.want)
		}
		if got.Stage != "" {
			last = got.Stage
		}
	}
	if last != StageListening {
		t.Errorf("the start ends with %q", last)
	}
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		line  string
		class server.Class
		why   string  // part of it
		more  float64 // GiB
	}{
		{
			`(EngineCore pid=17635) ERROR 02-28 16:12:13 [core.py:866] ValueError: Free memory on device cuda:0 (4.04/119.63 GiB) on startup is less than desired GPU memory utilization (0.15, 17.94 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.`,
			server.ClassMemory, "only 4.04 of 119.63 GiB were free on the card when vLLM looked, and the model's share is 17.94 GiB", 13.91,
		},
		{
			`ValueError: Free memory on device (4.04/119.63 GiB) on startup is less than desired GPU memory utilization (0.15, 17.94 GiB).`,
			server.ClassMemory, "only 4.04 of 119.63 GiB", 13.91,
		},
		{
			`AssertionError: Error in memory profiling. Initial free memory 8.46 GiB, current free memory 12.98 GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling`,
			server.ClassRace, "from 8.46 GiB to 12.98 GiB free", 0,
		},
		{
			`AssertionError: Error in memory profiling. Initial free memory 39909924864, current free memory 47541829632. This happens when the GPU memory was not properly cleaned up before initializing the vLLM instance.`,
			server.ClassRace, "from 37.17 GiB to 44.28 GiB free", 0,
		},
		{
			"ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.",
			server.ClassKVCache, "give the model more vram", 0,
		},
		{
			"ValueError: To serve at least one request with the models's max seq len (131072), (4.00 GiB KV cache is needed, which is larger than the available KV cache memory (0.65 GiB). Based on the available memory, the estimated maximum model length is 21440. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.",
			server.ClassKVCache, "one request of 131072 tokens needs 4.00 GiB of KV cache on each card and there are 0.65: give the model 3.35 GiB more vram, or set max_model_len to 21440 at most", 3.36,
		},
		{
			"ValueError: To serve at least one request with the model's max seq len (262144), (3.04 GiB KV cache is needed, which is larger than the available KV cache memory (1.89 GiB). Try increasing `gpu_memory_utilization`",
			server.ClassKVCache, "give the model 1.15 GiB more vram", 1.16,
		},
		{"ValueError: To serve at least one request with the model's max seq len (so many)", server.ClassKVCache, "lower max_model_len", 0},
		{"ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token.", server.ClassKVCache, "a single token", 0},
		{
			`ERROR 04-07 15:58:28 [gpu_model_runner.py:4818] Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory for weights, increasing --tensor-parallel-size, or using --quantization. (original error: CUDA out of memory. Tried to allocate 112.00 MiB.`,
			server.ClassConfig, "the weights do not fit on the card", 0,
		},
		{"RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests. Please try lowering `max_num_seqs`", server.ClassConfig, "with 256 requests at once: set max_num_seqs lower", 0},
		{"RuntimeError: CUDA out of memory occurred when warming up pooler (EMBED) with 64 dummy requests.", server.ClassConfig, "lower max_num_seqs", 0},
		{"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 266.00 MiB. GPU 0 has a total capacity of 79.10 GiB", server.ClassMemory, "with 266.00 MiB wanted", 0},
		{"RuntimeError: CUDA error: out of memory", server.ClassMemory, "ran out of memory", 0},
		{"TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight loading for large models. Waited 600s", server.ClassTimeout, "start_timeout", 0},

		{"RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver", server.ClassEngine, "CUDA version 11040", 0},
		{"RuntimeError: No CUDA GPUs are available", server.ClassEngine, "nvidia-smi", 0},
		{"RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`", server.ClassEngine, "sees no GPU", 0},
		{"ValueError: invalid literal for int() with base 10: 'GPU-52a3a85d-3c55-ca3a-a955-82c69ed360fc'", server.ClassEngine, "newer vLLM", 0},
		{"OSError: [Errno 28] No space left on device", server.ClassFetch, "make room", 0},
		{"OSError: [Errno 98] Address already in use", server.ClassEngine, "port", 0},

		{"OSError: You are trying to access a gated repo.", server.ClassFetch, "HF_TOKEN", 0},
		{"huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-689eeb63;fd3df107)", server.ClassFetch, "gated", 0},
		{"Access to model google/gemma-3-1b-it is restricted. You must have access to it and be authenticated to access it. Please log in.", server.ClassFetch, "gated", 0},
		{"huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. (Request ID: Root=1-689eeb63;fd3df107)", server.ClassFetch, "does not exist, or is private", 0},
		{"OSError: no/such-model is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'", server.ClassFetch, "check the model's repo", 0},
		{"401 Client Error: Unauthorized for url: https://huggingface.co/api/models/a/b", server.ClassFetch, "refused the token", 0},
		{"OSError: We couldn't connect to 'https://huggingface.co' to load the files", server.ClassFetch, "cannot be reached", 0},
		{"huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder", server.ClassFetch, "not in the cache", 0},
		{"OSError: a/b does not appear to have a file named config.json.", server.ClassFetch, "lacks files", 0},
		{"FileNotFoundError: [Errno 2] No such file or directory: '/home/ann/secret/template.jinja'", server.ClassConfig, "check the paths", 0},

		{"vllm: error: unrecognized arguments: --no-such-flag sk-secret", server.ClassConfig, "does not know the argument --no-such-flag", 0},
		{"api_server.py: error: unrecognized arguments: sk-secret", server.ClassConfig, "does not know one of its arguments", 0},
		{"vllm serve: error: argument --dtype: invalid choice: 'sk-secret' (choose from auto, half)", server.ClassConfig, "argument --dtype", 0},
		{"vllm serve: error: argument --tensor-parallel-size/-tp: expected one argument", server.ClassConfig, "argument --tensor-parallel-size", 0},
		{"vllm serve: error: ambiguous option: --max could match --max-model-len, --max-num-seqs", server.ClassConfig, "argument --max:", 0},
		{"  Value error, User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768.0 or model_max_length=None in model's config.json).", server.ClassConfig, "max_model_len 65536 is more than the model was made for: set it to 32768 at most", 0},
		{"  Value error, Total number of attention heads (64) must be divisible by tensor parallel size (3).", server.ClassConfig, "set tensor_parallel to a divisor of 64", 0},
		{"  Value error, World size (4) is larger than the number of available GPUs (1) in this node.", server.ClassConfig, "fewer cards", 0},
		{"  Value error, Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: dict_keys([])", server.ClassConfig, "newer vLLM", 0},
		{"ValueError: The repository a/b contains custom code. Please pass the argument `trust_remote_code=True` to allow custom code to be run.", server.ClassConfig, "--trust-remote-code", 0},
		{"ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.", server.ClassConfig, "dtype to half", 0},

		// No failures.
		{"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}", "", "", 0},
		{"INFO 11-23 [logger.py:40] Received request cmpl-1: prompt: 'why does CUDA out of memory happen', params: None", "", "", 0},
		{"", "", "", 0},
	} {
		got := Server{}.Line(c.line)
		if got.Class != c.class || !strings.Contains(got.Why, c.why) || got.Stage != "" {
			t.Errorf("%s\ngot %+v\nwant class %q, why %q", c.line, got, c.class, c.why)
		}
		if want := int64(c.more * (1 << 30)); max(got.More-want, want-got.More) > 1<<10 || got.Facts != (footprint.Facts{}) {
			t.Errorf("%s\n%d bytes more would have helped, want %d; facts %+v", c.line, got.More, want, got.Facts)
		}
		if (got.Class == server.ClassNone) != (got.Why == "") {
			t.Errorf("%s\nclass %q and why %q do not go together", c.line, got.Class, got.Why)
		}
		checkWhy(t, got.Why)
	}
}

// checkWhy holds what every explanation has to be: a sentence without the end
// mark, without paths, and without anything secret.
func checkWhy(t *testing.T, why string) {
	t.Helper()
	if strings.Contains(why, "secret") || pathLike.MatchString(why) || len(why) > 400 || !utf8.ValidString(why) || strings.HasSuffix(why, ".") {
		t.Errorf("not fit for users: %q", why)
	}
}

var pathLike = regexp.MustCompile(`(^|\s|')/\w`)

func TestEveryFailureIsSaid(t *testing.T) {
	for _, f := range failures {
		if f.class == server.ClassNone || f.say == "" || len(f.marks) == 0 || (f.numbers == nil) != (f.detail == nil) {
			t.Errorf("incomplete: %q", f.marks)
		}
		for _, m := range f.marks {
			got := Server{}.Line("ERROR " + m + " and so on")
			if got.Class == server.ClassNone {
				t.Errorf("%q is not found", m)
			}
			checkWhy(t, got.Why)
		}
	}
}

func TestFacts(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		line string
		want footprint.Facts
	}{
		{`(EngineCore pid=60) INFO 11-23 10:00:23 [gpu_model_runner.py:2653] Model loading took 15.25 GiB memory and 8.281474 seconds`, footprint.Facts{Weights: 15.25 * gib}},
		{`INFO 05-01 [gpu_model_runner.py:1347] Model loading took 15.25 GiB and 6.5 seconds`, footprint.Facts{Weights: 15.25 * gib}},
		{`INFO 01-01 [model_runner.py:1099] Loading model weights took 14.5 GB`, footprint.Facts{Weights: 14.5 * gib}},
		{`(Worker_TP1 pid=9) INFO 11-23 [gpu_worker.py:298] Available KV cache memory: 54.5 GiB`, footprint.Facts{KV: 54.5 * gib}},
		{`INFO 09-11 [gpu_worker.py:381] Initial free memory 10.04 GiB, reserved 0.5 GiB memory for KV Cache as specified by kv_cache_memory_bytes config and skipped memory profiling.`, footprint.Facts{KV: gib / 2}},
		{`INFO 11-23 [kv_cache_utils.py:1087] GPU KV cache size: 398,000 tokens, Maximum concurrency for 40,960 tokens per request: 9.72x`, footprint.Facts{Tokens: 398000, MaxModelLen: 40960, Concurrency: 9.72}},
		{`INFO 11-23 [kv_cache_utils.py:864] GPU KV cache size: 46,368 tokens`, footprint.Facts{Tokens: 46368}},
		{`INFO 11-23 [kv_cache_utils.py:868] Maximum concurrency for 16,384 tokens per request: 2.83x`, footprint.Facts{MaxModelLen: 16384, Concurrency: 2.83}},
		{`INFO [executor_base.py:117] Maximum concurrency for 4096 tokens per request: 88.91x`, footprint.Facts{MaxModelLen: 4096, Concurrency: 88.91}},
		{`INFO 11-23 [gpu_model_runner.py:3480] Graph capturing finished in 4 secs, took 0.625 GiB`, footprint.Facts{Graphs: 0.625 * gib}},
		{`INFO [kv_cache_utils.py] Auto-fit max_model_len: reduced from 262144 to 150528 to fit in available GPU memory (5.37 GiB available for KV cache)`, footprint.Facts{MaxModelLen: 150528}},

		// Nothing, or nothing that can be.
		{`INFO Loading weights took 6.53 seconds`, footprint.Facts{}},
		{`INFO Model loading took 1.2.3 GiB memory`, footprint.Facts{}},
		{`INFO Model loading took -15 GiB memory`, footprint.Facts{}},
		{`INFO Model loading took nan GiB memory`, footprint.Facts{}},
		{`INFO Model loading took 0.00 GiB memory`, footprint.Facts{}},
		{`INFO Model loading took 99999999999999999999 GiB memory`, footprint.Facts{}},
		{`INFO Available KV cache memory: -0.38 GiB`, footprint.Facts{}},
		{`INFO Available KV cache memory: 20000 GiB`, footprint.Facts{}},
		{`INFO GPU KV cache size: 999,999,999,999,999,999 tokens, Maximum concurrency for 0 tokens per request: 5.00x`, footprint.Facts{}},
		{`INFO Maximum concurrency for 4,096 tokens per request: 99999999.00x`, footprint.Facts{}},
		{`INFO Graph capturing finished in 4 secs, took -0.02 GiB`, footprint.Facts{}},
		{`INFO Received request cmpl-1: prompt: 'Model loading took 5 GiB memory', params: None`, footprint.Facts{}},
	} {
		got := Server{}.Line(c.line)
		if got.Facts != c.want || got.Class != server.ClassNone {
			t.Errorf("%s\ngot %+v, want %+v", c.line, got, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, fail := range failures {
		f.Add(fail.marks[0])
	}
	for _, s := range stages {
		f.Add(s.mark)
	}
	f.Add("ValueError: To serve at least one request with the model's max seq len (9), (1.2.3 GiB KV cache is needed, which is larger than the available KV cache memory (. GiB)")
	f.Add("Error in memory profiling. Initial free memory 9.9.9, current free memory ...")
	f.Add("error: unrecognized arguments: --\xff")
	f.Add("Model loading took 1e5 GiB memory, Available KV cache memory: 12.5 GiB, Graph capturing finished in 4 secs, took 0.63 GiB")
	f.Add("GPU KV cache size: 46,368 tokens, Maximum concurrency for 16,384 tokens per request: 2.83x")
	f.Add("Auto-fit max_model_len: reduced from 5 to 99999999999999999999, reserved 1 GiB memory for KV Cache as specified by x")
	f.Fuzz(func(t *testing.T, line string) {
		got := Server{}.Line(line)
		if got.Stage != "" && got.Class != server.ClassNone {
			t.Errorf("%q is a stage and a failure: %+v", line, got)
		}
		if (got.Class == server.ClassNone) != (got.Why == "") {
			t.Errorf("%q: class %q, why %q", line, got.Class, got.Why)
		}
		for _, bytes := range []int64{got.More, got.Facts.Weights, got.Facts.KV, got.Facts.Graphs} {
			if bytes < 0 || bytes > mostBytes {
				t.Errorf("%q: %+v", line, got)
			}
		}
		if n := got.Facts.Concurrency; n < 0 || n > mostConcurrency || math.IsNaN(n) || got.Facts.Tokens < 0 || got.Facts.Tokens > mostTokens || got.Facts.MaxModelLen < 0 || got.Facts.MaxModelLen > mostLength {
			t.Errorf("%q: %+v", line, got)
		}
		if got.Class != server.ClassNone && got.Facts != (footprint.Facts{}) || got.Class == server.ClassNone && got.More != 0 {
			t.Errorf("%q: a failure and facts: %+v", line, got)
		}
		if !utf8.ValidString(got.Why) || len(got.Why) > 200+len(line) {
			t.Errorf("%q: why %q", line, got.Why)
		}
	})
}
