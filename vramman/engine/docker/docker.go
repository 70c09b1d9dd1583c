// Package docker is the engine that runs servers as containers of Docker, which
// it talks to through the Engine API.
//
// A container bears labels that say which gateway it belongs to and what it was
// started for. What does not bear this gateway's name is never touched. Servers
// publish no port and are on a bridge where containers cannot reach one another;
// the gateway reaches them there from the host. A gateway that is a container
// itself could not: it shares with each server another bridge, which nobody else
// is on.
package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

const (
	// closeGrace is how long [Engine.Close] leaves servers to end by themselves:
	// the manager has drained and stopped what deserved more before it closes an
	// engine.
	closeGrace = 5 * time.Second
	// cleanupTimeout bounds what is done about a container whose caller has gone.
	cleanupTimeout = 30 * time.Second
)

// errClosed is what a start or a fetch on a closed engine meets.
var errClosed = errors.New("the engine is closed")

// Engine starts servers as containers. It is made by [Spec.Open].
type Engine struct {
	spec   Spec // complete
	log    *zap.Logger
	daemon *daemon
	self   *self // nil: the gateway is on a host, or on another Docker's

	closing context.Context // ends when Close begins: starts and fetches under way give up
	close   context.CancelFunc
	life    context.Context // ends when Close lets go of what runs
	letGo   context.CancelFunc

	work sync.WaitGroup // goroutines that end with life

	mu       sync.Mutex
	closed   bool
	starting sync.WaitGroup       // Add only with mu held and closed false
	running  map[string]*instance // by container; those that are not removed yet
	owed     map[string]string    // containers that could not be removed yet, with their bridges
	fetched  map[string]bool      // fetches that went well, see fetchKey
	proven   map[string]bool      // launch hashes of which a container could be made last time
	fetchers map[string]bool      // images that lack the fetch program, for saying so once
}

func newEngine(s Spec, d *daemon, me *self, log *zap.Logger) *Engine {
	e := &Engine{
		spec: s, log: log, daemon: d, self: me,
		running:  make(map[string]*instance),
		owed:     make(map[string]string),
		fetched:  make(map[string]bool),
		proven:   make(map[string]bool),
		fetchers: make(map[string]bool),
	}
	e.closing, e.close = context.WithCancel(context.Background())
	e.life, e.letGo = context.WithCancel(context.Background())
	return e
}

// Outlives says whether servers go on after [Engine.Close].
func (e *Engine) Outlives() bool { return !e.spec.StopOnExit }

// Cache is the folder of the servers' weights as the gateway sees it: what the
// configuration says, or where the gateway's own container has it mounted, or
// the folder itself on Docker's host.
func (e *Engine) Cache() string {
	switch {
	case e.spec.Cache == "":
		return ""
	case e.spec.CacheHere != "":
		return e.spec.CacheHere
	case e.self != nil:
		return e.self.here(e.spec.Cache)
	}
	if path.IsAbs(e.spec.Cache) && e.daemon.isLocal() {
		return e.spec.Cache
	}
	return ""
}

// Hub implements [engine.Cacher].
func (e *Engine) Hub(l *engine.Launch) []string { return engine.MergeEnv(e.spec.Env, l.Env) }

// Reconcile removes every container that bears this gateway's name and is not
// of this very process, and returns how many there were. Their bridges go, too.
func (e *Engine) Reconcile(ctx context.Context) (removed int, err error) {
	found, err := e.daemon.list(ctx, map[string]string{labelGateway: e.spec.Gateway})
	if err != nil {
		return 0, fmt.Errorf("docker engine: looking for what an earlier gateway left: %w", err)
	}
	found = slices.DeleteFunc(found, func(c listed) bool { return c.labels[labelRun] == run() })
	failures := make([]error, len(found))
	var wg sync.WaitGroup
	for i, c := range found {
		wg.Go(func() {
			if err := e.daemon.remove(ctx, c.id); err != nil {
				failures[i] = fmt.Errorf("docker engine: removing container %s of an earlier gateway: %w", c.name, err)
			}
		})
	}
	wg.Wait()
	for _, err := range failures {
		if err == nil {
			removed++
		}
	}
	return removed, errors.Join(errors.Join(failures...), e.unlinkLeftovers(ctx))
}

// begin lets work on a launch begin, unless the engine is closed. The context
// ends when ctx does or when the engine is closed; end is called afterwards.
func (e *Engine) begin(ctx context.Context) (_ context.Context, end func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, nil, errClosed
	}
	e.starting.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.closing, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
		e.starting.Done()
	}, nil
}

// instances are those that are not removed yet.
func (e *Engine) instances() []*instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Values(e.running))
}

func (e *Engine) byContainer(id string) *instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running[id]
}

func (e *Engine) register(i *instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[i.container] = i
}

func (e *Engine) forget(i *instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, i.container)
}

// Close lets go of the servers: they go on, and an instance that was let go of
// is never reported as ended. With [Spec.StopOnExit] they are ended and removed,
// and the network with them where nobody else is on it.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if again {
		return nil
	}
	e.close()
	e.starting.Wait()

	var failures []error
	if !e.spec.StopOnExit {
		failures = e.leaveLinks(ctx)
	} else {
		failures = e.stopAll(ctx)
		e.removeOwed(ctx)
		if err := e.leaveNetwork(ctx); err != nil {
			failures = append(failures, fmt.Errorf("docker engine: removing the network %s: %w", e.spec.Network, err))
		}
	}
	e.letGo()
	e.work.Wait()
	return errors.Join(append(failures, e.daemon.close())...)
}

// stopAll ends every server.
func (e *Engine) stopAll(ctx context.Context) []error {
	running := e.instances()
	failures := make([]error, len(running))
	var wg sync.WaitGroup
	for n, i := range running {
		wg.Go(func() { failures[n] = i.Stop(ctx, closeGrace) })
	}
	wg.Wait()
	return failures
}

// Interface guards
var (
	_ engine.Engine = (*Engine)(nil)
	_ engine.Keeper = (*Engine)(nil)
	_ engine.Cacher = (*Engine)(nil)
	_ engine.Lister = (*Engine)(nil)
)
