package vramman

import (
	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// event is something that the owner is told. Requests, generations and workers
// post them; the owner handles one at a time.
type event interface{ isEvent() }

// From the configuration's side. done is closed when the event was handled.
type (
	applyEvent struct {
		g    *Generation
		done chan<- struct{}
	}
	commitEvent struct {
		g    *Generation
		done chan<- struct{}
	}
	withdrawEvent struct {
		g    *Generation
		done chan<- struct{}
	}
	closeEvent  struct{}
	statusEvent struct{ reply chan<- *Status }
	planEvent   struct { // what would happen if the model were asked for
		model string
		reply chan<- *PlanStatus // of capacity 1; nil: there is no such model
	}
)

// From requests.
type (
	acquireEvent struct { // no instance is ready
		model *Model
		w     *waiter
	}
	leftEvent struct { // a waiter gave up
		model *Model
		w     *waiter
	}
	wakeEvent struct{} // something wanted became idle, or the time has come
)

// From workers.
type (
	engineEvent struct { // an engine was opened and reconciled, or not
		handle  *engineHandle
		engine  engine.Engine
		removed int
		err     error
	}
	inventoryEvent struct { // an inventory was opened, or not
		handle    *inventoryHandle
		inventory gpu.Inventory
		err       error
	}
	readEvent struct { // the cards were read, or not
		number uint64
		handle *inventoryHandle
		cards  []gpu.Card
		host   host.Memory // zero: not known
		pids   map[*Instance][]int
		err    error
	}
	fetchedEvent struct { // what the instance needs is on the machine, or not
		i   *Instance
		err error
	}
	startedEvent struct { // the engine has started the server, or not
		i   *Instance
		run started
		err error
	}
	lineEvent struct { // the server printed a line that tells something
		i    *Instance
		line server.Line
	}
	readyEvent  struct{ i *Instance } // the server answers
	exitedEvent struct {              // the server has ended
		i    *Instance
		exit engine.Exit
	}
	stoppingEvent struct { // an asked stop begins, with these processes
		i    *Instance
		pids []int
	}
	stoppedEvent struct { // an asked stop is over
		i   *Instance
		err error
	}
	sleptEvent struct { // the server sleeps, or could not
		i   *Instance
		err error
	}
	wokenEvent struct { // the server is awake again, or could not be woken
		i   *Instance
		err error
	}
	sizedEvent struct { // what a model takes was worked out
		record   *record
		hash     string // of the launch
		settings []server.Setting
		sizes    []server.Sizing // for each of them
	}
	storedEvent struct { // the store was read
		measured footprint.Measured
		kept     kept
		errs     []error // what could not be read or understood
	}
	savedEvent  struct{ err error } // the store was written, or not
	listedEvent struct {            // an engine said what runs, or could not
		handle *engineHandle
		number uint64
		names  []string
		err    error
	}
	discardedEvent struct { // what nobody knew was removed, or not
		name string
		err  error
	}
)

func (applyEvent) isEvent()     {}
func (commitEvent) isEvent()    {}
func (withdrawEvent) isEvent()  {}
func (closeEvent) isEvent()     {}
func (statusEvent) isEvent()    {}
func (planEvent) isEvent()      {}
func (acquireEvent) isEvent()   {}
func (leftEvent) isEvent()      {}
func (wakeEvent) isEvent()      {}
func (engineEvent) isEvent()    {}
func (inventoryEvent) isEvent() {}
func (readEvent) isEvent()      {}
func (fetchedEvent) isEvent()   {}
func (startedEvent) isEvent()   {}
func (lineEvent) isEvent()      {}
func (readyEvent) isEvent()     {}
func (exitedEvent) isEvent()    {}
func (stoppingEvent) isEvent()  {}
func (stoppedEvent) isEvent()   {}
func (sleptEvent) isEvent()     {}
func (wokenEvent) isEvent()     {}
func (sizedEvent) isEvent()     {}
func (storedEvent) isEvent()    {}
func (savedEvent) isEvent()     {}
func (listedEvent) isEvent()    {}
func (discardedEvent) isEvent() {}
