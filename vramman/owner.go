package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
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
	default:
		panic(fmt.Sprintf("vramman: no handler for %T", e))
	}
	o.deadlines(now)
	o.decide(now)
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
	d := DecisionStatus{Time: now, Action: action, Model: model, GPUs: cards, Reason: reason}
	if i != nil {
		d.Instance = i.id
	}
	if len(o.decisions) == decisionsKept {
		o.decisions = append(o.decisions[:0], o.decisions[1:]...)
	}
	o.decisions = append(o.decisions, d)
	if c := o.log.Check(zap.InfoLevel, messages[action]); c != nil {
		fields := []zap.Field{zap.String("model", model)}
		if i != nil {
			fields = append(fields, zap.String("instance", i.id))
		}
		if len(cards) > 0 {
			fields = append(fields, zap.Strings("gpus", cards))
		}
		c.Write(append(fields, zap.String("reason", reason))...)
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
