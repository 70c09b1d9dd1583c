package vramman

import (
	"fmt"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what a failed start teaches: whether it is worth another at
// once, and with what changed.

const (
	// memoryRetries is how often in a row a start is tried again at once that found
	// less memory than there was when its cards were read: who was in its way may
	// be gone, and the cards are read again before each.
	memoryRetries = 2
	// adjustSlack is what a server is given beyond what it asked for, since it
	// tells that in hundredths of a GiB.
	adjustSlack = 64 << 20
)

// atOnce says whether a model may start again without waiting after a failure, and
// sees to what is to be different then.
func (o *owner) atOnce(now time.Time, i *Instance, f *failure) bool {
	switch f.class {
	case server.ClassDied:
		return f.count == 1 // it may have been an accident
	case server.ClassMemory, server.ClassRace:
		return f.count <= memoryRetries
	case server.ClassKVCache:
		return o.adjust(now, i)
	}
	return false
}

// adjust changes a model's footprint by what its server asked for. It does so
// once until the model was ready: a second failure is no matter of figures.
func (o *owner) adjust(now time.Time, i *Instance) bool {
	r, f, more := i.record, &i.footing, i.failure.More
	if r.hash != i.hash || i.hash == "" {
		return false // another launch than the one that is to come
	}
	if r.tuning.hash != r.hash {
		r.tuning = tuning{hash: r.hash}
	}
	t := &r.tuning
	if t.adjusted {
		return false
	}
	var how string
	switch sized := f.source == sourceEstimated || f.source == sourceMeasured; {
	case !sized && f.kv > 0:
		t.unpinned = true
		how = "its server is to size the KV cache by itself"
	case sized && f.kv > 0 && more > 0:
		// For one sequence it wants what it was given and more: that is a measurement.
		o.keepRecords(i, []footprint.Record{{
			Part: footprint.PartKV, Signature: f.parts.Signatures.KV, Bytes: f.kv + more + adjustSlack,
			Model: r.model.name, Seen: now.Unix(),
		}})
		how = fmt.Sprintf("its server asked for %v more of KV cache", ledger.Size(more))
	case sized:
		t.extra += max(more, f.belief.KVLeast) + adjustSlack
		how = fmt.Sprintf("it is given %v more per card", ledger.Size(t.extra))
	default:
		return false // declared, or a whole card: the rest is for a person to decide
	}
	t.adjusted = true
	r.sizes.footings = nil
	o.decided(now, "adjust", r.model.name, i, i.cards, how)
	return true
}
