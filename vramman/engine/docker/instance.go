// This file owns one running server, as the manager sees it.

package docker

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

const (
	// strayOutput is how long the last lines of a server that has ended are
	// waited for.
	strayOutput = 2 * time.Second
	// oomPatience is how long Docker is waited for to say that a killed server
	// had run out of memory: it may say so after it has told of the death.
	oomPatience = 100 * time.Millisecond
)

// killed is the exit status of what SIGKILL has ended.
const killed = 128 + int(syscall.SIGKILL)

// unknownStatus is the exit status of a container that somebody removed.
const unknownStatus = -1

// instance is one server that the engine started.
type instance struct {
	engine    *Engine
	id        string
	container string
	link      string // the bridge that the gateway's container shares with it; empty on a host
	address   string // host and port; empty if it ended before it had one
	output    func(string)
	logs      context.Context // ends when its output is read no more
	stopLogs  context.CancelFunc

	alive  context.Context // ends when Docker says that it has ended
	die    context.CancelFunc
	up     atomic.Bool   // Docker has run it: from now on, that it does not run means that it has ended
	oom    chan struct{} // closed when Docker says that it ran out of memory
	logged chan struct{} // closed when its last line has been handed on
	done   chan struct{} // closed after both
	gone   chan struct{} // closed when its container is removed, or will be later

	endOnce, oomOnce sync.Once
	status           int         // valid once alive has ended
	exit             engine.Exit // valid once done is closed

	mu       sync.Mutex
	stopping *stopping // the stop under way, or the last one
}

func newInstance(e *Engine, l *engine.Launch, container string) *instance {
	i := &instance{
		engine: e, id: l.ID, container: container, output: l.Output,
		oom: make(chan struct{}), logged: make(chan struct{}),
		done: make(chan struct{}), gone: make(chan struct{}),
	}
	if i.output == nil {
		i.output = func(string) {}
	}
	i.alive, i.die = context.WithCancel(context.Background())
	i.logs, i.stopLogs = context.WithCancel(e.life)
	return i
}

// begin starts what goes on as long as the instance runs.
func (i *instance) begin() {
	i.up.Store(true)
	i.engine.work.Go(i.follow)
	i.engine.work.Go(func() {
		defer i.stopLogs()
		select {
		case <-i.alive.Done():
			i.bury()
		case <-i.engine.life.Done():
		}
	})
}

// hasEnded is told that the container has ended. Only the first time counts.
func (i *instance) hasEnded(status int) {
	i.endOnce.Do(func() {
		i.status = status
		i.die()
	})
}

// ranOut is told that the container ran out of memory.
func (i *instance) ranOut() { i.oomOnce.Do(func() { close(i.oom) }) }

// bury reads what is to be known of an instance that has ended, tells of its
// end, and removes its container.
func (i *instance) bury() {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	i.exit = i.readExit(ctx)
	select {
	case <-i.logged:
	case <-time.After(strayOutput):
		i.stopLogs()
		<-i.logged
	}
	close(i.done)

	log := i.engine.log.With(zap.String("instance", i.id))
	log.Debug("server ended", zap.Int("code", i.exit.Code), zap.String("signal", i.exit.Signal), zap.Bool("oom", i.exit.OOM))
	if err := i.engine.discard(i.container, i.link); err != nil {
		log.Warn("a server has ended, but not all of it is removed yet", zap.String("container", i.container), zap.Error(err))
	}
	i.engine.forget(i)
	close(i.gone)
}

// readExit says how the container has ended.
func (i *instance) readExit(ctx context.Context) engine.Exit {
	status, oom := i.status, false
	// A container that was removed meanwhile tells nothing more.
	if s, err := i.engine.daemon.inspect(ctx, i.container); err == nil && !s.running {
		status, oom = s.exitCode, s.oom
	}
	if !oom && status == killed && !i.wasAsked() {
		select {
		case <-i.oom:
		case <-time.After(oomPatience):
		}
	}
	select {
	case <-i.oom:
		oom = true
	default:
	}
	return exitOf(status, oom)
}

// exitOf reads an exit status as Docker gives it: for a program that a signal
// has ended, it is the signal's number and 128.
func exitOf(status int, oom bool) engine.Exit {
	if status == unknownStatus {
		return engine.Exit{Code: -1, Signal: "removed", OOM: oom}
	}
	if signal := status - 128; signal > 0 && signal < 32 {
		return engine.Exit{Code: -1, Signal: syscall.Signal(signal).String(), OOM: oom}
	}
	return engine.Exit{Code: status, OOM: oom}
}

// Dial connects to the server. Once the instance has ended it is refused at
// once: its address may be somebody else's by then.
func (i *instance) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What has ended while it was dialled would leave the caller to wait.
	defer context.AfterFunc(i.alive, cancel)()
	if i.alive.Err() == nil && i.address != "" {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", i.address)
		if err == nil || i.alive.Err() == nil {
			return c, err
		}
	}
	return nil, fmt.Errorf("dial %s: the instance has ended: %w", i.id, syscall.ECONNREFUSED)
}

// PIDs are the process numbers on Docker's host.
func (i *instance) PIDs(ctx context.Context) ([]int, error) {
	if i.alive.Err() != nil {
		return nil, nil
	}
	pids, err := i.engine.daemon.pids(ctx, i.container)
	if err != nil {
		return nil, fmt.Errorf("docker engine: the processes of %s: %w", i.id, err)
	}
	return pids, nil
}

// Done is closed when the container has ended and its last line has been handed
// on.
func (i *instance) Done() <-chan struct{} { return i.done }

// Exit says how the server ended.
func (i *instance) Exit() engine.Exit { return i.exit }

// Interface guard
var _ engine.Running = (*instance)(nil)
