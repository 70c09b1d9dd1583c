// Package scheduler decides what the manager does next: which model starts and
// where, who makes room for it, who waits and for what, and who is refused and
// why. It is pure: it sees a [State] and answers with [Decision]s; it does no
// I/O, keeps nothing between calls and starts no goroutine.
package scheduler

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// State is all that a decision may depend on.
type State struct {
	Now       time.Time
	Cards     []Card
	Instances []Instance
	Demands   []Demand // in any order; of those that are the same to [Decide], the first goes first

	// MaxWaitForTurn is how long a demand waits for busy instances before they
	// are drained for it.
	MaxWaitForTurn time.Duration
	Policy         Policy

	// HostRoom is how many bytes of the host's memory instances that are put to
	// sleep may still take. That of an instance that is woken does not come back
	// in time for those that make room for it.
	HostRoom int64
}

// Card is one GPU.
type Card struct {
	ledger.Card
	Charged int64
	Gate    string // who holds the gate, in words; empty: free
	Class   int    // cards of one class are alike: a tensor-parallel instance takes no others
	// Squeezed says that other programs have grown into what is charged, and
	// that it was seen for long enough not to be an accident of measuring.
	Squeezed bool
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
	Asleep                  // serves nobody until it is woken, and holds little
)

// An instance that is being put to sleep is Asleep, charged what it will be, while
// the gates of its cards are held; one that is being woken is Starting, charged
// what it will be.

// Instance is one instance that is charged on cards.
type Instance struct {
	ID      string
	Model   string
	Phase   Phase
	Cards   []int   // indices into State.Cards
	Charges []int64 // bytes on each of them

	Leases  int  // attempts under way on it
	Tickets int  // requests of its model that wait or are served; asleep: that wait for it to be woken
	Expired bool // past its drain deadline: stopped in spite of its leases

	AlwaysOn     bool
	Leaving      bool // no longer wanted by the configuration
	ReadySince   time.Time
	LastUsed     time.Time
	DemandSince  time.Time // when the demand that started it began
	MinResidency time.Duration
	IdleTimeout  time.Duration // without a request: put to sleep or stopped; asleep for as long again: stopped; 0: never

	// Resting is, for a ready instance that may be put to sleep, what it is
	// charged on each card then; nil: it may not. Awake is, for one that is
	// asleep, what it is charged on each card once it is woken.
	Resting []int64
	Awake   []int64
	// HostBytes is the host's memory that it takes asleep.
	HostBytes int64

	LoadTime   time.Duration // how long its model takes to load; 0: not known
	Likelihood float64       // how likely its model is to be used next, in [0, 1]; see [Usage]
}

// busy says whether requests are on it, or will be at once.
func (i *Instance) busy() bool { return i.Leases > 0 || i.Tickets > 0 }

// young says whether its minimum residency has not passed. Whoever leaves anyway
// is not spared by it, nor whoever is asleep.
func (i *Instance) young(now time.Time) bool {
	return i.Phase == Ready && now.Before(i.ReadySince.Add(i.MinResidency))
}

// maySleep says whether it can be put to sleep, if the host's memory allows.
func (i *Instance) maySleep() bool {
	return i.Phase == Ready && i.Resting != nil && len(i.Resting) == len(i.Charges)
}

// idleLimit is after how long without a request it ends, or sleeps; 0: never.
func (i *Instance) idleLimit() time.Duration {
	if i.Phase == Asleep {
		return 2 * i.IdleTimeout
	}
	return i.IdleTimeout
}

// Demand is a model that should run and does not.
type Demand struct {
	Model  string
	Since  time.Time
	Degree int
	Pool   string
	Cards  []int   // the cards that it may use and that are there, as indices, in order
	Need   []int64 // bytes on each of them

	AlwaysOn bool     // what it starts is never evicted
	Waiting  int      // how many requests wait for it
	Conflict Conflict // what it does where there is no room
	// Gentle is a demand that no request made: it takes free room only, waits
	// without a turn, and is in nobody's way.
	Gentle bool
	// Asleep is the instance of the model that is asleep and can be woken in its
	// place; empty: there is none.
	Asleep string
	// Explain asks for the candidates of a decision to wait, which nobody looks at
	// most of the time.
	Explain bool
}

// takesTurn says whether others make room for it: the idle now, and the busy when
// its turn comes.
func (q *Demand) takesTurn() bool { return q.Conflict == Evict && !q.Gentle }

// rejects says whether it is refused rather than waits for others to end.
func (q *Demand) rejects() bool { return q.Conflict == Reject && !q.Gentle }

// Conflict says what a model that should run does where there is no room.
type Conflict int

// The ways.
const (
	Evict  Conflict = iota // has idle models make room, and busy ones when its turn comes
	Hold                   // waits until others end by themselves
	Reject                 // is refused at once, unless room is about to come
)

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
	Sleep              // put Instance to sleep
	Wake               // wake Instance, once Victims have made room
)

// String implements [fmt.Stringer].
func (k Kind) String() string {
	return [...]string{"start", "stop", "drain", "wait", "refuse", "sleep", "wake"}[k]
}

// Decision is one thing to do, with its reason in words.
type Decision struct {
	Kind     Kind
	Model    string
	Instance string   // for Stop, Drain, Sleep and Wake
	Cards    []int    // for Start and Wake: the cards of the instance
	Victims  []Victim // for Start and Wake: who makes room first, in this order
	Gates    []int    // for Start, Wake, Stop and Sleep: all cards whose gate it takes
	Reason   string
	// Candidates is how each card of a demand was seen: always for Start, Wake and
	// Refuse, for Wait if the demand asks for it.
	Candidates []Candidate
	// Summary is, for Refuse, the reason in figures for whoever asked: it names
	// no card and no other model.
	Summary string
	// Never says of a Refuse that it will be one for as long as the model and the
	// cards are configured as they are: it needs more than the budget of any card,
	// or more cards than there are. To ask again is of no use.
	Never bool
}

// Victim is an instance that makes room.
type Victim struct {
	Instance string
	Sleep    bool // it is put to sleep; else it is stopped
}

// Candidate is one card as a demand saw it.
type Candidate struct {
	Card    int
	Need    int64 // bytes that the instance takes on it; of one that is woken: how many more
	Room    int64 // bytes that could be charged as things stood; negative: overdrawn
	Chosen  bool
	Verdict string // why it was chosen, or was not
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
