package vramman

import (
	"fmt"
	"slices"
	"time"
)

// This file is about replicas: further instances of a model that is ready and whose
// queue is long. They take free room only, make nobody go, and go themselves once
// they are idle.

const (
	// replicaReadings is in how many readings in a row a queue must be long before a
	// replica is made for it: a burst is over before one has loaded.
	replicaReadings = 2
	// replicaIdle is after how long without a request a replica is stopped.
	replicaIdle = 5 * time.Minute
	// replicaPatience is how long a replica waits for room that is free, before it is
	// given up, and replicaAgain how long until another is tried.
	replicaPatience = 30 * time.Second
	replicaAgain    = time.Minute
)

// replicas is how a model's replicas stand.
type replicas struct {
	coming *Instance // the one that is being fetched or started; nil: none is
	long   int       // in how many readings in a row the queue was long
	failed int       // starts that failed in a row
	again  time.Time // none is tried before
}

// spare says whether an instance is one beside its model's first: nobody but the
// queue needs it.
func (i *Instance) spare() bool { return i.replica && i.record.current != i }

// starting is the instance of a model that a start is decided for.
func (r *record) starting() *Instance {
	if i := r.replicas.coming; i != nil && r.demand == nil {
		return i
	}
	return r.current
}

// live is how many instances of the model serve, or will.
func (o *owner) live(r *record) (n int) {
	for _, i := range o.instances {
		if i.record == r && i.word.state() <= StateReady {
			n++
		}
	}
	return n
}

// longQueue says whether as many requests wait for a model as one instance serves,
// or as may wait at all.
func (r *record) longQueue() bool {
	depth := r.model.Queue().Depth
	return depth > 0 && depth >= min(r.spec.MaxConcurrent, r.spec.MaxQueue)
}

// grow, called with each reading, begins replicas where queues are long, and gives
// up those for which there is no free room.
func (o *owner) grow(now time.Time) {
	for _, r := range o.records {
		s := &r.replicas
		if i := s.coming; i != nil && i.word.state() == StateFetching && i.fetched && o.loadOf(i) == nil && !now.Before(i.since.Add(replicaPatience)) {
			s.again = now.Add(replicaAgain)
			o.fx.abandon(i)
			o.gone(i)
		}
		if o.closing || r.spec == nil || r.from != o.spec || r.spec.Replicas < 2 || r.current == nil || r.current.word.state() != StateReady || !r.longQueue() {
			s.long = 0
			continue
		}
		if s.long++; s.long < replicaReadings || s.coming != nil || now.Before(s.again) || o.live(r) >= r.spec.Replicas || !o.ready() {
			continue
		}
		i := o.newInstance(now, r, o.engineOf(o.spec.Engine), now)
		i.replica, s.coming = true, i
		o.fx.fetch(i)
	}
}

// replicaPlaceable says whether a replica of the model waits for a place.
func (o *owner) replicaPlaceable(r *record) bool {
	i := r.replicas.coming
	return i != nil && r.demand == nil && o.read && o.readErr == nil && o.ready() && i.fetched && i.word.state() == StateFetching && o.loadOf(i) == nil && o.sized(r)
}

// lose has a model's first instance be another, where the first is no longer: one
// that is ready, or else one that is on its way.
func (o *owner) lose(i *Instance) {
	r := i.record
	if r.replicas.coming == i {
		r.replicas.coming = nil
	}
	if r.current != i {
		return
	}
	r.current = nil
	for _, other := range o.instances {
		if other != i && other.record == r && other.word.state() == StateReady && !other.leaving {
			r.current, other.replica = other, false
			return
		}
	}
	if coming := r.replicas.coming; coming != nil {
		r.current, r.replicas.coming, coming.replica = coming, nil, false
	}
}

// replicaFailed notes that a replica did not come up. Its model serves on, and
// nobody is told.
func (o *owner) replicaFailed(now time.Time, i *Instance) {
	s := &i.record.replicas
	s.failed++
	s.again = now.Add(retryDelay(s.failed))
}

// shrink has replicas go that the configuration no longer wants, the newest first.
func (o *owner) shrink(now time.Time, r *record) {
	for _, i := range slices.Backward(slices.Clone(o.instances)) {
		if o.live(r) <= max(1, r.spec.Replicas) {
			return
		}
		if i.record != r || !i.spare() {
			continue
		}
		reason := fmt.Sprintf("the configuration wants %d replicas", max(1, r.spec.Replicas))
		if i.word.state() == StateReady {
			o.drain(now, i, reason)
		} else {
			o.halt(now, i, reason)
		}
	}
}
