// This file owns how the gateway refuses: one Error, written in the words of
// OpenAI's API or of Anthropic's, as an answer or as the last event of a stream.

package openai

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// The types of OpenAI's errors that the gateway uses.
const (
	TypeInvalidRequest = "invalid_request_error"
	TypeRateLimit      = "rate_limit_error"
	TypeServer         = "server_error"
)

// The codes of the gateway's errors: words that a program can act on, and that do
// not change. With each stands the status it comes with.
const (
	CodeInvalidBody      = "invalid_body"         // 400: not the JSON or the form that is asked for
	CodeInvalidQuery     = "invalid_query"        // 400: the URL's query cannot be read
	CodeInvalidHeader    = "invalid_header"       // 400: a header of the request cannot be read
	CodeModelRequired    = "model_required"       // 400: the request names no model
	CodeInvalidAPIKey    = "invalid_api_key"      // 401
	CodeModelNotFound    = "model_not_found"      // 404: no model of that name, as OpenAI spells it
	CodeResponseNotFound = "response_not_found"   // 404: no stored response of that id
	CodeRouteNotFound    = "route_not_found"      // 404: not a route of this gateway
	CodeMethodNotAllowed = "method_not_allowed"   // 405
	CodeBodyTooLarge     = "body_too_large"       // 413
	CodeQueueFull        = "queue_full"           // 429: the model's queue has no place left
	CodeInternal         = "internal_error"       // 500: the gateway's own fault
	CodeUpstreamFailed   = "upstream_failed"      // 502: the server broke off or answered nonsense
	CodeBodyMemory       = "body_memory"          // 503: too many bodies in memory
	CodeModelLoading     = "model_loading"        // 503: not ready yet, and will not be waited for
	CodeVRAMUnavailable  = "vram_unavailable"     // 503: there is no room for the model
	CodeStartFailed      = "start_failed"         // 503: the model's server does not start
	CodeModelRemoved     = "model_removed"        // 503: a new config has removed the model
	CodeShuttingDown     = "shutting_down"        // 503: the gateway stops
	CodeQueueTimeout     = "queue_timeout"        // 504: max_wait is over
	CodeUnreachable      = "deadline_unreachable" // 504: the request's deadline cannot be met
	CodeDeadline         = "deadline_exceeded"    // 504: the request's deadline has passed
)

// The bounds of Retry-After. OpenAI's SDKs ignore a longer one or give up; zero
// would make a client hammer.
const (
	minRetryAfter = time.Second
	maxRetryAfter = 60 * time.Second
)

// Error is a refusal as a client gets it. Its fields are shown to clients as they
// are: no secret, path or address may stand in them.
type Error struct {
	// Status is the HTTP status; 0 is 500.
	Status int
	// Type is the type in OpenAI's sense; empty follows from the status. In
	// Anthropic's dialect the type always follows from the status.
	Type string
	// Code is one of the codes above. Empty is null; Anthropic's dialect has none.
	Code string
	// Param names the key of the request that is at fault. Empty is null.
	Param string
	// Message says in a sentence what is wrong and what to do.
	Message string
	// RetryAfter is when a retry may succeed. Clients are told from 1 to 60 s; 0
	// tells nothing.
	RetryAfter time.Duration
	// NoRetry tells SDKs not to retry by themselves, because it is pointless.
	NoRetry bool
	// Allow is the method that a 405 names as allowed.
	Allow string
}

// Error is for logs and tests.
func (e Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.status(), e.Code, e.Message)
}

func (e Error) status() int {
	if e.Status == 0 {
		return http.StatusInternalServerError
	}
	return e.Status
}

// AsError is the Error in err's chain. Any other error becomes a 500 that says
// nothing of it: its text may hold what a client must not see.
func AsError(err error) Error {
	if e, ok := errors.AsType[Error](err); ok {
		return e
	}
	return Error{
		Status:  http.StatusInternalServerError,
		Code:    CodeInternal,
		Message: "the gateway could not handle the request; its log says why",
	}
}

