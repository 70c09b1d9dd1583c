package scheduler

import (
	"math"
	"time"
)

// This file owns what is learned of models: how likely each is to be asked for
// next, and how long it takes to load.

// halfLives are the memories that a [Usage] has: after so long, a use counts
// half. Bursts end within minutes, habits change within days, and which of the
// two a machine sees, nobody can know beforehand.
var halfLives = [...]time.Duration{4 * time.Minute, time.Hour, 16 * time.Hour, 64 * time.Hour}

const (
	// useInterval is how often uses of one model count: what is asked for all the
	// time need not be loaded more often than what is asked for once a minute.
	useInterval = time.Minute
	// unseen is how many uses every model is given beforehand, so that one that
	// was never used is unlikely and not impossible.
	unseen = 0.02
	// trustOver is over how many uses a memory gains or loses trust.
	trustOver = 100
	// leastTrust keeps each memory in the game: traffic may change.
	leastTrust = 0.001
	// forgotten is how much of a model's uses must be left for it to be known:
	// a single use is forgotten after 27 days.
	forgotten = 0.001
)

// perMemory is one figure for each of the half-lives.
type perMemory [len(halfLives)]float64

// age halves counts for each half-life that has passed. Time that runs backwards
// counts as none.
func (p *perMemory) age(passed time.Duration) {
	if passed <= 0 {
		return
	}
	for k, h := range halfLives {
		p[k] *= math.Exp2(-float64(passed) / float64(h))
	}
}

// Usage learns from uses and loads. It is kept by name, so that what it knows
// outlives a model's instances and its configuration. The zero Usage knows
// nothing. It is not safe for use by several goroutines.
//
// It keeps several memories of who was used, which forget at different speeds.
// Each predicts every use before it is told of it: the model's aged uses over
// those of all models. The memories that predict well are trusted more, by the
// rule that fits the weights of a mixture (expectation maximisation, one use at a
// time). The likelihood of a model is what the memories say, each as far as it
// is trusted.
//
// It depends on nothing but what it is told: it has no clock, and time that
// passes without a use changes no figure, and so no decision.
type Usage struct {
	models map[string]*habit
	total  perMemory // aged uses of all models, as of at
	trust  perMemory // adds up to 1, once anything was used
	at     time.Time // of the last use that counted
}

// habit is what is known of one model.
type habit struct {
	uses perMemory     // aged, as of at
	at   time.Time     // of its last use that counted; zero: none has
	load time.Duration // how long it takes to load; 0: never loaded
}

func (u *Usage) habit(model string) *habit {
	if h := u.models[model]; h != nil {
		return h
	}
	if u.models == nil {
		u.models = make(map[string]*habit)
	}
	for name, h := range u.models { // it grows only here
		if left := h.aged(u.at); left[len(left)-1] < forgotten {
			delete(u.models, name)
		}
	}
	h := new(habit)
	u.models[model] = h
	return h
}

// aged is a model's uses as of a later time.
func (h *habit) aged(at time.Time) perMemory {
	uses := h.uses
	uses.age(at.Sub(h.at))
	return uses
}

// Used is told that a model was asked for. Of the uses within a minute, the first
// counts.
func (u *Usage) Used(model string, now time.Time) {
	h := u.habit(model)
	if !h.at.IsZero() && now.Sub(h.at) < useInterval {
		return
	}
	if u.trust == (perMemory{}) {
		for k := range u.trust {
			u.trust[k] = 1 / float64(len(u.trust))
		}
	}
	u.total.age(now.Sub(u.at))
	h.uses.age(now.Sub(h.at))
	said := u.predictions(h.uses)
	u.learn(said)
	for k := range h.uses {
		h.uses[k]++
		u.total[k]++
	}
	u.at, h.at = now, now
}

// predictions is how likely a model's next use is, by each memory.
func (u *Usage) predictions(uses perMemory) (p perMemory) {
	n := float64(max(1, len(u.models)))
	for k := range p {
		p[k] = (uses[k] + unseen) / (u.total[k] + unseen*n)
	}
	return p
}

// learn trusts those memories more that had said what came.
func (u *Usage) learn(said perMemory) {
	var whole, sum float64
	for k, t := range u.trust {
		whole += t * said[k]
	}
	for k, t := range u.trust {
		u.trust[k] = max(leastTrust, t+(t*said[k]/whole-t)/trustOver)
		sum += u.trust[k]
	}
	for k := range u.trust {
		u.trust[k] /= sum
	}
}

// Likelihood is how likely a model is to be the next that is used, in [0, 1], as
// of the last use of any. It is 0 while nothing is known of any model.
func (u *Usage) Likelihood(model string) (l float64) {
	var uses perMemory
	if h := u.models[model]; h != nil {
		uses = h.aged(u.at)
	}
	said := u.predictions(uses)
	for k, t := range u.trust {
		l += t * said[k]
	}
	return l
}

// Loaded is told how long a model's server took from its start until it was
// ready.
func (u *Usage) Loaded(model string, took time.Duration) {
	h := u.habit(model)
	if h.load == 0 {
		h.load = took
	}
	h.load += (took - h.load) / 2
}

// LoadTime is how long a model takes to load: the mean of its loads, in which
// each counts as much as all before it. It is 0 for a model that was never
// loaded.
func (u *Usage) LoadTime(model string) time.Duration {
	if h := u.models[model]; h != nil {
		return h.load
	}
	return 0
}
