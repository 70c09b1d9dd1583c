package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// owner holds all state of the manager. It is used by one goroutine: each call
// of handle takes one event to its end, without I/O and without blocking. What
// takes time it asks of its effects, whose results come back as events.
//
// The same events, at the same times, over the same leases and queues, lead to
// the same decisions: nothing here depends on the order of a map or on chance.
type owner struct {
	manager *Manager // for the models made here, and to wake
	fx      effects
	log     *zap.Logger

	generations []generation // the oldest first
	spec        *Spec        // in force; nil: none
	closing     bool

	models  map[string]*Model
	records []*record // in the order in which the models were first seen

	engines   []*engineHandle
	inventory *inventoryHandle // of the spec in force; nil: none

	ledger     ledger.Ledger
	cards      []gpu.Card // as last read
	read       bool       // cards have been read at least once
	reading    bool       // a reading is under way
	readings   uint64     // how many readings were begun
	readAgain  bool       // another is wanted as soon as the present one is over
	readAt     time.Time  // when the last reading came
	readErr    error      // of the last reading; nil: it went well
	blindSince time.Time  // when readings began to fail

	instances []*Instance // all that are not gone, the oldest first
	loads     []*load     // starts that hold gates, the oldest first
	gates     map[string]string
	ordinals  map[string]int
	usage     scheduler.Usage // what was learned of each model

	measured footprint.Measured // what models were measured to take
	kept     kept               // what was found for good
	store    storeState
	host     host.Memory    // of the last reading; zero: not known
	squeezed map[string]int // per card: readings in a row in which other programs left too little
	audit    audit

	decisions []DecisionStatus
	again     bool      // decide once more before the event is over
	planNext  time.Time // when time alone may change the scheduler's answer

	// planned, where set, sees every plan before it is carried out.
	planned func(*scheduler.State, scheduler.Plan)
}

// effects is what the owner has others do. Nothing of it blocks; each result
// comes back as the event named.
type effects interface {
	openEngine(h *engineHandle)                                  // engineEvent
	closeEngine(h *engineHandle)                                 // nothing
	openInventory(h *inventoryHandle)                            // inventoryEvent
	closeInventory(h *inventoryHandle)                           // nothing
	readCards(number uint64, h *inventoryHandle, of []*Instance) // readEvent
	fetch(i *Instance)                                           // fetchedEvent
	start(i *Instance)                                           // startedEvent, lineEvent…, readyEvent, exitedEvent
	stop(i *Instance)                                            // stoppedEvent
	sleepServer(i *Instance)                                     // sleptEvent
	wakeServer(i *Instance)                                      // wokenEvent
	size(r *record, h *engineHandle, in []server.Setting)        // sizedEvent
	loadStore(s Store)                                           // storedEvent
	saveStore(s Store, values map[string][]byte)                 // savedEvent
	list(number uint64, h *engineHandle)                         // listedEvent
	discard(h *engineHandle, name string)                        // discardedEvent
	letGo(i *Instance)                                           // nothing
	abandon(i *Instance)                                         // ends a fetch or a start that has not come to startedEvent
	wakeAt(t time.Time)                                          // wakeEvent; zero: no more
}

// generation is a configuration that was applied and not withdrawn.
type generation struct {
	g         *Generation
	committed bool
}

// engineHandle is an engine that is open, or will be.
type engineHandle struct {
	spec    engine.Spec
	log     *zap.Logger
	engine  engine.Engine // nil until open
	opening bool
	err     error // why it is not open
	retryAt time.Time
	failed  int
}

// inventoryHandle is an inventory that is open, or will be.
type inventoryHandle struct {
	spec      gpu.Spec
	log       *zap.Logger
	inventory gpu.Inventory
	machine   bool // servers run beside the gateway, and not within its own limits of memory
	opening   bool
	err       error
	retryAt   time.Time
	failed    int
}

func newOwner(m *Manager, fx effects) *owner {
	return &owner{
		manager:  m,
		fx:       fx,
		log:      zap.NewNop(),
		models:   make(map[string]*Model),
		gates:    make(map[string]string),
		squeezed: make(map[string]int),
		ordinals: make(map[string]int),
	}
}