// ModelNotFound says that there is no model called name, which comes from the
// client and may be anything. The words are vLLM's.
func ModelNotFound(name []byte) Error {
	const longest = 128
	shown, rest := name, ""
	if len(shown) > longest {
		cut := longest
		for cut > 0 && !utf8.RuneStart(shown[cut]) {
			cut--
		}
		shown, rest = shown[:cut], "…"
	}
	return Error{
		Status:  http.StatusNotFound,
		Code:    CodeModelNotFound,
		Param:   "model",
		Message: fmt.Sprintf("The model `%s%s` does not exist.", shown, rest),
		NoRetry: true,
	}
}

// ModelRequired says that the request must name a model.
func ModelRequired() Error {
	return Error{
		Status:  http.StatusBadRequest,
		Code:    CodeModelRequired,
		Param:   "model",
		Message: "the request names no model; GET /v1/models lists them",
		NoRetry: true,
	}
}

// RouteNotFound says that the gateway has no such route.
func RouteNotFound() Error {
	return Error{Status: http.StatusNotFound, Code: CodeRouteNotFound, Message: "there is no such route here"}
}

// ResponseNotFound says that no stored response of the id that a path names is
// kept here.
func ResponseNotFound() Error {
	return Error{
		Status:  http.StatusNotFound,
		Code:    CodeResponseNotFound,
		Message: "there is no such response here, or no longer: a response is kept by the server that gave it, as long as that runs",
	}
}

// MethodNotAllowed says that the route takes another method.
func MethodNotAllowed(allowed string) Error {
	return Error{
		Status:  http.StatusMethodNotAllowed,
		Code:    CodeMethodNotAllowed,
		Message: "this route takes " + allowed + " requests only",
		Allow:   allowed,
	}
}

// WriteError answers a request with e. Nothing may have been written to w yet. An
// error of w means that the client has left, and is of no use to anyone.
func WriteError(w http.ResponseWriter, d Dialect, e Error) {
	h := w.Header()
	if e.RetryAfter > 0 {
		after := min(max(e.RetryAfter, minRetryAfter), maxRetryAfter)
		h.Set("Retry-After", strconv.FormatInt(ceil(after, time.Second), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(ceil(after, time.Millisecond), 10))
	}
	if e.NoRetry {
		h.Set("X-Should-Retry", "false")
	}
	if e.Allow != "" {
		h.Set("Allow", e.Allow)
	}
	writeJSON(w, e.status(), appendError(nil, d, e))
}

// SSEError is the event that ends a stream which cannot go on. It belongs after a
// whole event; no "[DONE]" follows it, since the answer is not done.
func SSEError(d Dialect, e Error) []byte {
	var b []byte
	if d == DialectAnthropic {
		b = append(b, "event: error\n"...)
	}
	b = append(b, "data: "...)
	b = appendError(b, d, e)
	return append(b, "\n\n"...)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// ceil is d in units, rounded up.
func ceil(d, unit time.Duration) int64 { return int64((d + unit - 1) / unit) }

func appendError(b []byte, d Dialect, e Error) []byte {
	if d == DialectAnthropic {
		b = append(b, `{"type":"error","error":{"type":`...)
		b = appendString(b, anthropicType(e.status()))
		b = append(b, `,"message":`...)
		b = appendString(b, e.Message)
		return append(b, `}}`...)
	}
	b = append(b, `{"error":{"message":`...)
	b = appendString(b, e.Message)
	b = append(b, `,"type":`...)
	b = appendString(b, e.openAIType())
	b = append(b, `,"param":`...)
	b = appendOptional(b, e.Param)
	b = append(b, `,"code":`...)
	b = appendOptional(b, e.Code)
	return append(b, `}}`...)
}

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

func (e Error) openAIType() string {
	switch status := e.status(); {
	case e.Type != "":
		return e.Type
	case status == http.StatusTooManyRequests:
		return TypeRateLimit
	case status >= 500:
		return TypeServer
	default:
		return TypeInvalidRequest
	}
}

// anthropicType is the type that Anthropic's API documentation ("Errors") gives
// for a status. It tells being short of capacity with 529, which is no registered
// status; the gateway says 503.
func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable:
		return "overloaded_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

var _ error = Error{}
