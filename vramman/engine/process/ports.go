// This file owns the choice of loopback ports.

package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

const (
	// loopback is the address that servers listen on.
	loopback = "127.0.0.1"
	// remembered is how many ports are kept back after their instance ended.
	remembered = 64
	// portTries is how many ports are asked of the kernel for one that nobody
	// else was handed.
	portTries = 2 * remembered
)

// ports is shared by all process engines of this program: while a config is
// replaced two of them run at once.
var ports portBook

// portBook hands out free ports. Between the choice and the server's own bind
// a port is nobody's, seconds long with vLLM; the book sees to it that at least
// this program hands it to nobody else then. A port also rests for a while
// after use, so that a late dial meets nobody rather than the next server.
type portBook struct {
	mu      sync.Mutex
	taken   map[int]struct{} // in use, or resting
	resting [remembered]int  // a ring: the next entry is the oldest
	next    int
}

// take returns a port that is free now and that the book has not handed out.
func (b *portBook) take(ctx context.Context) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken == nil {
		b.taken = make(map[int]struct{})
	}
	for range portTries {
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp4", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return 0, fmt.Errorf("choosing a loopback port: %w", err)
		}
		// Ports that are refused stay bound until the end, so that the kernel
		// offers others.
		defer ln.Close()
		port := ln.Addr().(*net.TCPAddr).Port
		if _, dup := b.taken[port]; !dup {
			b.taken[port] = struct{}{}
			return port, nil
		}
	}
	return 0, errors.New("choosing a loopback port: too few are free")
}

// give takes a port back and lets it rest.
func (b *portBook) give(port int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, b.resting[b.next])
	b.resting[b.next] = port
	b.next = (b.next + 1) % remembered
}
