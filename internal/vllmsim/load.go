// From nothing to ready: vLLM's start (vllm/v1/worker/gpu_worker.py,
// vllm/v1/core/kv_cache_utils.py), with its arithmetic, its log lines and its ways
// to fail.
//
// What a server uses of a card: its CUDA context, taken before anything is
// measured and so beyond --gpu-memory-utilization; the weights; and the KV cache,
// which gets what is left of the requested memory. The cache's size comes from two
// measurements of the whole card, so that what a neighbour takes in between makes
// the cache smaller, and what it frees makes the start fail.

package vllmsim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

const (
	gib = 1 << 30

	// nominalTotal sizes the server when there are no cards.
	nominalTotal = 24 * gib
	// nominalModelLen is the context length of the model that it pretends to be.
	nominalModelLen = 32768
	// blockSize is the number of tokens in a block of KV cache.
	blockSize = 16
)

// loaded is what a start has found out.
type loaded struct {
	modelLen int   // tokens that one request may have
	kvTokens int64 // tokens that the KV cache holds
}

// concurrency is how many requests of full length the KV cache holds.
func (l loaded) concurrency() float64 { return float64(l.kvTokens) / float64(l.modelLen) }

// startError is a failed start, as vLLM says it.
type startError struct {
	where, message string
}

func (e *startError) Error() string { return e.message }

// The stages of a start and their shares of the load time. Without CUDA graphs
// there is neither compiling nor capturing, and the others share the time.
const (
	shareInit    = 0.10
	shareWeights = 0.35
	shareCompile = 0.20
	shareProfile = 0.10
	shareGraphs  = 0.20
	shareWarmUp  = 0.05
)

// loading is one start under way.
type loading struct {
	*Server
	ctx     context.Context
	devices []device
}

// device is one card's part of a start. Sizes are bytes.
type device struct {
	total, requested int64
	freeAtFirst      int64 // when the context had been taken and nothing else
	weights, kv      int64
}

// load starts the model. It returns early when ctx ends.
func (s *Server) load(ctx context.Context) (loaded, error) {
	l := &loading{Server: s, ctx: ctx}
	s.log.api("api_server.py", "vLLM API server version %s", Version)
	s.log.engine("core.py", "Initializing a V1 LLM engine (v%s) with config: model=%q, tensor_parallel_size=%d, enforce_eager=%t",
		Version, s.cfg.Model, s.cfg.TensorParallel, s.cfg.EnforceEager)
	var result loaded
	for _, stage := range []func() error{
		l.initDevices, l.loadWeights, l.compile, l.profile,
		func() (err error) { result, err = l.sizeCache(); return err },
		l.captureGraphs, l.warmUp,
	} {
		if err := stage(); err != nil {
			return loaded{}, err
		}
	}
	return result, nil
}

// spend lets a stage's share of the load time pass and returns it.
func (l *loading) spend(share float64) (time.Duration, error) {
	if l.cfg.EnforceEager {
		share /= 1 - shareCompile - shareGraphs
	}
	d := time.Duration(share * float64(l.cfg.LoadTime))
	return d, pause(l.ctx, d)
}

// initDevices takes the CUDA context on each card and checks that as much is free
// as is to be requested (vllm/v1/worker/utils.py, request_memory).
func (l *loading) initDevices() error {
	for _, e := range l.cards.held {
		if err := l.cards.set(e, l.cfg.Context); err != nil {
			return err
		}
	}
	if _, err := l.spend(shareInit); err != nil {
		return err
	}
	l.devices = make([]device, max(1, len(l.cards.held)))
	for i := range l.devices {
		d := &l.devices[i]
		var err error
		if d.total, d.freeAtFirst, err = l.measure(i, 0); err != nil {
			return err
		}
		d.requested = int64(math.Ceil(float64(d.total) * l.cfg.Utilization))
		free := d.freeAtFirst
		if l.cfg.Faults.Start == FailMemoryFree {
			free = min(free, d.requested/2)
		}
		if free < d.requested {
			return &startError{"core.py", fmt.Sprintf("ValueError: Free memory on device cuda:%d (%s/%s GiB) on startup is less than "+
				"desired GPU memory utilization (%v, %s GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
				i, gibText(free), gibText(d.total), l.cfg.Utilization, gibText(d.requested))}
		}
		d.weights = l.cfg.Weights
		if d.weights == 0 {
			d.weights = d.requested / 2
		}
	}
	return nil
}

