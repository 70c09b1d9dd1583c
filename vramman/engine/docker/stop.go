// This file owns how a server is stopped.

package docker

import (
	"context"
	"fmt"
	"time"
)

// stopping is one request to Docker to stop a container.
type stopping struct {
	over chan struct{}
	err  error // valid once over is closed
}

// Stop has Docker ask the server to end, and kill it after grace; then its
// container is removed. Docker itself sees to the kill, whatever becomes of the
// gateway. When ctx ends first, Stop returns its error and the stop goes on. Of
// several callers the shortest grace counts.
func (i *instance) Stop(ctx context.Context, grace time.Duration) error {
	s := i.ask(grace)
	kill := time.AfterFunc(grace, func() {
		ctx, cancel := context.WithTimeout(i.engine.life, cleanupTimeout)
		defer cancel()
		// What it was to end, the request to stop reports.
		_ = i.engine.daemon.kill(ctx, i.container)
	})
	defer kill.Stop()
	select {
	case <-i.gone:
		return nil
	case <-s.over:
		if s.err != nil {
			return fmt.Errorf("docker engine: stop %s: %w", i.id, s.err)
		}
	case <-ctx.Done():
		return fmt.Errorf("docker engine: stop %s goes on without being waited for: %w", i.id, ctx.Err())
	}
	select {
	case <-i.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("docker engine: the container of %s is still being removed: %w", i.id, ctx.Err())
	}
}

// ask has Docker stop the container, unless it was asked to already and has not
// failed: some servers take a second request as an order to abort.
func (i *instance) ask(grace time.Duration) *stopping {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s := i.stopping; s != nil {
		select {
		case <-s.over:
			if s.err == nil {
				return s
			}
		default:
			return s
		}
	}
	s := &stopping{over: make(chan struct{})}
	i.stopping = s
	go func() {
		defer close(s.over)
		ctx, cancel := context.WithTimeout(i.engine.life, grace+cleanupTimeout)
		defer cancel()
		if s.err = i.engine.daemon.stop(ctx, i.container, grace); s.err == nil {
			// Its event may be late, or lost with a connection that broke.
			s.err = i.engine.look(ctx, i)
		}
	}()
	return s
}

// wasAsked says whether somebody asked for the instance to be stopped.
func (i *instance) wasAsked() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.stopping != nil
}
