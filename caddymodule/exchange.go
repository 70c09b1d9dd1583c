// This file owns the record of one request on its way through the gateway:
// admission makes it, upstream uses it, the access log tells it.

package caddymodule

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// exchange is one admitted request. It belongs to the goroutine that serves the
// request, and ends with it.
type exchange struct {
	route  openai.Route
	model  string // as configured, whatever alias the client used
	served string // the name that the server knows: the model's, or one of its adapters'
	stream bool   // the client asked for events

	ticket vramman.Ticket
	slot   slot   // the ticket, as attempts see it
	keeper string // the only instance that can answer; empty: any

	door     *Admission // which let it in
	fallback *fallback  // where it goes if its model cannot serve it; nil: nowhere, or it did
	asked    string     // the model asked for, if another serves; else empty
	outside  string     // the URL that serves it; empty: an instance does
	answerer string     // the fallback's name for clients; empty: the model itself serves

	hold hold // the present attempt's lease, or nil

	body *requestBody

	handshake http.Header // what opens a WebSocket

	ctx       context.Context // the client's own, without the proxy's additions
	timer     *attemptTimer   // the present attempt's, or nil
	broke     error           // what ended an answer before it was whole
	caller    *Caller         // who the client is; nil: no key was asked for
	echoed    bool            // the client has been told its request's ID
	instance  string          // of the last attempt
	retries   int             // attempts that failed and were followed by another
	retrying  time.Duration   // what those attempts took, and the waits after them
	connect   time.Duration   // until the last attempt had a connection
	firstByte time.Duration   // from the last attempt's beginning to its answer's headers
	answered  time.Time       // when those headers came; zero before
	streaming time.Duration   // from the headers to the end
	outcome   string          // outcomeServed, another outcome, or an error's code
}

// What became of a request, beside the codes of errors.
const (
	outcomeServed = "served"      // answered to the end, whatever its status
	outcomeGone   = "client_gone" // the client left before the end
	outcomeCut    = "cut"         // the server broke off in the middle of its answer
)

// acquire gets the lease for an attempt: on another instance than avoid, where
// there is one.
func (x *exchange) acquire(ctx context.Context, avoid instance) (instance, error) {
	h, err := x.slot.acquire(ctx, avoid)
	if err != nil {
		return nil, err
	}
	x.hold = h
	i := h.instance()
	x.instance = i.ID()
	return i, nil
}

// release ends the present attempt, if there is one: what it has of the server is
// given up, then its lease.
func (x *exchange) release(now time.Time) {
	x.endTimer()
	if x.hold != nil {
		x.hold.Release(now)
		x.hold = nil
	}
}

// endTimer ends the timer of what was sent last.
func (x *exchange) endTimer() {
	if x.timer != nil {
		x.timer.end()
		x.timer = nil
	}
}

// late says whether an attempt at a time would be one after the ticket's deadline.
func (x *exchange) late(at time.Time) bool {
	deadline := x.ticket.Deadline()
	return !deadline.IsZero() && at.After(deadline)
}

// begin notes that an answer's headers have come. From here on nothing is tried
// again, so the request's body is of no more use.
func (x *exchange) begin(now time.Time) {
	x.answered = now
	x.body.drop()
}

// end notes that the last attempt is over, however it ended.
func (x *exchange) end(now time.Time) {
	x.release(now)
	if !x.answered.IsZero() {
		x.streaming = now.Sub(x.answered)
	}
	if x.outcome == "" {
		x.outcome = outcomeServed
	}
}

// serverTiming tells, as a Server-Timing header (W3C Server Timing), where the
// time went before the answer's first byte, in milliseconds.
func (x *exchange) serverTiming() string {
	b := make([]byte, 0, 96)
	add := func(name string, d time.Duration) {
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b = append(b, name...)
		b = append(b, ";dur="...)
		b = strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', -1, 64)
	}
	add("queue", x.ticket.Queued())
	add("load", x.ticket.Loading())
	if x.retries > 0 {
		add("retry", x.retrying)
	}
	if !x.answered.IsZero() {
		add("connect", x.connect)
		add("first_byte", x.firstByte)
	}
	return string(b)
}

// MarshalLogObject makes the exchange a field of the access log. It runs when
// the line is written, after the request's end, and only if it is written.
func (x *exchange) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("model", x.model)
	if x.served != "" && x.served != x.model {
		enc.AddString("adapter", x.served)
	}
	if x.asked != "" {
		enc.AddString("asked", x.asked)
	}
	if x.outside != "" {
		enc.AddString("outside", x.outside)
	}
	if x.outcome != "" {
		enc.AddString("outcome", x.outcome)
	}
	enc.AddBool("streamed", x.stream)
	enc.AddDuration("queue", x.ticket.Queued())
	enc.AddDuration("load", x.ticket.Loading())
	if x.instance != "" {
		enc.AddString("instance", x.instance)
		enc.AddInt("retries", x.retries)
	}
	if x.retries > 0 {
		enc.AddDuration("retry", x.retrying)
	}
	if !x.answered.IsZero() {
		enc.AddDuration("connect", x.connect)
		enc.AddDuration("first_byte", x.firstByte)
		enc.AddDuration("stream", x.streaming)
	}
	return nil
}

// exchangeKey is the context key of the exchange.
type exchangeKey struct{}

// with returns the request for the handlers after admission: it carries the
// exchange, and its body is the one to send on.
func (x *exchange) with(r *http.Request) *http.Request {
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x))
	r.Body = x.body.hand()
	r.ContentLength = int64(x.body.len())
	r.TransferEncoding = nil
	return r
}

// exchangeOf returns the exchange of a request that was admitted, or nil.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// Interface guards
var _ zapcore.ObjectMarshaler = (*exchange)(nil)