func (l *loading) loadWeights() error {
	l.log.engine("gpu_model_runner.py", "Starting to load model %s...", l.cfg.Model)
	for i, d := range l.devices {
		err := l.take(i, d.weights)
		if l.cfg.Faults.Start == FailLoadOOM {
			err = &memoryError{card: i, want: d.weights, free: d.weights / 2, total: d.total}
		}
		if oom := (*memoryError)(nil); errors.As(err, &oom) {
			return &startError{"gpu_model_runner.py", "Failed to load model - not enough GPU memory. " +
				"Try lowering --gpu-memory-utilization to free memory for weights, increasing --tensor-parallel-size, " +
				"or using --quantization. (original error: " + oom.Error() + ")"}
		}
		if err != nil {
			return err
		}
	}
	took, err := l.spend(shareWeights)
	if err != nil {
		return err
	}
	l.log.engine("default_loader.py", "Loading weights took %.2f seconds", took.Seconds())
	l.log.engine("gpu_model_runner.py", "Model loading took %s GiB memory and %.6f seconds",
		gibText(l.devices[0].weights), took.Seconds())
	if l.cfg.Faults.HangStart {
		<-l.ctx.Done()
	}
	return l.ctx.Err()
}

func (l *loading) compile() error {
	if l.cfg.EnforceEager {
		return nil
	}
	took, err := l.spend(shareCompile)
	if err == nil {
		l.log.engine("monitor.py", "torch.compile took %.2f s in total", took.Seconds())
	}
	return err
}

// profile finds what is left for the KV cache (gpu_worker.py,
// determine_available_memory).
func (l *loading) profile() error {
	if err := l.cards.enter(simcard.Profiling); err != nil {
		return err
	}
	if _, err := l.spend(shareProfile); err != nil {
		return err
	}
	for i := range l.devices {
		d := &l.devices[i]
		_, freeNow, err := l.measure(i, d.weights)
		if err != nil {
			return err
		}
		if l.cfg.Faults.Start == FailMemoryProfiling {
			freeNow = d.freeAtFirst + d.weights
		}
		given := l.cfg.KVCacheBytes > 0 // then what is measured does not count
		switch {
		case freeNow > d.freeAtFirst && (!given || l.cfg.Faults.Start == FailMemoryProfiling):
			return &startError{"core.py", fmt.Sprintf("AssertionError: Error in memory profiling. Initial free memory %s GiB, current free memory "+
				"%s GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling "+
				"during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own container.",
				gibText(d.freeAtFirst), gibText(freeNow))}
		case l.cfg.Faults.Start == FailNoKVBlocks:
			d.kv = -d.requested / 8
		case given:
			d.kv = l.cfg.KVCacheBytes
		default:
			d.kv = d.requested - (d.freeAtFirst - freeNow)
		}
	}
	l.log.engine("gpu_worker.py", "Available KV cache memory: %s GiB", gibText(l.smallestCache()))
	return l.cards.enter(simcard.Starting)
}

// smallestCache is the KV cache that every card has room for, in bytes.
func (l *loading) smallestCache() int64 {
	smallest := l.devices[0].kv
	for _, d := range l.devices {
		smallest = min(smallest, d.kv)
	}
	return smallest
}

