// This file owns how the engine learns of the end of containers: from Docker's
// events, and by looking again after a gap in them. It never polls.

package docker

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
)

// How long the engine waits before it tries again to hear from Docker, at first
// and at most.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// watch listens to Docker's events until ctx ends. Whenever the connection
// breaks, it is made again from the last event on, and all instances are looked
// at: those that ended in between, some with Docker itself, ended unheard.
func (e *Engine) watch(ctx context.Context) {
	since := time.Now()
	retry, lost := firstRetry, false
	for {
		look := func() error { return e.lookAtAll(ctx) }
		connected := func() {
			if lost {
				e.log.Info("Docker answers again")
			}
			retry, lost = firstRetry, false
		}
		err := e.daemon.events(ctx, e.spec.Gateway, since, look, connected, func(happened event) {
			since = happened.at
			e.heard(happened)
		})
		if ctx.Err() != nil {
			return
		}
		if !lost {
			e.sayLost(err)
		}
		lost = true
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
		retry = min(2*retry, lastRetry)
	}
}

// sayLost tells why nothing is heard of Docker, and what follows from that.
func (e *Engine) sayLost(err error) {
	if _, ok := errors.AsType[*refusal](err); ok {
		e.log.Warn("Docker does not tell of its events, so the end of a server is noticed late: "+
			"if there is a proxy in front of Docker, have it let GET /events through", zap.Error(err))
		return
	}
	e.log.Warn("the connection to Docker is lost: servers go on, but none can be started or stopped until it answers again", zap.Error(err))
}

// heard is told of an event. Death and running out of memory come in any order.
func (e *Engine) heard(happened event) {
	i := e.byContainer(happened.container)
	switch {
	case i == nil: // not a server's, or not of this process
	case happened.oom:
		i.ranOut()
	default:
		i.hasEnded(happened.exitCode)
	}
}

// lookAtAll looks at every instance, removes what could not be removed before,
// and returns an error if Docker does not
// answer.
func (e *Engine) lookAtAll(ctx context.Context) error {
	if err := e.daemon.ping(ctx); err != nil {
		return err
	}
	e.removeOwed(ctx)
	for _, i := range e.instances() {
		if err := e.look(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// look asks Docker whether an instance still runs.
func (e *Engine) look(ctx context.Context, i *instance) error {
	s, err := e.daemon.inspect(ctx, i.container)
	switch {
	case isMissing(err):
		i.hasEnded(unknownStatus)
	case err != nil:
		return err
	case !s.running && i.up.Load():
		i.hasEnded(s.exitCode)
	}
	return nil
}
