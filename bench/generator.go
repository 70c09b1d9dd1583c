// This file owns the generator of requests that stay: a process of its own, since
// what ten thousand requests take at the client is not to be in the way.

package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load is what a generator sends: all at once, and each stays open until the process
// ends.
type load struct {
	URL    string `json:"url"`
	Count  int    `json:"count"`
	HTTP2  bool   `json:"http2"` // without TLS
	Body   int    `json:"body"`  // its size, in bytes
	Stream string `json:"stream,omitempty"`
}

// sending is a load under way.
type sending struct {
	begun, failed atomic.Int64
	mu            sync.Mutex
	why           string
}

// begin sends everything, some at a time, so that connections are made one by one.
func (l *load) begin() *sending {
	s := new(sending)
	t := &http.Transport{MaxIdleConnsPerHost: l.Count, DisableCompression: true}
	if l.HTTP2 {
		t = newHTTP2(nil)
		t.Protocols.SetHTTP1(false)
	}
	of := &shot{body: chatBody(l.Body, l.Stream != ""), stream: l.Stream}
	go func() {
		for n := range l.Count {
			go s.send(t, l.URL+chatPath, of)
			if n%50 == 49 {
				time.Sleep(5 * time.Millisecond) // a pace, not a wait
			}
		}
	}()
	return s
}

// send sends one and waits for its answer as long as the process lives.
func (s *sending) send(t http.RoundTripper, to string, of *shot) {
	req, err := newRequest(context.Background(), to, of)
	if err != nil {
		s.fail(err.Error())
		return
	}
	res, err := t.RoundTrip(req)
	if err != nil {
		s.fail(err.Error())
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.fail(res.Status)
		return
	}
	buffer := make([]byte, 512)
	for begun := false; ; {
		n, err := res.Body.Read(buffer)
		if n > 0 && !begun {
			begun = true
			s.begun.Add(1)
		}
		if err != nil {
			s.fail("the answer ended: " + err.Error())
			return
		}
	}
}

func (s *sending) fail(why string) {
	s.failed.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
}

func (s *sending) counts() reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return reply{Begun: s.begun.Load(), Failed: s.failed.Load(), Why: s.why}
}
