package scheduler

import (
	"fmt"
	"time"
)

// LRU evicts the instance first that has been without a request for longest.
type LRU struct{}

// Name implements [Policy].
func (LRU) Name() string { return "lru" }

// Less implements [Policy]. Instances last used at the same moment go by name,
// so that the order never depends on chance.
func (LRU) Less(a, b *Instance) bool {
	if !a.LastUsed.Equal(b.LastUsed) {
		return a.LastUsed.Before(b.LastUsed)
	}
	return a.ID < b.ID
}

// Why implements [Policy].
func (LRU) Why(i *Instance, now time.Time) string {
	return fmt.Sprintf("last used %s ago", now.Sub(i.LastUsed).Round(time.Second))
}

// Interface guards
var _ Policy = LRU{}
