package nvml

import (
	"errors"
	"fmt"
)

// This file owns what the inventory asks of the library: a dozen calls, in our
// own words, so that a test can have each of them fail.

// library is NVML. But for start, its calls may be made only between a start that
// succeeded and the stop that belongs to it. Errors say which call failed and why.
type library interface {
	start() error // loads it if need be; starts and stops are counted
	stop() error
	driver() (string, error) // the driver's version
	count() (int, error)     // of the cards, without slices
	card(index int) (device, error)
}

// device is a card or a slice of one.
type device interface {
	uuid() (string, error)
	name() (string, error)
	memory() (total, used uint64, err error) // bytes
	// The three kinds of processes. A process of two kinds is in both lists, with
	// all that it uses in each.
	compute() ([]process, error)
	graphics() ([]process, error)
	mps() ([]process, error) // compute by way of CUDA's Multi-Process Service
	// slices is how many slices the card may have, 0 unless it is sliced.
	slices() (int, error)
	slice(index int) (device, error) // errNotFound where none is
}

// process is what a list tells of one process.
type process struct {
	pid  uint32
	used uint64 // bytes, or unknown
}

// unknown is what NVML tells where it does not know a process's memory
// (NVML_VALUE_NOT_AVAILABLE).
const unknown = ^uint64(0)

var (
	// errUnsupported is a call that this card, driver or library cannot answer.
	errUnsupported = errors.New("not supported")
	// errNotFound is a call for something that is not there.
	errNotFound = errors.New("not found")
)

// callError is a call that failed.
type callError struct {
	call string // "nvmlInit"
	code int    // NVML's nvmlReturn_t
	text string // NVML's own words for the code
}

// Error is NVML's own words, and what can be done.
func (e *callError) Error() string {
	s := fmt.Sprintf("%s: %s (code %d)", e.call, e.text, e.code)
	if advice := advices[e.code]; advice != "" {
		s += ": " + advice
	}
	return s
}

// advices are what to do about codes of NVML (nvml.h, nvmlReturn_t).
var advices = map[int]string{
	4: "the gateway's user may not use the driver: look at the permissions of /dev/nvidiactl and /dev/nvidia0",
	8: "a power cable of the card is loose or missing",
	9: "NVIDIA's driver is not running: install it, or load its kernel module with 'modprobe nvidia'; " +
		"a container needs NVIDIA's container toolkit, which passes the cards in",
	15: "the card has fallen off the bus: restart the machine",
	16: "the card must be reset: stop what uses it and run 'nvidia-smi --gpu-reset', or restart the machine",
	18: "the driver was updated, and its library and its kernel module are of different versions: restart the machine, " +
		"or load the new kernel module and restart Caddy",
	999: "the kernel's log ('dmesg') may tell more; a container must have the device files of the cards",
}
