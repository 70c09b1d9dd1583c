package vramman

import "sync/atomic"

// word is what the hot path shares with the owner of an instance: its state,
// how many leases are on it, and whether somebody waits for it to become idle,
// in one atomic, so that no lease can slip in between a look and a claim.
//
//	bits  0-31  leases
//	bit     32  wanted: a waiting plan depends on the instance
//	bits 40-47  state
type word struct{ v atomic.Uint64 }

const (
	wordLeases = 1<<32 - 1
	wordWanted = 1 << 32
	wordState  = 40
)

func (w *word) state() State { return State(w.v.Load() >> wordState) }

func (w *word) leases() int { return int(w.v.Load() & wordLeases) }

// lease takes a lease if the instance is ready.
func (w *word) lease() bool {
	for {
		old := w.v.Load()
		if State(old>>wordState) != StateReady {
			return false
		}
		if w.v.CompareAndSwap(old, old+1) {
			return true
		}
	}
}

// release gives a lease back and says whether the owner must hear of it.
func (w *word) release() (wake bool) {
	now := w.v.Add(^uint64(0))
	return now&wordLeases == 0 && (now&wordWanted != 0 || State(now>>wordState) != StateReady)
}

// set changes the state whatever the leases are. Only the owner calls it.
func (w *word) set(s State) {
	for {
		old := w.v.Load()
		if w.v.CompareAndSwap(old, old&^(0xff<<wordState)|uint64(s)<<wordState) {
			return
		}
	}
}

// grant is set(StateReady) and n leases in one step, so that those who waited
// for a load are served before anybody may claim the instance.
func (w *word) grant(n int) {
	for {
		old := w.v.Load()
		if w.v.CompareAndSwap(old, old&^(0xff<<wordState)|uint64(StateReady)<<wordState+uint64(n)) {
			return
		}
	}
}

// claim moves an instance without leases from one state to another. It fails
// when there is a lease or the state is another.
func (w *word) claim(from, to State) bool {
	for {
		old := w.v.Load()
		if old&wordLeases != 0 || State(old>>wordState) != from {
			return false
		}
		if w.v.CompareAndSwap(old, uint64(to)<<wordState) {
			return true
		}
	}
}

// want sets or clears the wanted bit, and returns the number of leases at that
// moment: 0 means that no release is still to come.
func (w *word) want(on bool) int {
	for {
		old := w.v.Load()
		now := old &^ wordWanted
		if on {
			now |= wordWanted
		}
		if old == now || w.v.CompareAndSwap(old, now) {
			return int(now & wordLeases)
		}
	}
}
