// This file owns the memory of which instance keeps which response. vLLM keeps
// responses in the server's own process, so that only the instance which gave one
// can tell of it again.

package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

const (
	// maxStoredResponses is how many responses are remembered; the oldest go.
	maxStoredResponses = 10_000
	// maxResponseHead is how much of an answer is searched for its ID, in bytes.
	maxResponseHead = 16 << 10
	responsesPath   = "/v1/responses"
)

// responses are those of the process, through reloads.
var responses storedResponses

// storedResponse is where a response is kept, and for whom.
type storedResponse struct {
	model    string // as its server knows it
	instance string // its ID
	caller   string // the name of the key that asked; empty: none was asked for
}

// storedResponses are the last responses, by ID. The zero storedResponses is empty.
type storedResponses struct {
	mu   sync.Mutex
	of   map[string]storedResponse
	ring []string // of IDs; the oldest stands at next once it is full
	next int
}

// note remembers a response.
func (s *storedResponses) note(id string, r storedResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[string]storedResponse)
	}
	if _, known := s.of[id]; known {
		return // an ID that comes twice is not the server's own
	}
	if len(s.ring) < maxStoredResponses {
		s.ring = append(s.ring, id)
	} else {
		delete(s.of, s.ring[s.next])
		s.ring[s.next] = id
		s.next = (s.next + 1) % maxStoredResponses
	}
	s.of[id] = r
}

// find finds a response.
func (s *storedResponses) find(id string) (storedResponse, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.of[id]
	return r, ok
}

// callerName is the name of who sends a request; empty: no key was asked for.
func callerName(c *Caller) string {
	if c == nil {
		return ""
	}
	return c.Name
}

// prepareStored finds the model of a request for a stored response, and the
// instance that keeps it. Another key's response is none.
func (a *Admission) prepareStored(r *http.Request, x *exchange) (*vramman.Model, error) {
	id := strings.TrimSuffix(strings.TrimPrefix(x.route.Path, responsesPath+"/"), "/cancel")
	kept, ok := responses.find(id)
	if !ok || kept.caller != callerName(callerOf(r)) {
		return nil, openai.ResponseNotFound()
	}
	model, served, err := a.find(r.Context(), []byte(kept.model))
	if err != nil {
		return nil, openai.ResponseNotFound()
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	x.stream = err == nil && x.route.Streams && query.Get("stream") == "true"
	x.model, x.served, x.keeper = model.Name(), served, kept.instance
	x.body = &requestBody{budget: a.limits.budget}
	return model, nil
}

// storedQuery is what of the query a server gets with a request for a stored
// response: some clients put a key there.
func storedQuery(raw string) string {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return ""
	}
	passed := make(url.Values)
	for _, name := range []string{"stream", "starting_after"} {
		if v := query.Get(name); v != "" {
			passed.Set(name, v)
		}
	}
	return passed.Encode()
}

// keeperSlot gives leases on one instance only.
type keeperSlot struct {
	ticket *vramman.Ticket
	keeper string
}

func (s keeperSlot) acquire(ctx context.Context, _ instance) (hold, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	l, ok := s.ticket.AcquireThis(s.keeper)
	if !ok {
		return nil, openai.ResponseNotFound()
	}
	return leaseHold{l}, nil
}

// noteStored notes that the exchange's answer is a response with this ID.
func (x *exchange) noteStored(id string) {
	responses.note(id, storedResponse{model: cmp.Or(x.served, x.model), instance: x.instance, caller: callerName(x.caller)})
}

// responseHead is the body of an answer that has an ID near its beginning, which
// is noted before anybody can ask for it.
type responseHead struct {
	io.ReadCloser
	events bool
	head   []byte
	done   bool
	found  func(id string)
}

// Read implements io.Reader.
func (h *responseHead) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if h.done {
		return n, err
	}
	h.head = append(h.head, p[:min(n, maxResponseHead-len(h.head))]...)
	id := responseID(h.head, h.events)
	if id != "" {
		h.found(id)
	}
	if id != "" || err != nil || len(h.head) == maxResponseHead {
		h.head, h.done = nil, true
	}
	return n, err
}

// responseID finds the ID of the response that an answer begins with: the member
// id, of the whole or of its member response, which the first event has. It is
// empty while it has not come, and for an ID that no path could name.
func responseID(head []byte, events bool) string {
	if events {
		_, after, ok := bytes.Cut(head, []byte("data:"))
		if !ok {
			return ""
		}
		head, _, _ = bytes.Cut(after, []byte("\n"))
	}
	d := json.NewDecoder(bytes.NewReader(head))
	id := memberID(d)
	if route, ok := openai.Find(responsesPath + "/" + id); !ok || route.ModelIn != openai.ModelInStore || strings.Contains(id, "/") {
		return ""
	}
	return id
}

// memberID reads the members of an object up to its ID.
func memberID(d *json.Decoder) string {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return ""
		}
		switch name {
		case "id":
			value, _ := d.Token()
			id, _ := value.(string)
			return id
		case "response":
			return memberID(d)
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return ""
		}
	}
	return ""
}

// Interface guards
var (
	_ slot          = keeperSlot{}
	_ io.ReadCloser = (*responseHead)(nil)
)
