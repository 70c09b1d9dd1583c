package scheduler

import (
	"fmt"
	"time"
)

// Cost evicts the instance first whose absence is expected to cost least for the
// room that it gives: the seconds that its model takes to load, times the
// likelihood that it is used next, per GiB that it frees on all its cards.
//
// [Usage] says where the figures come from. Of instances that cost the same,
// those of models of which nothing is known among them, the least recently used
// goes first.
type Cost struct{}

// standardLoad is how long a model is taken to load that was never seen to: an
// instance that the gateway found running, say.
const standardLoad = time.Minute

const gib = 1 << 30 // bytes

// Name implements [Policy].
func (Cost) Name() string { return "cost" }

// Less implements [Policy].
func (c Cost) Less(a, b *Instance) bool {
	x, y := c.price(a), c.price(b)
	if x != y {
		return x < y
	}
	return LRU{}.Less(a, b)
}

// price is the expected cost of evicting an instance, in seconds of loading for
// each GiB that this frees. It is a number, whatever the figures are: nothing
// that cannot be compared may come between the instances.
func (c Cost) price(i *Instance) float64 {
	var bytes int64
	for _, charge := range i.Charges {
		bytes += charge
	}
	likelihood := i.Likelihood
	if !(likelihood > 0) { // NaN included
		likelihood = 0
	}
	return c.load(i).Seconds() * likelihood / (float64(max(1, bytes)) / gib)
}

func (Cost) load(i *Instance) time.Duration {
	if i.LoadTime <= 0 {
		return standardLoad
	}
	return i.LoadTime
}

// Why implements [Policy].
func (c Cost) Why(i *Instance, now time.Time) string {
	return fmt.Sprintf("loads in %s, %.2g %% likely to be used next, %s", c.load(i).Round(time.Second), 100*i.Likelihood, LRU{}.Why(i, now))
}

// Interface guards
var _ Policy = Cost{}
