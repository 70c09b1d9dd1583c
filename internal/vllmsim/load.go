// From nothing to ready: vLLM's start (vllm/v1/worker/gpu_worker.py), with its
// arithmetic, its log lines and its ways to fail.
//
// What a server uses of a card: its CUDA context, taken before anything is
// measured and so beyond --gpu-memory-utilization; the weights; the activation, the
// most that a batch takes besides; the KV cache, which gets what is left of the
// requested memory; and CUDA graphs, again beyond it. The cache's size comes from
// two measurements of the whole card, so that what a neighbour takes in between
// makes the cache smaller, and what it frees makes the start fail.

package vllmsim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	gib = 1 << 30

	// nominalTotal sizes the server when there are no cards.
	nominalTotal = 24 * gib
	// nominalModelLen is the context length of the model that it pretends to be.
	nominalModelLen = 32768
	// nominalKVPerToken is what a token of that model's KV cache takes, in bytes.
	nominalKVPerToken = 8192
	// blockSize is the number of tokens in a block of KV cache.
	blockSize = 16
)

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
	ctx context.Context
}

// device is what the server has on one card. Sizes are bytes.
type device struct {
	total, requested int64
	freeAtFirst      int64 // when the context had been taken and nothing else
	weights, kv      int64
	working          int64 // activation and graphs
}

// load starts the model. It returns early when ctx ends.
func (s *Server) load(ctx context.Context) (loaded, error) {
	l := &loading{Server: s, ctx: ctx}
	s.log.api("api_server.py", "vLLM API server version %s", Version)
	s.log.engine("core.py", "Initializing a V1 LLM engine (v%s) with config: model=%q, tensor_parallel_size=%d, enforce_eager=%t",
		Version, s.cfg.Model, s.cfg.TensorParallel, s.cfg.EnforceEager)
	if err := l.learnModel(); err != nil {
		return loaded{}, err
	}
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
		if l.fault == FailMemoryFree {
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
		if l.fault == FailLoadOOM {
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
	for i, d := range l.devices {
		l.worker(i, "default_loader.py", "Loading weights took %.2f seconds", took.Seconds())
		l.worker(i, "gpu_model_runner.py", "Model loading took %s GiB memory and %.6f seconds", gibText(d.weights), took.Seconds())
	}
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
func (l *loading) take(i int, bytes int64) error { return l.occupy(i, l.cfg.Context+bytes) }

// captureGraphs takes the memory of CUDA graphs, which nobody has asked for.
func (l *loading) captureGraphs() error {
	if l.cfg.EnforceEager {
		return nil
	}
	for i := range l.devices {
		if err := l.work(i, l.cfg.Graphs); err != nil {
			return outOfMemory(err)
		}
	}
	took, err := l.spend(shareGraphs)
	if err != nil {
		return err
	}
	for i := range l.devices {
		l.worker(i, "gpu_model_runner.py", "Graph capturing finished in %.0f secs, took %.2f GiB",
			took.Seconds(), float64(l.cfg.Graphs)/gib)
	}
	return nil
}

// warmUp runs the largest batch once more, whose memory the server keeps.
func (l *loading) warmUp() error {
	var err error
	for i := range l.devices {
		err = errors.Join(err, l.work(i, l.cfg.Activation))
	}
	if oom := (*memoryError)(nil); l.fault == FailSamplerOOM || errors.As(err, &oom) {
		return &startError{"core.py", fmt.Sprintf("RuntimeError: CUDA out of memory occurred when warming up sampler with %d dummy requests. "+
			"Please try lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.", l.cfg.MaxNumSeqs)}
	}
	if err != nil {
		return err
	}
	if _, err := l.spend(shareWarmUp); err != nil {
		return err
	}
	l.log.engine("core.py", "init engine (profile, create kv cache, warmup model) took %.2f seconds",
		(1-shareInit-shareWeights)*l.cfg.LoadTime.Seconds())
	return nil
}

// work takes more of card i for what is neither weights nor cache.
func (l *loading) work(i int, bytes int64) error {
	d := &l.devices[i]
	d.working += bytes
	return l.take(i, d.weights+d.kv+d.working)
}

// outOfMemory is a failed allocation as a start reports it; any other error stays.
func outOfMemory(err error) error {
	if oom := (*memoryError)(nil); errors.As(err, &oom) {
		return &startError{"core.py", "torch.OutOfMemoryError: " + oom.Error()}
	}
	return err
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
