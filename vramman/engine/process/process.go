// Package process is the engine that runs servers as programs on this host.
//
// Each server gets a random loopback port, an environment of its own and a
// watcher: a small process between the gateway and the server that ends the
// server and everything the server started as soon as the gateway is gone,
// whatever ended it (see watcher_linux.go). So nothing outlives the gateway,
// and there is never anything to adopt.
//
// Weights are not fetched ahead: the server downloads them itself while it
// starts, so a start timeout has to leave room for that.
package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// closeGrace is how long [Engine.Close] leaves servers to end by themselves:
// the manager has drained and stopped what deserved more before it closes an
// engine.
const closeGrace = 5 * time.Second

// errClosed is what a start on a closed engine meets.
var errClosed = errors.New("the engine is closed")

// Engine starts servers as child processes. It is made by [Spec.Open].
type Engine struct {
	spec Spec
	log  *zap.Logger

	closing context.Context // ends when Close begins: starts under way give up
	close   context.CancelFunc

	mu       sync.Mutex
	closed   bool
	starting sync.WaitGroup // Add only with mu held and closed false
	running  map[*instance]struct{}
}

// Reconcile has nothing to do: no server outlives the gateway that started it.
func (*Engine) Reconcile(context.Context) (removed int, err error) { return 0, nil }

// Fetch checks that the command is there, so that a missing program is known
// before anything is evicted for it.
func (e *Engine) Fetch(_ context.Context, l *engine.Launch) error {
	_, err := find(e.spec.Command[0], e.environ(l))
	return err
}

// Start runs the command with the launch's arguments on a free loopback port
// and returns once the program has been executed. The instance's working
// folder is the gateway's.
func (e *Engine) Start(ctx context.Context, l *engine.Launch) (engine.Running, error) {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, fmt.Errorf("process engine: start %s: %w", l.ID, errClosed)
	}
	e.starting.Add(1)
	e.mu.Unlock()
	defer e.starting.Done()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(e.closing, func() { cancel(errClosed) })()

	env := e.environ(l)
	path, err := find(e.spec.Command[0], env)
	if err != nil {
		return nil, err
	}
	r, err := start(ctx, e.log, l, path, e.spec.Command[1:], env)
	if err != nil {
		return nil, fmt.Errorf("process engine: start %s: %w", l.ID, err)
	}

	e.mu.Lock()
	e.running[r] = struct{}{}
	e.mu.Unlock()
	go func() {
		r.await()
		e.mu.Lock()
		delete(e.running, r)
		e.mu.Unlock()
		close(r.done)
	}()
	return r, nil
}

// List implements [engine.Lister]: what has not ended yet, by the processes
// themselves.
func (e *Engine) List(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := make([]string, 0, len(e.running))
	for r := range e.running {
		ids = append(ids, r.id)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Discard implements [engine.Lister]: it ends an instance as [Engine.Close] does.
// One that has ended is no error.
func (e *Engine) Discard(ctx context.Context, id string) error {
	e.mu.Lock()
	var known []*instance
	for r := range e.running {
		if r.id == id {
			known = append(known, r)
		}
	}
	e.mu.Unlock()
	var failures []error
	for _, r := range known {
		failures = append(failures, r.Stop(ctx, closeGrace))
	}
	return errors.Join(failures...)
}

// Close ends every server still running: it asks, kills after five seconds or
// as soon as ctx ends, and waits until they are gone. Only when ctx ends does
// it return earlier, with an error; the kill has been sent by then.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.close()
	e.starting.Wait()

	e.mu.Lock()
	running := slices.Collect(maps.Keys(e.running))
	e.mu.Unlock()
	failures := make([]error, len(running))
	var wg sync.WaitGroup
	for i, r := range running {
		wg.Go(func() {
			if failures[i] = r.Stop(ctx, closeGrace); failures[i] != nil {
				r.child.kill()
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

// Cache is where servers keep what they download from the Hugging Face hub
// (huggingface_hub, "Environment variables": HF_HOME).
func (e *Engine) Cache() string {
	env := e.environ(&engine.Launch{})
	if home := value(env, "HF_HOME"); home != "" {
		return home
	}
	if cache := value(env, "XDG_CACHE_HOME"); cache != "" {
		return filepath.Join(cache, "huggingface")
	}
	if home := value(env, "HOME"); home != "" {
		return filepath.Join(home, ".cache", "huggingface")
	}
	return ""
}

// Hub implements [engine.Cacher]. A stand-in loads no weights and asks no hub.
func (e *Engine) Hub(l *engine.Launch) []string {
	if e.spec.Simulated {
		return nil
	}
	return e.environ(l)
}

// environ is the whole environment of the launch's server.
func (e *Engine) environ(l *engine.Launch) []string {
	return engine.MergeEnv(inherited(os.Environ()), e.spec.Env, visible(l.GPUs), l.Env)
}

// Interface guards
var (
	_ engine.Engine = (*Engine)(nil)
	_ engine.Cacher = (*Engine)(nil)
	_ engine.Lister = (*Engine)(nil)
)
