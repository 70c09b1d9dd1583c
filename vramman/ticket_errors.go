package vramman

import (
	"fmt"
	"time"
)

// This file owns how a queue's refusals are told.

// full is the refusal of a request that may not even wait.
func (m *Model) full(t *Ticket, serving int, after time.Duration) *Error {
	message := fmt.Sprintf("the queue of model %s is full: %d requests wait, %d are served", m.name, t.depth, serving)
	if t.depth < t.most {
		message = "too many requests wait for the models of this gateway together"
	}
	return &Error{Code: CodeQueueFull, Model: m.name, Message: message, RetryAfter: after}
}

// lostPlace is the refusal of a request that has lost its place to others.
func (m *Model) lostPlace(now time.Time) *Error {
	m.mu.Lock()
	after := m.retryAfter(now)
	m.mu.Unlock()
	return &Error{
		Code: CodeQueueFull, Model: m.name, RetryAfter: after,
		Message: fmt.Sprintf("the queue of model %s is full, and the request's place went to a client who has fewer waiting or a higher priority", m.name),
	}
}

// unreachable is the refusal of a request that would be served too late.
func (m *Model) unreachable(wait time.Duration) *Error {
	return &Error{
		Code: CodeUnreachable, Model: m.name, NoRetry: true,
		Message: fmt.Sprintf("model %s is expected to take the request in %v, which is after its deadline; allow it more time", m.name, wait.Round(100*time.Millisecond)),
	}
}

// timeout is what ends the wait of a request for a slot or for the model.
func (m *Model) timeout(t *Ticket) *Error {
	if t.hurried {
		return &Error{
			Code: CodeDeadline, Model: m.name, NoRetry: true,
			Message: fmt.Sprintf("the request was not served by model %s before its deadline", m.name),
		}
	}
	m.mu.Lock()
	after := m.retryAfter(time.Now())
	m.mu.Unlock()
	return &Error{
		Code: CodeQueueTimeout, Model: m.name, RetryAfter: after,
		Message: fmt.Sprintf("the request was not served by model %s within its max_wait of %v", m.name, time.Duration(m.maxWait.Load())),
	}
}

func errShuttingDown(model string) *Error {
	return &Error{Code: CodeShuttingDown, Model: model, Message: "the gateway is shutting down", RetryAfter: 5 * time.Second}
}