// handle takes one event to its end.
func (o *owner) handle(now time.Time, e event) {
	switch e := e.(type) {
	case applyEvent:
		o.apply(now, e.g)
		defer closeIf(e.done)
	case commitEvent:
		o.commit(now, e.g)
		defer closeIf(e.done)
	case withdrawEvent:
		o.withdraw(now, e.g)
		defer closeIf(e.done)
	case closeEvent:
		o.close(now)
	case statusEvent:
		e.reply <- o.status(now)
		return
	case planEvent:
		o.askedForPlan(now, e)
	case acquireEvent:
		o.acquire(now, e.model, e.w)
	case leftEvent:
		o.left(e.model, e.w)
	case wakeEvent:
	case engineEvent:
		o.engineOpened(now, e)
	case inventoryEvent:
		o.inventoryOpened(now, e)
	case readEvent:
		o.cardsRead(now, e)
	case fetchedEvent:
		o.fetched(now, e.i, e.err)
	case startedEvent:
		o.startedOrNot(now, e)
	case lineEvent:
		o.line(e.i, e.line)
	case readyEvent:
		o.answered(now, e.i)
	case exitedEvent:
		o.exited(now, e)
	case stoppingEvent:
		for _, p := range e.pids {
			e.i.pids[p] = true
		}
	case stoppedEvent:
		o.stopped(now, e)
	case sleptEvent:
		o.sleptNow(now, e)
	case wokenEvent:
		o.wokenNow(now, e)
	case sizedEvent:
		o.sizedNow(now, e)
	case storedEvent:
		o.stored(e)
	case savedEvent:
		o.saved(now, e.err)
	case listedEvent:
		o.listedNow(now, e)
	case discardedEvent:
		o.discarded(now, e)
	default:
		panic(fmt.Sprintf("vramman: no handler for %T", e))
	}
	o.deadlines(now)
	o.decide(now)
	o.askIfDue(now)
	o.tellRequests()
	o.fx.wakeAt(o.nextWake(now))
}

func closeIf(done chan<- struct{}) {
	if done != nil {
		close(done)
	}
}

// finished says that a closed owner has nothing left to wait for: what is not
// released within its time will not be by waiting longer.
func (o *owner) finished() bool {
	return o.closing &&
		!slices.ContainsFunc(o.instances, func(i *Instance) bool { return i.word.state() != StateUnreleased }) &&
		!slices.ContainsFunc(o.engines, func(h *engineHandle) bool { return h.opening }) &&
		(o.inventory == nil || !o.inventory.opening)
}

// shut closes what a finished owner still has open: an engine whose instance
// was never seen to be released ends what must not outlive it.
func (o *owner) shut() {
	for _, h := range o.engines {
		if h.engine != nil {
			o.fx.closeEngine(h)
		}
	}
	if h := o.inventory; h != nil && h.inventory != nil {
		o.fx.closeInventory(h)
	}
	o.engines, o.inventory = nil, nil
}

// messages are the log's words for what was decided.
var messages = map[string]string{
	"start":      "starting a model",
	"evict":      "evicting an instance",
	"stop":       "stopping an instance",
	"drain":      "draining an instance",
	"wait":       "a model waits for room",
	"sleep":      "putting an instance to sleep",
	"asleep":     "an instance is asleep",
	"wake":       "waking an instance",
	"adjust":     "starting a model with an adjusted footprint",
	"audit":      "the audit has found something",
	"refuse":     "a model cannot be placed",
	"replan":     "planning a start anew",
	"ready":      "an instance is ready",
	"failed":     "an instance failed",
	"gone":       "an instance is gone",
	"leave":      "leaving an instance running",
	"unreleased": "an instance's VRAM is not free",
}

// decisionsKept is how many decisions the status shows.
const decisionsKept = 100

// decided records a decision and logs it.
func (o *owner) decided(now time.Time, action, model string, i *Instance, cards []string, reason string) {
	o.noted(now, DecisionStatus{Action: action, Model: model, GPUs: cards, Reason: reason}, i)
}

// noted records a decision of an instance, or of none, and logs it.
func (o *owner) noted(now time.Time, d DecisionStatus, i *Instance) {
	d.Time = now
	if i != nil {
		d.Instance = i.id
	}
	if len(o.decisions) == decisionsKept {
		o.decisions = append(o.decisions[:0], o.decisions[1:]...)
	}
	o.decisions = append(o.decisions, d)
	if c := o.log.Check(zap.InfoLevel, messages[d.Action]); c != nil {
		fields := []zap.Field{zap.String("model", d.Model)}
		if i != nil {
			fields = append(fields, zap.String("instance", i.id))
		}
		if len(d.GPUs) > 0 {
			fields = append(fields, zap.Strings("gpus", d.GPUs))
		}
		fields = append(fields, zap.String("reason", d.Reason))
		if len(d.Cards) > 0 {
			fields = append(fields, seenCards(d.Cards))
		}
		c.Write(fields...)
	}
}

// retryDelay is how long to wait after the n-th failure in a row: 10 s,
// doubled each time, 5 min at most.
func retryDelay(n int) time.Duration {
	const first, most = 10 * time.Second, 5 * time.Minute
	if n > 5 {
		return most
	}
	return min(first<<max(0, n-1), most)
}
