// This file owns the gateway's side of the watcher.

package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// watched is a server behind its watcher.
type watched struct {
	id      string
	log     *zap.Logger
	cmd     *exec.Cmd     // the watcher
	line    *os.File      // our end of the line to it; its closing kills
	reports *json.Decoder // what the watcher says on it
}

// startChild starts a watcher, which starts args[0] with args as its arguments,
// and returns when the server's program has been executed.
func startChild(ctx context.Context, log *zap.Logger, id string, args, env []string, output *os.File) (child, error) {
	// Close-on-exec from birth: a copy of our end in any other child would keep
	// the watcher from noticing our death.
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("connecting with the watcher: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "gateway")
	defer theirs.Close()
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that reads take deadlines
		unix.Close(fds[0])
		return nil, fmt.Errorf("connecting with the watcher: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "watcher")

	c := &watched{
		id:      id,
		log:     log,
		line:    ours,
		reports: json.NewDecoder(ours),
		cmd: &exec.Cmd{
			Path:       self,
			Args:       append([]string{watcherName}, args...),
			Env:        env,
			Stdout:     output,
			Stderr:     output,
			ExtraFiles: []*os.File{theirs}, // becomes watcherLine
			// A session of its own: no signal of the gateway's terminal reaches
			// the server, and its members are known by the session's number
			// should the watcher be killed.
			SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		},
	}
	if err := c.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("starting the watcher: %w", err)
	}
	theirs.Close() // ours must be the only copies of the two ends

	release := context.AfterFunc(ctx, func() { _ = ours.SetReadDeadline(time.Unix(1, 0)) })
	var first report
	err = c.reports.Decode(&first)
	if !release() {
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		err = fmt.Errorf("waiting for the server's process: %w", err)
	case first.Error != "":
		err = errors.New(first.Error)
	default:
		return c, nil
	}
	ours.Close() // kills
	c.wait()
	return nil, err
}

// terminate implements child.
func (c *watched) terminate() { c.order(orderTerminate) }

// kill implements child.
func (c *watched) kill() { c.order(orderKill) }

// order tells the watcher what to do. Signals are sent by the watcher, which
// alone can be sure that a process number still means the process it started.
// An order to a watcher that is gone is lost: everything is being killed then.
func (c *watched) order(o byte) { _, _ = c.line.Write([]byte{o}) }

// pids implements child.
func (c *watched) pids() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	return descendants(all, c.cmd.Process.Pid), nil
}

// wait implements child.
func (c *watched) wait() engine.Exit {
	var exit *engine.Exit
	for exit == nil {
		var r report
		if c.reports.Decode(&r) != nil {
			break
		}
		exit = r.Exit
	}
	// The watcher is looked at before it is reaped: until then its number, and
	// with it its session's, cannot be given to anyone else.
	for errors.Is(unix.Waitid(unix.P_PID, c.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	if exit == nil {
		// The watcher was killed. The kernel has killed the server with it;
		// what the server had started is ours to end.
		exit = &engine.Exit{Code: -1, Signal: unix.SIGKILL.String()}
		if err := endSession(c.cmd.Process.Pid); err != nil {
			c.log.Warn("processes of a server may be left: its watcher was killed", zap.String("instance", c.id), zap.Error(err))
		}
	}
	_ = c.cmd.Wait() // reaps; how the watcher ended tells nothing more
	c.line.Close()
	return *exit
}

// Interface guard
var _ child = (*watched)(nil)
