// Faults that the environment can ask for.

package vllmsim

import (
	"fmt"
	"slices"
)

// Faults is what goes wrong on purpose; the zero value is nothing. Inference
// requests are numbered from 1 in the order of their arrival, whatever their
// answer.
type Faults struct {
	Start        StartFault // why the start fails, or empty
	HangStart    bool       // never become ready
	DieAt        int64      // the request at whose arrival it dies, or 0
	DieMidStream int64      // tokens of one stream after which it dies, or 0
	HangFrom     int64      // the first request that is never answered, or 0
	Unavailable  int64      // how many requests are answered 503 at first
	IgnoreTerm   bool       // signals have no effect
}

// StartFault is one of the ways in which vLLM fails to start.
type StartFault string

// vLLM's failures, in the order in which a start meets them.
const (
	FailMemoryFree      StartFault = "memory_free"      // too little memory is free
	FailLoadOOM         StartFault = "load_oom"         // the weights do not fit
	FailMemoryProfiling StartFault = "memory_profiling" // a neighbour freed memory meanwhile
	FailNoKVBlocks      StartFault = "no_kv_blocks"     // nothing is left for the KV cache
	FailMaxSeqLen       StartFault = "max_seq_len"      // the KV cache does not hold one full request
	FailAutoFit         StartFault = "auto_fit"         // no context length fits at all
	FailSamplerOOM      StartFault = "sampler_oom"      // the sampler's warm-up does not fit
)

var startFaults = []StartFault{
	FailMemoryFree, FailLoadOOM, FailMemoryProfiling, FailNoKVBlocks, FailMaxSeqLen, FailAutoFit, FailSamplerOOM,
}

func (f StartFault) check() error {
	if f != "" && !slices.Contains(startFaults, f) {
		return fmt.Errorf("VLLM_SIM_FAIL must be one of %q, not %q", startFaults, f)
	}
	return nil
}

// fate is what happens to an inference request.
type fate int

const (
	fateServed fate = iota
	fateUnavailable
	fateHangs
	fateKills
)

// fate decides about inference request number n.
func (f *Faults) fate(n int64) fate {
	switch {
	case f.DieAt > 0 && n >= f.DieAt:
		return fateKills
	case n <= f.Unavailable:
		return fateUnavailable
	case f.HangFrom > 0 && n >= f.HangFrom:
		return fateHangs
	}
	return fateServed
}