// sizeCache fits the context length and the KV cache to each other
// (kv_cache_utils.py) and takes the cache's memory.
func (l *loading) sizeCache() (loaded, error) {
	kv := l.smallestCache()
	fits := kv / l.cfg.KVPerToken / blockSize * blockSize
	result := loaded{modelLen: l.cfg.MaxModelLen, kvTokens: fits}
	fault, auto := l.cfg.Faults.Start, l.cfg.MaxModelLen == autoModelLen
	switch {
	case fault == FailAutoFit, auto && fits <= 0 && fault != FailNoKVBlocks:
		return result, &startError{"core.py", "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available " +
			"to serve even a single token. Try increasing `gpu_memory_utilization`."}
	case fits <= 0:
		return result, &startError{"core.py", "ValueError: No available memory for the cache blocks. " +
			"Try increasing `gpu_memory_utilization` when initializing the engine."}
	case auto && fits < nominalModelLen:
		result.modelLen = int(fits)
		l.log.engine("kv_cache_utils.py", "Auto-fit max_model_len: reduced from %d to %d to fit in available GPU memory "+
			"(%s GiB available for KV cache)", nominalModelLen, fits, gibText(kv))
	case auto:
		result.modelLen = nominalModelLen
		l.log.engine("kv_cache_utils.py", "Auto-fit max_model_len: full model context length %d fits in available GPU memory", nominalModelLen)
	case l.cfg.MaxModelLen == 0:
		// The pretended model's own context is no reason to fail.
		result.modelLen = int(min(nominalModelLen, fits))
	}
	blocks := (int64(result.modelLen) + blockSize - 1) / blockSize
	needed := blocks * blockSize * l.cfg.KVPerToken
	if fault == FailMaxSeqLen {
		needed, fits = 2*kv, int64(result.modelLen)/2
	}
	if needed > kv {
		return result, &startError{"core.py", fmt.Sprintf("ValueError: To serve at least one request with the model's max seq len (%d), "+
			"(%s GiB KV cache is needed, which is larger than the available KV cache memory (%s GiB). Based on the available memory, "+
			"the estimated maximum model length is %d. Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when "+
			"initializing the engine.", result.modelLen, gibText(needed), gibText(kv), fits)}
	}
	for i, d := range l.devices {
		if err := l.take(i, d.weights+kv); err != nil {
			return result, &startError{"core.py", "torch.OutOfMemoryError: " + err.Error()}
		}
	}
	l.log.engine("kv_cache_utils.py", "GPU KV cache size: %s tokens", thousands(result.kvTokens))
	l.log.engine("kv_cache_utils.py", "Maximum concurrency for %s tokens per request: %.2fx",
		thousands(int64(result.modelLen)), result.concurrency())
	return result, nil
}

// measure reads card i's size and what is free of it. own is what the server has
// taken beyond its context, all that counts where there is no card.
func (l *loading) measure(i int, own int64) (total, free int64, err error) {
	if len(l.cards.held) == 0 {
		return nominalTotal, nominalTotal - own, nil
	}
	card, err := l.cards.read(i)
	return card.Total, card.Free(), err
}

// take allocates on card i, beyond the context.
func (l *loading) take(i int, bytes int64) error {
	if len(l.cards.held) == 0 {
		return nil
	}
	return l.cards.take(i, l.cfg.Context+bytes)
}

func (l *loading) captureGraphs() error {
	if l.cfg.EnforceEager {
		return nil
	}
	took, err := l.spend(shareGraphs)
	if err == nil {
		l.log.engine("gpu_model_runner.py", "Graph capturing finished in %.0f secs, took %.2f GiB", took.Seconds(), 0.0)
	}
	return err
}

func (l *loading) warmUp() error {
	if l.cfg.Faults.Start == FailSamplerOOM {
		return &startError{"core.py", fmt.Sprintf("RuntimeError: CUDA out of memory occurred when warming up sampler with %d dummy requests. "+
			"Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.", l.cfg.MaxNumSeqs)}
	}
	if _, err := l.spend(shareWarmUp); err != nil {
		return err
	}
	l.log.engine("core.py", "init engine (profile, create kv cache, warmup model) took %.2f seconds",
		(1-shareInit-shareWeights)*l.cfg.LoadTime.Seconds())
	return nil
}

// gibText is a size in GiB as vLLM prints it, with at most two decimals.
func gibText(bytes int64) string {
	return fmt.Sprint(math.Round(float64(bytes)/gib*100) / 100)
}

// thousands groups a number's digits by commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// pause lets time pass, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
