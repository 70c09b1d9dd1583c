// This file owns the stand-in server that everything that is compared stands in
// front of: it costs as little as a server of net/http can.

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// streamHeader asks the stand-in for a stream: its number of events and the pause
// before each, as "64 2ms". With the pause "hold" the first event comes at once, and
// the rest never.
const streamHeader = "X-Bench-Stream"

// standIn is the server. Its counts are exact.
type standIn struct {
	requests    atomic.Int64 // that were asked of a model
	connections atomic.Int64 // that were opened
}

// serve serves until the process ends.
func (s *standIn) serve(address string) (net.Addr, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the stand-in: %w", err)
	}
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.connections.Add(1)
			}
		},
	}
	go func() { _ = server.Serve(ln) }()
	return ln.Addr(), nil
}

// ServeHTTP implements http.Handler.
func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		return // the gateway asks for its health
	}
	s.requests.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	shape := r.Header.Get(streamHeader)
	if shape == "" {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(chatAnswer)))
		_, _ = w.Write(chatAnswer)
		return
	}
	var events int
	var pause string
	if _, err := fmt.Sscanf(shape, "%d %s", &events, &pause); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.stream(w, r, events, pause)
}

func (s *standIn) stream(w http.ResponseWriter, r *http.Request, events int, pause string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	control := http.NewResponseController(w)
	every, _ := time.ParseDuration(pause)
	for n := range events {
		if n > 0 && pause == "hold" {
			<-r.Context().Done()
			return
		}
		if n > 0 && every > 0 {
			time.Sleep(every)
		}
		event := chatEvent
		if n == events-1 {
			event = lastEvent
		}
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
	}
}
