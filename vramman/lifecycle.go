package vramman

import "fmt"

// State is where an instance is in its life.
type State uint8

// The states of an instance. While it is charged (from starting to unreleased)
// its VRAM is on the ledger.
const (
	StateFetching   State = iota + 1 // image and weights are brought, then room is waited for
	StateStarting                    // the server runs and is not ready
	StateMeasuring                   // the server is ready, its VRAM is being read
	StateReady                       // serves
	StateSleeping                    // is being put to sleep, until its VRAM is seen free
	StateAsleep                      // sleeps: its weights are in the host's memory
	StateWaking                      // is being woken
	StateDraining                    // serves what it has and takes no more
	StateStopping                    // asked to stop, until its VRAM is seen free
	StateUnreleased                  // stopped, but its VRAM was not seen free in time; still charged
	StateGone                        // not charged any more
)

var stateNames = [...]string{"none", "fetching", "starting", "measuring", "ready", "sleeping", "asleep", "waking", "draining", "stopping", "unreleased", "gone"}

// String implements [fmt.Stringer].
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// charged says whether an instance in this state is on the ledger.
func (s State) charged() bool { return s >= StateStarting && s <= StateUnreleased }
