package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about sleep: a server that sleeps keeps its weights in the host's
// memory and little VRAM, and is back sooner than after a start.

const (
	// restingDefault is what a sleeping server is taken to hold of each card
	// before that was seen: 1 to 2 GiB were (context, graphs, buffers).
	restingDefault = 2 << 30
	// hostFactor is how many times its weights a sleeping server may take of the
	// host's memory: pinned buffers are rounded up to powers of two.
	hostFactor = 2
	// hostSpare is what is left of the host's memory to everybody else.
	hostSpare = 2 << 30
	// sleepTimeout and wakeTimeout bound the server's answer. Pinning the memory of
	// large weights was seen to take ten seconds and more.
	sleepTimeout = 2 * time.Minute
	wakeTimeout  = 2 * time.Minute
	// napSettles is how long after its answer a sleeping server's VRAM may take to
	// become free; then it is stopped instead.
	napSettles = 10 * time.Second
	// sleepless is for how long a model is stopped rather than put to sleep after
	// that went wrong.
	sleepless = time.Hour
	// wakeSpeed is how fast weights are taken to come back, in bytes a second, for
	// a model that was never woken: slower than any that was seen.
	wakeSpeed = 4 << 30
)

// nap is an instance's sleep.
type nap struct {
	slept bool             // its server has answered that it sleeps
	at    time.Time        // when that was
	rests bool             // its VRAM is free, and it is charged what it holds
	held  map[string]int64 // of each card, the most that was seen since
	host  int64            // the host's memory that it takes, in bytes
	since time.Time        // when it began to be put to sleep, or to be woken
}

// asleepOf is the model's instance that can be woken; nil: there is none.
func (o *owner) asleepOf(r *record) *Instance {
	for _, i := range o.instances {
		if i.record == r && i.word.state() == StateAsleep && !i.outdated && !i.leaving {
			return i
		}
	}
	return nil
}

// napping says whether an instance of the model is being put to sleep: whoever
// wants the model waits for that, and wakes it.
func (o *owner) napping(r *record) bool {
	return slices.ContainsFunc(o.instances, func(i *Instance) bool {
		return i.record == r && i.word.state() == StateSleeping && !i.outdated && !i.leaving
	})
}

// weights is what the instance's weights take on all its cards.
func (i *Instance) weights() int64 {
	one := i.facts.Weights
	if one == 0 && i.footing.known {
		one = i.footing.belief.Weights
	}
	if one == 0 && len(i.cards) > 0 {
		one = i.awake(0) // surely no more
	}
	return one * int64(len(i.cards))
}

// resting is what the instance would be charged on each card asleep; nil: it is
// not to be put to sleep.
func (o *owner) resting(now time.Time, i *Instance) []int64 {
	r := i.record
	if !i.spec.Launch.Sleep || i.spare() || now.Before(r.sleepless) || i.outdated {
		return nil
	}
	if _, ok := i.spec.Server.(server.Sleeper); !ok {
		return nil
	}
	if load := o.usage.LoadTime(r.model.name); load > 0 && o.wakeTime(i) >= load {
		return nil // a restart is as fast
	}
	all := make([]int64, len(i.cards))
	for n, c := range i.cards {
		card := o.present(c)
		if card == nil || card.Unmeasured || card.Unattributed {
			return nil // nobody would see whether it frees anything
		}
		all[n] = restingDefault
		if seen, ok := r.resting[c]; ok {
			all[n] = seen
		}
		if all[n] >= i.awake(n) {
			return nil
		}
	}
	return all
}

// wakeTime is how long waking an instance is expected to take.
func (o *owner) wakeTime(i *Instance) time.Duration {
	if t := i.record.wakeTime; t > 0 {
		return t
	}
	return time.Duration(float64(i.weights()) / wakeSpeed * float64(time.Second))
}

// hostRoom is how much of the host's memory sleeping instances may still take.
func (o *owner) hostRoom() int64 {
	if o.host == (host.Memory{}) {
		return 0 // not known: nobody sleeps
	}
	most := o.host.Total / 2
	if o.spec != nil && o.spec.SleepMemory > 0 {
		most = o.spec.SleepMemory
	}
	// What is promised and not taken yet is still among what is available.
	var held, promised int64
	for _, i := range o.instances {
		switch i.word.state() {
		case StateSleeping:
			promised += i.nap.host
			held += i.nap.host
		case StateAsleep, StateWaking:
			held += i.nap.host
		}
	}
	return max(0, min(most-held, o.host.Available-promised-hostSpare))
}

// putToSleep has an instance sleep whose state is sleeping already.
func (o *owner) putToSleep(now time.Time, i *Instance, reason string) {
	r := i.record
	i.since, i.stage = now, "being put to sleep"
	i.nap = nap{host: i.weights() * hostFactor, since: now}
	o.lose(i)
	o.publish(r)
	o.decided(now, "sleep", r.model.name, i, i.cards, reason)
	o.fx.sleepServer(i)
}

// sleptNow is told that the server says that it sleeps, or that it does not.
func (o *owner) sleptNow(now time.Time, e sleptEvent) {
	i := e.i
	if i.word.state() != StateSleeping {
		return
	}
	if e.err != nil {
		o.log.Error("a server could not be put to sleep", zap.String("instance", i.id), zap.Error(e.err))
		o.sleptBadly(now, i, "it could not be put to sleep; it is stopped instead")
		return
	}
	i.nap.slept, i.nap.at, i.fresh = true, now, o.readings
	o.wantReading()
}

