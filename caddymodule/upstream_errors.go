// This file owns how the failures of servers are told to clients: in the gateway's
// own words, or in the server's where those are fit for strangers.

package caddymodule

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
)

// Codes of failures at servers, beside openai.CodeUpstreamFailed.
const (
	codeUpstreamTimeout = "upstream_timeout"  // 504: the server did not begin to answer, or fell silent
	codeServerBusy      = "server_busy"       // 503: the server's own queue is full
	codeRefusedByServer = "refused_by_server" // 4xx: the server said why in no words of use
)

const (
	// maxErrorBody is how much of a server's error is read, in bytes. vLLM quotes a
	// request's values in its errors, but not whole prompts.
	maxErrorBody = 64 << 10
	// maxDrain is how much more of an answer nobody wants is read, so that its
	// connection can be used again.
	maxDrain = 64 << 10
	// busyRetryAfter is told where a server's queue is full, and it did not say for
	// how long.
	busyRetryAfter = 5 * time.Second
)

// unavailable is a server's answer that it cannot serve now.
type unavailable struct {
	busy    bool // it works, but its own queue is full
	message string
	after   time.Duration
}

// Error implements error. The log does not get the server's own words: they may
// quote a request.
func (e *unavailable) Error() string {
	if e.busy {
		return "the server said 503: its queue is full"
	}
	return "the server said 503"
}

// busyWords are found in vLLM's messages of a full queue (QueueOverflowError in
// vllm/exceptions.py, the first since v0.29), which a load balancer is to answer
// with another instance. Any other 503 is that of a server which begins or ends.
var busyWords = []string{"currently busy", "different instance", "queue full", "queue is full", "queue reached"}

// readUnavailable reads a 503 to its end, bounded.
func readUnavailable(res *http.Response) error {
	e := &unavailable{after: retryAfterOf(res.Header)}
	body, _ := readError(res)
	if said, ok := parseServerError(body); ok {
		e.message = said.Message
	}
	text := strings.ToLower(e.message)
	for _, words := range busyWords {
		e.busy = e.busy || strings.Contains(text, words)
	}
	return e
}

// isBusy says whether a server answered that its own queue is full.
func isBusy(err error) bool {
	e, ok := errors.AsType[*unavailable](err)
	return ok && e.busy
}

// told is what a client is told of a server that is unavailable to the last.
func (e *unavailable) told(model string) openai.Error {
	told := openai.Error{
		Status: http.StatusServiceUnavailable, Code: openai.CodeUpstreamFailed, RetryAfter: e.after,
		Message: "the server of model " + model + " cannot take requests at present",
	}
	if told.RetryAfter == 0 {
		told.RetryAfter = unknownRetryAfter
	}
	if e.busy {
		told.Code, told.Message = codeServerBusy, "the queue of the server of model "+model+" is full"
		if e.after == 0 {
			told.RetryAfter = busyRetryAfter
		}
	}
	if e.message != "" {
		told.Message += ": " + mask(e.message)
	}
	return told
}

// readError reads the body of an error, and frees its connection. False means that
// it is larger than an error is.
func readError(res *http.Response) ([]byte, bool) {
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody+1))
	_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	_ = res.Body.Close()
	if len(body) > maxErrorBody {
		return nil, false
	}
	return body, true
}

// retryAfterOf is what a server's Retry-After says in seconds; 0: nothing.
func retryAfterOf(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return time.Duration(min(n, 3600)) * time.Second
}

// serverError is what servers say in an error, in any of their shapes.
type serverError struct {
	Message string `json:"message"`
}

// parseServerError finds the message in OpenAI's shape of an error, in Anthropic's,
// and in those of older and other servers: {"error":"…"}, {"message":"…"},
// {"detail":"…"}.
func parseServerError(body []byte) (serverError, bool) {
	var e struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &e) != nil {
		return serverError{}, false
	}
	var said serverError
	if json.Unmarshal(e.Error, &said) != nil || said.Message == "" {
		_ = json.Unmarshal(e.Error, &said.Message)
	}
	if said.Message == "" {
		said.Message = e.Message
	}
	if said.Message == "" {
		_ = json.Unmarshal(e.Detail, &said.Message)
	}
	return said, said.Message != ""
}

// errRedirect means that a server sent the client elsewhere, which none does.
var errRedirect = errors.New("the server answered with a redirection")

// tellUpstream is what a client is told of an error of the proxy's or its
// transport's. logged says that it is to be logged: it is the server's fault, and
// nobody else tells of it.
func tellUpstream(model string, err error) (e openai.Error, logged bool) {
	if u, ok := errors.AsType[*unavailable](err); ok {
		return u.told(model), true
	}
	switch {
	case errors.Is(err, errRequestTimeout):
		return openai.Error{
			Status: http.StatusGatewayTimeout, Code: codeUpstreamTimeout,
			Message: "the server of model " + model + " did not begin to answer in time",
		}, true
	case errors.Is(err, errKeyRefused), errors.Is(err, errProtocol), errors.Is(err, errRedirect):
		return badGateway(model), true
	}
	if _, ok := errors.AsType[*upstreamError](err); ok {
		return badGateway(model), true
	}
	return refusal(err), false
}

// brokenOff is what a client is told of a stream that ended before its end.
func brokenOff(model string, err error) openai.Error {
	switch {
	case errors.Is(err, errRequestTimeout), errors.Is(err, errStreamTimeout):
		return openai.Error{
			Status: http.StatusGatewayTimeout, Code: codeUpstreamTimeout,
			Message: "the server of model " + model + " fell silent in the middle of its answer",
		}
	}
	return cutOff(model)
}
