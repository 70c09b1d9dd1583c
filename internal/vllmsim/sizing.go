// How large the KV cache is (vllm/v1/worker/gpu_worker.py,
// determine_available_memory; vllm/v1/core/kv_cache_utils.py): by two measurements
// of the whole card, or by --kv-cache-memory-bytes, and then in tokens.

package vllmsim

import (
	"fmt"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// loaded is what a start has found out.
type loaded struct {
	modelLen int   // tokens that one request may have
	kvTokens int64 // tokens that the KV cache holds
}

// concurrency is how many requests of full length the KV cache holds.
func (l loaded) concurrency() float64 { return float64(l.kvTokens) / float64(l.modelLen) }

// profile finds what is left for the KV cache. The activation is on the cards
// while they are measured and free again afterwards, until the warm-up.
func (l *loading) profile() error {
	if err := l.cards.enter(simcard.Profiling); err != nil {
		return err
	}
	for i, d := range l.devices {
		if err := l.take(i, d.weights+l.cfg.Activation); err != nil {
			return outOfMemory(err)
		}
	}
	if _, err := l.spend(shareProfile); err != nil {
		return err
	}
	for i := range l.devices {
		if err := l.profileCard(i); err != nil {
			return err
		}
	}
	return l.cards.enter(simcard.Starting)
}

func (l *loading) profileCard(i int) error {
	d := &l.devices[i]
	_, freeNow, err := l.measure(i, d.weights+l.cfg.Activation)
	if err != nil {
		return err
	}
	fault := l.fault
	if fault == FailMemoryProfiling {
		freeNow = d.freeAtFirst + d.weights
	}
	measured := l.cfg.KVCacheBytes == 0 || fault == FailMemoryProfiling || fault == FailNoKVBlocks
	switch {
	case measured && freeNow > d.freeAtFirst:
		return &startError{"core.py", fmt.Sprintf("AssertionError: Error in memory profiling. Initial free memory %s GiB, current free memory "+
			"%s GiB. This happens when other processes sharing the same container release GPU memory while vLLM is profiling "+
			"during initialization. To fix this, ensure consistent GPU memory allocation or isolate vLLM in its own container.",
			gibText(d.freeAtFirst), gibText(freeNow))}
	case fault == FailNoKVBlocks:
		d.kv = -d.requested / 8
	case measured:
		d.kv = d.requested - (d.freeAtFirst - freeNow)
	default:
		d.kv = l.cfg.KVCacheBytes
	}
	if measured {
		l.worker(i, "gpu_worker.py", "Available KV cache memory: %s GiB", gibText(d.kv))
	} else {
		l.worker(i, "gpu_worker.py", "Initial free memory %s GiB, reserved %s GiB memory for KV Cache as specified by "+
			"kv_cache_memory_bytes config and skipped memory profiling. This does not respect the gpu_memory_utilization config. "+
			"Only use kv_cache_memory_bytes config when you want manual control of KV cache memory size. If OOM'ed, check the "+
			"difference of initial free memory between the current run and the previous run where kv_cache_memory_bytes is "+
			"suggested and update it correspondingly.", gibText(d.freeAtFirst), gibText(d.kv))
	}
	return l.take(i, d.weights)
}

// smallestCache is the KV cache that every card has room for, in bytes.
func (l *loading) smallestCache() int64 {
	smallest := l.devices[0].kv
	for _, d := range l.devices {
		smallest = min(smallest, d.kv)
	}
	return smallest
}

// sizeCache fits the context length and the KV cache to each other and takes the
// cache's memory.
func (l *loading) sizeCache() (loaded, error) {
	kv := l.smallestCache()
	fits := kv / l.cfg.KVPerToken / blockSize * blockSize
	result := loaded{modelLen: l.cfg.MaxModelLen, kvTokens: fits}
	fault, auto, own := l.fault, l.cfg.MaxModelLen == autoModelLen, l.ownModelLen
	switch {
	case fault == FailAutoFit, auto && fits <= 0 && fault != FailNoKVBlocks:
		return result, &startError{"core.py", "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available " +
			"to serve even a single token. Try increasing `gpu_memory_utilization`."}
	case fits <= 0:
		return result, &startError{"core.py", "ValueError: No available memory for the cache blocks. " +
			"Try increasing `gpu_memory_utilization` when initializing the engine."}
	case auto && fits < int64(own):
		result.modelLen = int(fits)
		l.log.engine("kv_cache_utils.py", "Auto-fit max_model_len: reduced from %d to %d to fit in available GPU memory "+
			"(%s GiB available for KV cache)", own, fits, gibText(kv))
	case auto:
		result.modelLen = own
		l.log.engine("kv_cache_utils.py", "Auto-fit max_model_len: full model context length %d fits in available GPU memory", own)
	case l.cfg.MaxModelLen == 0 && l.fromFolder:
		result.modelLen = own
	case l.cfg.MaxModelLen == 0:
		// The pretended model's own context is no reason to fail.
		result.modelLen = int(min(int64(own), fits))
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
	for i := range l.devices {
		d := &l.devices[i]
		d.kv = kv
		if err := l.take(i, d.weights+kv); err != nil {
			return result, outOfMemory(err)
		}
	}
	l.log.engine("kv_cache_utils.py", "GPU KV cache size: %s tokens", thousands(result.kvTokens))
	l.log.engine("kv_cache_utils.py", "Maximum concurrency for %s tokens per request: %.2fx",
		thousands(int64(result.modelLen)), result.concurrency())
	return result, nil
}
