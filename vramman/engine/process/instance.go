// This file owns one running server, as the manager sees it.

package process

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/engine/lines"
)

// strayOutput is how long output is waited for once all known processes of an
// instance are gone. Whoever still holds the pipe then is nobody of ours.
const strayOutput = time.Second

// child is a server's process with all that it started. Its methods other than
// wait may be called at any time, by several goroutines at once.
type child interface {
	// terminate asks the server, and only the server, to end.
	terminate()
	// kill ends the server and everything that it started.
	kill()
	// pids are the live processes of it.
	pids() ([]int, error)
	// wait returns when everything of it is gone. It is called once.
	wait() engine.Exit
}

// instance is one server that the engine started.
type instance struct {
	id     string
	port   int
	child  child
	log    *zap.Logger
	output *os.File      // the read end of what the server prints
	read   chan struct{} // closed when output has been read to its end

	asked sync.Once // the server is asked to end once: some take a second request as an order to abort
	exit  engine.Exit
	done  chan struct{}
}

// start runs a server on a port of its own and begins to read its output.
// Whoever calls it calls await, and closes done afterwards.
func start(ctx context.Context, log *zap.Logger, l *engine.Launch, path string, lead, env []string) (*instance, error) {
	port, err := ports.take(ctx)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		ports.give(port)
		return nil, err
	}
	args := slices.Concat([]string{path}, lead, l.Args(engine.Listen{Host: loopback, Port: port}))
	c, err := startChild(ctx, log, l.ID, args, env, w)
	w.Close() // the processes hold their own copies, and their end must be the end
	if err != nil {
		r.Close()
		ports.give(port)
		return nil, err
	}
	i := &instance{
		id: l.ID, port: port, child: c, log: log,
		output: r, read: make(chan struct{}), done: make(chan struct{}),
	}
	go func() {
		defer close(i.read)
		lines.Read(r, l.Output)
	}()
	log.Debug("server started", zap.String("instance", l.ID), zap.Int("port", port))
	return i, nil
}

// await returns when the instance has ended and its last line has been handed
// on, and gives back what it held.
func (i *instance) await() {
	i.exit = i.child.wait()
	_ = i.output.SetReadDeadline(time.Now().Add(strayOutput))
	<-i.read
	i.output.Close()
	ports.give(i.port)
	i.log.Debug("server ended", zap.String("instance", i.id),
		zap.Int("code", i.exit.Code), zap.String("signal", i.exit.Signal), zap.Bool("oom", i.exit.OOM))
}

// Dial connects to the server. Once the instance has ended it fails without
// trying, since the port may be somebody else's by then.
func (i *instance) Dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-i.done:
		return nil, fmt.Errorf("dial %s: the instance has ended: %w", i.id, syscall.ECONNREFUSED)
	default:
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp4", net.JoinHostPort(loopback, strconv.Itoa(i.port)))
}

// PIDs are the process numbers as this process sees them, which is as the host
// does unless the gateway itself is in a container.
func (i *instance) PIDs(context.Context) ([]int, error) {
	select {
	case <-i.done:
		return nil, nil
	default:
		return i.child.pids()
	}
}

// Stop asks the server itself to end, which ends its own workers; after grace
// everything it started is killed. When ctx ends first, Stop returns its error
// and the stop goes on. Of several callers the shortest grace counts.
func (i *instance) Stop(ctx context.Context, grace time.Duration) error {
	select {
	case <-i.done:
		return nil
	default:
	}
	i.asked.Do(i.child.terminate)
	timer := time.AfterFunc(grace, i.child.kill)
	select {
	case <-i.done:
		timer.Stop()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("process engine: stop %s goes on without being waited for: %w", i.id, ctx.Err())
	}
}

// Done is closed when every process of the instance has ended.
func (i *instance) Done() <-chan struct{} { return i.done }

// Exit says how the server's main process ended.
func (i *instance) Exit() engine.Exit { return i.exit }

// Interface guard
var _ engine.Running = (*instance)(nil)
