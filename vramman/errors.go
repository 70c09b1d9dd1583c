package vramman

import "time"

// Code says why a request was not served. It is stable and goes to clients as
// the error's code.
type Code string

// The codes.
const (
	CodeUnknownModel Code = "model_not_found"      // no model of this name or alias
	CodeQueueFull    Code = "queue_full"           // too many requests wait, for the model or in total
	CodeQueueTimeout Code = "queue_timeout"        // not served within the model's max_wait
	CodeUnreachable  Code = "deadline_unreachable" // the request's deadline is sooner than its turn, as far as is known
	CodeDeadline     Code = "deadline_exceeded"    // the request's deadline has passed
	CodeUnplaceable  Code = "vram_unavailable"     // no card has, or could get, room for the model
	CodeStartFailed  Code = "start_failed"         // the model's server did not start, now or a moment ago
	CodeModelRemoved Code = "model_removed"        // the configuration no longer has the model
	CodeNoEngine     Code = "engine_unavailable"
	CodeShuttingDown Code = "shutting_down"
)

// Error is why a request was not served, in words for the client: no secret, no
// path and no address is in it.
type Error struct {
	Code    Code
	Model   string // as configured; empty for an unknown model
	Message string
	// RetryAfter is when trying again makes sense; 0: nothing is known.
	RetryAfter time.Duration
	// NoRetry is set where trying again is pointless: until the configuration
	// changes, or for a request whose deadline has passed or will have.
	NoRetry bool
}

// Error implements error.
func (e *Error) Error() string { return e.Message }
