// This file owns the share of a card that vLLM is told to use.

package vllm

import (
	"strconv"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

const (
	// contextAllowance is what a process's CUDA context and communication
	// buffers take on each card, in bytes. vLLM does not count it: it measures
	// from after they were made (vLLM vllm/v1/worker/gpu_worker.py, init_device),
	// while a charge is all that the instance takes. 0.5 GiB until measured.
	contextAllowance = 512 << 20
	// shareSteps is how finely a share is given: in ten-thousandths, which on a
	// card of 192 GiB are 20 MiB.
	shareSteps = 10_000
)

// utilization is the value of --gpu-memory-utilization with which vLLM sizes
// itself to its charge: what is left of it after the context, as a share of the
// card, rounded down. vLLM refuses to start when less than its share is free at
// the moment that it looks, which is when its context is there already, so the
// share is no more than what will be free then.
//
// vLLM demands more than 0 and at most 1. A charge that the context alone uses
// up makes the smallest share, with which vLLM fails and says why, rather than
// one that breaks the charge.
func utilization(p server.Place) string {
	context := p.Context
	if context <= 0 {
		context = contextAllowance
	}
	left := p.Charge - context
	if p.Free > 0 {
		left = min(left, p.Free-context)
	}
	// Whole numbers, since 0.9 of a card is not to become 0.8999. More than the
	// card is cut first, so that nothing overflows.
	steps := min(max(min(left, p.CardTotal)*shareSteps/p.CardTotal, 1), shareSteps)
	return strconv.FormatFloat(float64(steps)/shareSteps, 'f', 4, 64)
}
