// This file owns how failures become answers: the manager's errors, and those of
// talking to servers, in the words of OpenAI's API.

package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// statusClientGone is what the access log says of a request whose client left.
// No client sees it.
const statusClientGone = 499

// Codes that only this package tells.
const (
	codeBodyTimeout = "body_timeout" // 408: the body came too slowly
	codeForbidden   = "forbidden"    // 403: not for this client
)

const (
	// unknownRetryAfter is told while nothing is known of when a retry may succeed.
	unknownRetryAfter = 30 * time.Second
	// minRetryAfter and maxRetryAfter are the shortest and the longest that clients
	// are told. OpenAI's SDKs do not heed more than a minute.
	minRetryAfter = time.Second
	maxRetryAfter = time.Minute
)

// statusOf is the HTTP status of each of the manager's codes.
var statusOf = map[vramman.Code]int{
	vramman.CodeUnknownModel: http.StatusNotFound,
	vramman.CodeQueueFull:    http.StatusTooManyRequests,
	vramman.CodeQueueTimeout: http.StatusGatewayTimeout,
	vramman.CodeUnreachable:  http.StatusGatewayTimeout,
	vramman.CodeDeadline:     http.StatusGatewayTimeout,
	vramman.CodeUnplaceable:  http.StatusServiceUnavailable,
	vramman.CodeStartFailed:  http.StatusServiceUnavailable,
	vramman.CodeModelRemoved: http.StatusServiceUnavailable,
	vramman.CodeNoEngine:     http.StatusServiceUnavailable,
	vramman.CodeShuttingDown: http.StatusServiceUnavailable,
}

// refusal is what a client is told of an error. An error that is neither the
// manager's nor this package's becomes a 500 that says nothing of it.
func refusal(err error) openai.Error {
	var told openai.Error
	ours := false
	if e, ok := errors.AsType[*vramman.Error](err); ok {
		told, ours = managerRefusal(e), true
	} else if told = openai.AsError(err); told.Code == openai.CodeInternal && errors.Is(err, context.DeadlineExceeded) {
		told = deadlinePassed()
	}
	switch {
	case told.NoRetry:
		told.RetryAfter = 0
	case told.RetryAfter > 0 || ours && worthRetrying(told.Status):
		told.RetryAfter = retryJitter.spread(cmp.Or(max(0, told.RetryAfter), unknownRetryAfter))
	}
	return told
}

// managerRefusal is an error of the manager's in the words of OpenAI's API.
func managerRefusal(e *vramman.Error) openai.Error {
	status, ok := statusOf[e.Code]
	if !ok {
		status = http.StatusServiceUnavailable
	}
	return openai.Error{
		Status: status, Code: string(e.Code), Message: e.Message,
		RetryAfter: e.RetryAfter, NoRetry: e.NoRetry,
	}
}

// worthRetrying says whether a status means that the same request may succeed later.
func worthRetrying(status int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// deadlinePassed is what a client is told whose own deadline has passed.
func deadlinePassed() openai.Error {
	return openai.Error{
		Status:  http.StatusGatewayTimeout,
		Code:    string(vramman.CodeDeadline),
		Message: "the request's deadline has passed before it was answered to the end",
		NoRetry: true,
	}
}

// gone says whether a request's client has left. That its deadline has passed is
// something else: it waits to be told.
func gone(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// errClientLeft means that the client left while it sent its request.
var errClientLeft = errors.New("the client left")

// upstreamError is a failed attempt to talk to an instance. Its text is for the
// log alone: it may hold an address.
type upstreamError struct {
	model     string
	connected bool // the request may have reached the server
	err       error
}

// Error implements error.
func (e *upstreamError) Error() string {
	if !e.connected {
		return "connecting to the server of model " + e.model + ": " + e.err.Error()
	}
	return "waiting for the answer of the server of model " + e.model + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *upstreamError) Unwrap() error { return e.err }

// errKeyRefused means that a server did not accept the key that the gateway gave
// it when it was started. That is no client's fault and not to be told as one.
var errKeyRefused = errors.New("the server refused the gateway's own key")

// errProtocol means that a server answered what nobody asked for.
var errProtocol = errors.New("the server tried to switch protocols")

// badGateway is what a client is told when a server failed.
func badGateway(model string) openai.Error {
	return openai.Error{
		Status:  http.StatusBadGateway,
		Code:    openai.CodeUpstreamFailed,
		Message: "the server of model " + model + " did not answer properly",
	}
}

// cutOff is what a client is told when a server broke off in the middle of a
// stream of events.
func cutOff(model string) openai.Error {
	return openai.Error{
		Status:  http.StatusBadGateway,
		Code:    openai.CodeUpstreamFailed,
		Message: "the server of model " + model + " ended in the middle of its answer",
	}
}
