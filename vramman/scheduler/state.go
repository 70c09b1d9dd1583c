// Package scheduler decides what the manager does next: which model starts and
// where, who makes room for it, who waits and for what, and who is refused and
// why. It is pure: it sees a [State] and answers with [Decision]s; it does no
// I/O, keeps nothing between calls and starts no goroutine.
package scheduler

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// State is all that a decision may depend on.
type State struct {
	Now       time.Time
	Cards     []Card
	Instances []Instance
	Demands   []Demand // first come, first served

	// MaxWaitForTurn is how long a demand waits for busy instances before they
	// are drained for it.
	MaxWaitForTurn time.Duration
	Policy         Policy
}

// Card is one GPU.
type Card struct {
	ledger.Card
	Charged int64
	Gate    string // who holds the gate, in words; empty: free
}

// Phase is as much of an instance's state as a decision depends on.
type Phase int

// The phases of an instance that is charged on cards.
const (
	Starting   Phase = iota // starting or measuring: will be ready or gone
	Ready                   // serves, or could
	Draining                // serves what it has and takes no more; will stop
	Stopping                // its memory is about to be free
	Unreleased              // ended, but its memory was not seen to become free
)

// Instance is one instance that is charged on cards.
type Instance struct {
	ID      string
	Model   string
	Phase   Phase
	Cards   []int   // indices into State.Cards
	Charges []int64 // bytes on each of them

	Leases  int  // attempts under way on it
	Tickets int  // requests of its model that wait or are served
	Expired bool // past its drain deadline: stopped in spite of its leases

	AlwaysOn     bool
	Leaving      bool // no longer wanted by the configuration
	ReadySince   time.Time
	LastUsed     time.Time
	DemandSince  time.Time // when the demand that started it began
	MinResidency time.Duration
	IdleTimeout  time.Duration // 0: never

	LoadTime   time.Duration // how long its model takes to load; 0: not known
	Likelihood float64       // how likely its model is to be used next, in [0, 1]; see [Usage]
}

// busy says whether requests are on it, or will be at once.
func (i *Instance) busy() bool { return i.Leases > 0 || i.Tickets > 0 }

// young says whether its minimum residency has not passed. Whoever leaves anyway
// is not spared by it.
func (i *Instance) young(now time.Time) bool {
	return i.Phase == Ready && now.Before(i.ReadySince.Add(i.MinResidency))
}

// Demand is a model that should run and does not.
type Demand struct {
	Model  string
	Since  time.Time
	Need   placement.Need
	Degree int
	Pool   string
	Cards  []int // the pool's cards that are there, as indices, in order

	AlwaysOn bool // what it starts is never evicted
}

// Policy orders victims: whoever is less goes first. It is asked about
// instances that may be evicted, and must be a strict weak order.
type Policy interface {
	Name() string
	Less(a, b *Instance) bool
	// Why says in words what gave an instance its place in the order.
	Why(i *Instance, now time.Time) string
}

// Kind says what a decision is.
type Kind int

// The kinds of decision.
const (
	Start  Kind = iota // begin to start Model on Cards, once Victims are gone
	Stop               // stop Instance
	Drain              // give Instance no more requests; it stops when it is empty
	Wait               // Model waits
	Refuse             // Model cannot be placed
)

// String implements [fmt.Stringer].
func (k Kind) String() string {
	return [...]string{"start", "stop", "drain", "wait", "refuse"}[k]
}

// Decision is one thing to do, with its reason in words.
type Decision struct {
	Kind     Kind
	Model    string
	Instance string   // for Stop and Drain
	Cards    []int    // for Start: the cards of the new instance
	Victims  []string // for Start: instances to stop first, in this order
	Gates    []int    // for Start and Stop: all cards whose gate it takes
	Reason   string
	// Summary is, for Refuse, the reason in figures for whoever asked: it names
	// no card and no other model.
	Summary string
}

// Plan is the answer to a State.
type Plan struct {
	Decisions []Decision
	// Next is the first moment at which time alone may change the answer;
	// zero: none.
	Next time.Time
}

func (p *Plan) wakeAt(t time.Time) {
	if p.Next.IsZero() || t.Before(p.Next) {
		p.Next = t
	}
}
