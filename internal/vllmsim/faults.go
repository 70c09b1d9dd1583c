// Faults that the environment can ask for.

package vllmsim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Faults is what goes wrong on purpose; the zero value is nothing. Inference
// requests are numbered from 1 in the order of their arrival, whatever their
// answer.
type Faults struct {
	Start        StartFault // why the start fails, or empty
	StartTimes   int64      // how many starts fail so; 0 is each, or one if they are counted
	StartState   string     // path of the file that counts them, or empty
	Sleep        SleepFault // how falling asleep goes wrong, or empty
	Wake         SleepFault // how waking goes wrong, or empty
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

// SleepFault is one of the ways in which sleeping or waking goes wrong.
type SleepFault string

// What a server does that is asked to sleep or to wake up.
const (
	FailError SleepFault = "error" // answer 500
	FailHang  SleepFault = "hang"  // never answer
	FailDie   SleepFault = "die"   // end, without an answer
	FailKeep  SleepFault = "keep"  // sleep, but free little
)

func (f *Faults) check() error {
	oneOf := func(name, value string, choices []string) error {
		if value == "" || slices.Contains(choices, value) {
			return nil
		}
		return fmt.Errorf("%s must be one of %q, not %q", name, choices, value)
	}
	var starts []string
	for _, s := range startFaults {
		starts = append(starts, string(s))
	}
	errs := []error{
		oneOf("VLLM_SIM_FAIL", string(f.Start), starts),
		oneOf("VLLM_SIM_FAIL_SLEEP", string(f.Sleep), []string{"error", "hang", "keep", "die"}),
		oneOf("VLLM_SIM_FAIL_WAKE", string(f.Wake), []string{"error", "hang", "die"}),
	}
	if f.StartTimes > 0 && f.StartState == "" {
		errs = append(errs, errors.New("VLLM_SIM_FAIL_COUNT needs a file to count in: set VLLM_SIM_FAIL_STATE"))
	}
	return errors.Join(errs...)
}

// start is the fault of the start that now begins, or empty. Where only some
// starts fail, each that asks adds a byte to the file; the kernel lets no two
// have the same place.
func (f *Faults) start() (StartFault, error) {
	if f.Start == "" || f.StartState == "" {
		return f.Start, nil
	}
	file, err := os.OpenFile(f.StartState, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return "", fmt.Errorf("VLLM_SIM_FAIL_STATE: %w", err)
	}
	_, err = file.Write([]byte{'.'})
	place, seekErr := file.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, seekErr, file.Close()); err != nil {
		return "", fmt.Errorf("VLLM_SIM_FAIL_STATE: %w", err)
	}
	if place > max(1, f.StartTimes) {
		return "", nil
	}
	return f.Start, nil
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