// naps looks, after a reading, whether those who sleep have freed their VRAM.
func (o *owner) naps(now time.Time, number uint64) {
	for _, i := range slices.Clone(o.instances) {
		if i.word.state() != StateSleeping || !i.nap.slept || number <= i.fresh {
			continue
		}
		held := make(map[string]int64, len(i.cards))
		free := true
		for n, c := range i.cards {
			card := o.present(c)
			if card == nil {
				free = false
				break
			}
			held[c] = usedBy(card, i)
			// What was planned on is what it was seen to hold before, or half.
			planned := max(i.awake(n)/2, i.record.resting[c])
			free = free && held[c] <= planned
		}
		switch {
		case free:
			o.asleepNow(now, i, held)
		case !now.Before(i.nap.at.Add(napSettles)):
			o.sleptBadly(now, i, "it sleeps, but its VRAM was not seen to become free; it is stopped instead")
		}
	}
}

// asleepNow charges an instance what it holds asleep, and lets those go on that
// waited for its room.
func (o *owner) asleepNow(now time.Time, i *Instance, held map[string]int64) {
	r := i.record
	i.nap.rests, i.nap.held = true, held
	i.enter(StateAsleep, now)
	i.stage = ""
	if r.resting == nil {
		r.resting = make(map[string]int64)
	}
	for n, c := range i.cards {
		r.resting[c] = max(r.resting[c], held[c])
		if err := o.ledger.Charge(c, i.id, i.charge(n)); err != nil {
			o.log.DPanic("charging what sleeps", zap.Error(err))
		}
	}
	o.decided(now, "asleep", r.model.name, i, i.cards, fmt.Sprintf("its VRAM is seen to be free but for %v per card, after %s; about %v of the host's memory hold its weights",
		ledger.Size(held[i.cards[0]]), now.Sub(i.nap.since).Round(time.Millisecond), ledger.Size(i.nap.host)))
	o.free("sleep " + i.id)
	o.madeRoom(i)
}

// sleptBadly stops an instance instead of having it sleep or wake. Those who wait
// for its room wait for its end.
func (o *owner) sleptBadly(now time.Time, i *Instance, reason string) {
	i.record.sleepless = now.Add(sleepless)
	i.word.set(StateStopping)
	o.free("sleep " + i.id)
	if i.nap.rests { // whatever it holds by now
		i.nap.rests = false
		o.recharge(i)
	}
	o.stopInstance(now, i, "failed", reason)
	o.endLoad(o.loadOf(i))
}

// recharge charges an instance what it is to be charged in its present state.
func (o *owner) recharge(i *Instance) {
	for n, c := range i.cards {
		if err := o.ledger.Charge(c, i.id, i.charge(n)); err != nil {
			o.log.DPanic("charging", zap.Error(err))
		}
	}
}

// wakeUp wakes an instance whose room is free.
func (o *owner) wakeUp(now time.Time, l *load) {
	i := l.instance
	i.nap.rests, i.nap.since = false, now
	o.recharge(i)
	l.reserved = true
	i.enter(StateWaking, now)
	i.stage = "waking"
	o.fx.wakeServer(i)
}

// wokenNow is told that the server says that it is awake, or that it is not.
func (o *owner) wokenNow(now time.Time, e wokenEvent) {
	i := e.i
	if i.word.state() != StateWaking {
		return
	}
	if e.err != nil {
		o.log.Error("a server could not be woken", zap.String("instance", i.id), zap.Error(e.err))
		o.sleptBadly(now, i, "it could not be woken; it is started anew")
		return
	}
	i.record.wakeTime = now.Sub(i.nap.since)
	i.nap = nap{since: i.nap.since}
	i.enter(StateMeasuring, now)
	i.stage = "measuring"
	i.fresh = o.readings
	o.wantReading()
}

// napDeadline is when a server has had its time to sleep or wake.
func (i *Instance) napDeadline() time.Time {
	switch {
	case i.word.state() == StateWaking:
		return i.nap.since.Add(wakeTimeout + stopSlack)
	case i.nap.slept:
		return i.nap.at.Add(napSettles)
	}
	return i.nap.since.Add(sleepTimeout + stopSlack)
}

// overslept ends a sleep or a waking whose worker never reported, or whose VRAM
// nobody could look at in time.
func (o *owner) overslept(now time.Time, i *Instance) {
	if now.Before(i.napDeadline()) {
		return
	}
	why := "it could not be put to sleep in time; it is stopped instead"
	if i.word.state() == StateWaking {
		why = "it could not be woken in time; it is started anew"
	}
	o.sleptBadly(now, i, why)
}

// hostStatus is the host's memory, for people.
func (o *owner) hostStatus() HostStatus {
	s := HostStatus{Total: o.host.Total, Available: o.host.Available, Room: o.hostRoom()}
	for _, i := range o.instances {
		switch i.word.state() {
		case StateSleeping, StateAsleep, StateWaking:
			s.Asleep += i.nap.host
		}
	}
	return s
}
