//go:build !linux

// This file owns servers on systems other than Linux, for trying things out: a
// plain child process. There is no watcher, so a server outlives a gateway that
// is killed, and what the server started is not known and not ended with it.

package process

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// plain is a server as a direct child.
type plain struct{ cmd *exec.Cmd }

// startChild starts args[0] with args as its arguments.
func startChild(ctx context.Context, _ *zap.Logger, _ string, args, env []string, output *os.File) (child, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	c := &plain{cmd: &exec.Cmd{Path: args[0], Args: args, Env: env, Stdout: output, Stderr: output}}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// terminate implements child. Windows has no such request; grace passes there.
func (c *plain) terminate() { _ = c.cmd.Process.Signal(syscall.SIGTERM) }

// kill implements child.
func (c *plain) kill() { _ = c.cmd.Process.Kill() }

// pids implements child.
func (c *plain) pids() ([]int, error) { return []int{c.cmd.Process.Pid}, nil }

// wait implements child.
func (c *plain) wait() engine.Exit {
	_ = c.cmd.Wait() // the state below says all
	state := c.cmd.ProcessState
	if code := state.ExitCode(); code >= 0 || runtime.GOOS == "windows" {
		return engine.Exit{Code: code}
	}
	return engine.Exit{Code: -1, Signal: signalName(state)}
}

// signalName is the name of the signal that ended a process.
func signalName(state *os.ProcessState) string {
	if status, ok := state.Sys().(interface{ Signal() syscall.Signal }); ok {
		return status.Signal().String()
	}
	return ""
}

// Interface guard
var _ child = (*plain)(nil)
