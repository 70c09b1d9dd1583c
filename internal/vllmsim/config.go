// The server's configuration: vLLM's flags that the stand-in heeds, and the
// environment.

package vllmsim

import (
	"errors"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// Config is everything a server needs to know. [ParseConfig] makes one.
type Config struct {
	Model       string   // what is served: a repository or a path
	ServedNames []string // what clients may call it, at least one
	Host        string   // to listen on; empty is every address
	Port        int
	UDS         string // a Unix socket to listen on instead, or empty

	TensorParallel  int     // number of cards
	MaxModelLen     int     // tokens; 0 takes the model's, autoModelLen what fits
	MaxNumSeqs      int     // requests that run at a time
	Utilization     float64 // share of each card's memory to request
	KVCacheBytes    int64   // KV cache on each card; 0 sizes it by profiling
	EnforceEager    bool
	SleepMode       bool          // --enable-sleep-mode, and the development routes that use it
	PriorityQueue   bool          // requests may have a priority
	RequestIDHeader bool          // answers bear X-Request-Id
	Tasks           string        // "auto", "generate" or "pooling": which routes there are
	ShutdownTimeout time.Duration // how long a shutdown waits for running requests
	APIKeys         []string      // any of them opens /v1; none leaves it open

	Environment
}

// autoModelLen asks for the longest context that fits ("--max-model-len auto").
const autoModelLen = -1

// defaultModel is what vLLM serves when it is told nothing.
const defaultModel = "Qwen/Qwen3-0.6B"

// ParseConfig reads vLLM's arguments, with "serve" before them or not, and the
// environment. The error is a [*UsageError] if vLLM's argument parser would refuse
// the arguments.
func ParseConfig(args []string, env func(string) string) (Config, error) {
	p, err := parseArguments(args)
	if err != nil {
		return Config{}, err
	}
	c := Config{
		Model:           p.text("model", defaultModel),
		Host:            p.text("host", ""),
		UDS:             p.text("uds", ""),
		EnforceEager:    p.switches["enforce-eager"],
		RequestIDHeader: p.switches["enable-request-id-headers"],
		APIKeys:         p.values["api-key"],
	}
	if p.model != "" {
		c.Model = p.model
	}
	if c.ServedNames = p.values["served-model-name"]; len(c.ServedNames) == 0 {
		c.ServedNames = []string{c.Model}
	}
	if key := env("VLLM_API_KEY"); len(c.APIKeys) == 0 && key != "" {
		c.APIKeys = []string{key}
	}
	if p.values["config"] != nil {
		return Config{}, usageErrorf("argument --config: the stand-in reads no configuration files")
	}
	if err := c.readNumbers(p); err != nil {
		return Config{}, err
	}
	if err := c.readChoices(p); err != nil {
		return Config{}, err
	}
	c.Environment, err = parseEnvironment(env)
	c.SleepMode = p.switches["enable-sleep-mode"] && c.DevMode
	return c, err
}

func (c *Config) readNumbers(p *arguments) error {
	var errs []error
	whole := func(name string, def, low, high int64) int64 {
		n, err := p.integer(name, def, low, high)
		errs = append(errs, err)
		return n
	}
	c.Port = int(whole("port", 8000, 0, math.MaxUint16))
	c.TensorParallel = int(whole("tensor-parallel-size", 1, 1, 1024))
	c.MaxNumSeqs = int(whole("max-num-seqs", 256, 1, 1<<20))
	c.ShutdownTimeout = time.Duration(whole("shutdown-timeout", 0, 0, 1<<30)) * time.Second

	var err error
	c.KVCacheBytes, err = p.count("kv-cache-memory-bytes", 0, 0, 1<<60)
	errs = append(errs, err)
	if p.text("max-model-len", "") == "auto" {
		c.MaxModelLen = autoModelLen
	} else {
		n, err := p.count("max-model-len", 0, autoModelLen, 1<<40)
		errs = append(errs, err)
		if p.values["max-model-len"] != nil && n == 0 {
			errs = append(errs, usageErrorf("argument --max-model-len: 0 is neither a length nor -1"))
		}
		c.MaxModelLen = int(n)
	}
	c.Utilization, err = strconv.ParseFloat(p.text("gpu-memory-utilization", "0.92"), 64)
	if err != nil {
		errs = append(errs, usageErrorf("argument --gpu-memory-utilization: invalid float value: %q",
			p.text("gpu-memory-utilization", "")))
	} else if !(c.Utilization > 0 && c.Utilization <= 1) {
		errs = append(errs, usageErrorf("argument --gpu-memory-utilization: %v is not above 0 and at most 1", c.Utilization))
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) readChoices(p *arguments) error {
	if _, err := p.choice("dtype", "auto", "auto", "bfloat16", "float", "float16", "float32", "half"); err != nil {
		return err
	}
	policy, err := p.choice("scheduling-policy", "fcfs", "fcfs", "priority")
	if err != nil {
		return err
	}
	c.PriorityQueue = policy == "priority"
	c.Tasks, err = p.choice("runner", "auto", "auto", "generate", "pooling", "draft")
	return err
}

// listenAddress is where the server accepts connections.
func (c *Config) listenAddress() (network, address string) {
	if c.UDS != "" {
		return "unix", c.UDS
	}
	return "tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
}

// Environment is what the stand-in learns from its environment; the package's
// comment says what each part means.
type Environment struct {
	KeepAlive time.Duration
	DevMode   bool

	CardFolder string   // empty: no cards
	Devices    []string // cards by UUID or place in the folder; nil is all of them
	Context    int64    // bytes
	Weights    int64    // bytes; 0 is the model's own, or half of what is requested
	Activation int64    // bytes
	Graphs     int64    // bytes
	Peak       int64    // bytes
	KVPerToken int64    // bytes; 0 is the model's own, or nominalKVPerToken

	LoadTime, StopTime time.Duration

	SleepTime, WakeTime time.Duration
	SleepResidual       int64 // bytes

	TTFT            time.Duration
	Hold            string // path of a file; empty holds nothing
	TokensPerSecond float64
	ReplyTokens     int
	EmbeddingSize   int

	Faults Faults
}

// parseEnvironment reads the variables that the package's comment lists.
func parseEnvironment(env func(string) string) (Environment, error) {
	r := envReader{env: env}
	e := Environment{
		KeepAlive:  time.Duration(r.integer("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", 5, 0, 1<<30)) * time.Second,
		DevMode:    r.flag("VLLM_SERVER_DEV_MODE"),
		CardFolder: env("VLLM_SIM_CARDS"),
		Context:    r.integer("VLLM_SIM_CONTEXT", 512<<20, 0, 1<<50),
		Weights:    r.integer("VLLM_SIM_WEIGHTS", 0, 0, 1<<50),
		Activation: r.integer("VLLM_SIM_ACTIVATION", 0, 0, 1<<50),
		Graphs:     r.integer("VLLM_SIM_GRAPHS", 0, 0, 1<<50),
		Peak:       r.integer("VLLM_SIM_PEAK", 0, 0, 1<<50),
		KVPerToken: r.integer("VLLM_SIM_KV_BYTES_PER_TOKEN", 0, 1, 1<<40),
		LoadTime:   r.duration("VLLM_SIM_LOAD_TIME", time.Second),
		StopTime:   r.duration("VLLM_SIM_STOP_TIME", 0),
		SleepTime:  r.duration("VLLM_SIM_SLEEP_TIME", 100*time.Millisecond),
		WakeTime:   r.duration("VLLM_SIM_WAKE_TIME", 100*time.Millisecond),
		TTFT:       r.duration("VLLM_SIM_TTFT", 20*time.Millisecond),
		Hold:       env("VLLM_SIM_HOLD"),

		TokensPerSecond: r.float("VLLM_SIM_TOKENS_PER_SECOND", 200),
		ReplyTokens:     int(r.integer("VLLM_SIM_REPLY_TOKENS", 0, 0, 1<<30)),
		EmbeddingSize:   int(r.integer("VLLM_SIM_EMBEDDING_SIZE", 64, 1, 1<<16)),
		Faults: Faults{
			Start:        StartFault(env("VLLM_SIM_FAIL")),
			StartTimes:   r.integer("VLLM_SIM_FAIL_COUNT", 0, 1, 1<<30),
			StartState:   env("VLLM_SIM_FAIL_STATE"),
			Sleep:        SleepFault(env("VLLM_SIM_FAIL_SLEEP")),
			Wake:         SleepFault(env("VLLM_SIM_FAIL_WAKE")),
			HangStart:    r.flag("VLLM_SIM_HANG_START"),
			DieAt:        1 + r.integer("VLLM_SIM_DIE_AFTER", -1, 0, 1<<30),
			DieMidStream: r.integer("VLLM_SIM_DIE_MID_STREAM", 0, 1, 1<<30),
			HangFrom:     1 + r.integer("VLLM_SIM_HANG_AFTER", -1, 0, 1<<30),
			Unavailable:  r.integer("VLLM_SIM_503", 0, 0, 1<<30),
			IgnoreTerm:   r.flag("VLLM_SIM_IGNORE_TERM"),
		},
	}
	e.SleepResidual = r.integer("VLLM_SIM_SLEEP_RESIDUAL", e.Context+sleepBuffers, 0, 1<<50)
	r.errs = append(r.errs, e.Faults.check())
	for _, name := range []string{"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"} {
		if v := env(name); v != "" && v != "all" {
			for device := range strings.SplitSeq(v, ",") {
				e.Devices = append(e.Devices, strings.TrimSpace(device))
			}
			break
		}
	}
	return e, errors.Join(r.errs...)
}

// envReader reads typed variables and gathers what is wrong with them.
type envReader struct {
	env  func(string) string
	errs []error
}

func (r *envReader) fail(name, want string) {
	r.errs = append(r.errs, errors.New(name+" must be "+want+", not "+strconv.Quote(r.env(name))))
}

func (r *envReader) integer(name string, def, low, high int64) int64 {
	v := r.env(name)
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < low || n > high {
		r.fail(name, "a whole number from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
	}
	return n
}

func (r *envReader) float(name string, def float64) float64 {
	v := r.env(name)
	if v == "" {
		return def
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0) || math.IsInf(f, 0) {
		r.fail(name, "a number of at least 0")
	}
	return f
}

func (r *envReader) duration(name string, def time.Duration) time.Duration {
	v := r.env(name)
	if v == "" {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		r.fail(name, `a time such as "1.5s"`)
	}
	return d
}

func (r *envReader) flag(name string) bool {
	v := r.env(name)
	if v == "" {
		return false
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		r.fail(name, "1 or 0")
	}
	return b
}
