// This file owns the bound on the memory that request bodies take, over all
// sites and all requests of the process.

package caddymodule

import "sync/atomic"

// bodyMemory counts the bytes of all request bodies that are held at present.
// It is the process's, so that a reload neither forgets nor doubles them; how
// many are too many is each handler's configuration.
var bodyMemory byteBudget

// byteBudget counts bytes in use.
type byteBudget struct{ used atomic.Int64 }

// take counts n bytes more, unless that would make more than limit.
func (b *byteBudget) take(n, limit int64) bool {
	for {
		used := b.used.Load()
		if used+n > limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// give counts n bytes less.
func (b *byteBudget) give(n int64) { b.used.Add(-n) }
