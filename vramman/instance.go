package vramman

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/logring"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// Instance is one running server of one model on chosen GPUs.
//
// Requests use its exported methods, its word and lastUsed; everything else
// belongs to the owner. What requests read besides is set before the instance
// is ready and never changes.
type Instance struct {
	id    string
	model *Model

	word     word
	lastUsed atomic.Int64 // Unix nanoseconds

	transport     *http.Transport
	authorization string

	// What it was started with; never changes after it was reserved.
	gateway   string
	spec      *ModelSpec
	hash      string
	replica   bool // made beside another, for a long queue
	engine    *engineHandle
	cards     []string         // UUIDs, set by the reservation
	need      []int64          // bytes reserved on each card
	footing   footing          // where that comes from
	free      int64            // the least that was free on one of its cards then; 0: not known
	total     int64            // the size of its smallest card
	share     int64            // bytes reserved on that one
	inventory *inventoryHandle // which its cards are of
	environ   []string         // what its server needs to use the cards
	stop      time.Duration
	start     time.Duration
	left      chan struct{}      // closed when it is left to itself
	cancel    context.CancelFunc // ends a fetch or start under way; set and called by effects

	// How it is doing.
	record      *record
	since       time.Time // in the present state
	demandSince time.Time // when the demand that started it began
	readySince  time.Time
	started     time.Time // when its server was started; zero before
	fetched     bool      // what it needs is on the machine
	stage       server.Stage
	failure     server.Line // the first line that told of a failure
	running     engine.Running
	pids        map[int]bool     // all processes it was ever seen to have
	measured    map[string]int64 // the most seen while it was awake, per card
	before      map[string]int64 // what everybody used of a card when the gate's work on it began
	grown       bool             // what it is measured to use is to be kept once more
	facts       footprint.Facts  // what its server told of its memory
	nap         nap              // of an instance that sleeps
	leaving     bool             // the configuration no longer has its model
	outdated    bool             // asleep, and the configuration has changed
	listed      listing          // how the engine's list saw it
	drainBy     time.Time        // when a drain ends by force; zero: no drain
	ended       bool             // the server is known to be gone
	endedAt     time.Time
	fresh       uint64       // readings up to this number were begun too early to tell of it
	stopAsked   bool         // a worker stops it, or will once it runs
	stopAgain   time.Time    // when a stop that failed is tried again
	tail        logring.Ring // the last lines of its server's output
}

// ID names the instance: the model's name and an ordinal.
func (i *Instance) ID() string { return i.id }

// Transport carries requests to the instance, whatever host their URL names.
// Its connections are the instance's own.
func (i *Instance) Transport() http.RoundTripper { return i.transport }

// Authorization is the value of the Authorization header that the instance's
// server asks for. It is a secret.
func (i *Instance) Authorization() string { return i.authorization }

// charge is what the ledger holds for it on its n-th card: the larger of
// reserved and measured, and asleep what it was seen to hold since.
func (i *Instance) charge(n int) int64 {
	if i.nap.rests {
		return i.nap.held[i.cards[n]]
	}
	return i.awake(n)
}

// awake is what it is charged on its n-th card while it is not asleep.
func (i *Instance) awake(n int) int64 { return max(i.need[n], i.measured[i.cards[n]]) }

// enter moves the instance to another state, whatever its leases are.
func (i *Instance) enter(s State, now time.Time) {
	i.word.set(s)
	i.since = now
}

// served says whether a request was served since it became ready.
func (i *Instance) served() bool { return i.lastUse().After(i.readySince) }

// lastUse is when it was last used, or became ready.
func (i *Instance) lastUse() time.Time {
	if at := i.lastUsed.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return i.readySince
}
