package nvidiasmi

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// This file owns the running of the command.

// errNoCommand is a command that cannot be run at all.
var errNoCommand = errors.New("the command cannot be run")

const (
	// mostOutput is how much a command may print, in bytes. For a machine with
	// hundreds of processes it is some 50 KB.
	mostOutput = 1 << 20
	// killDelay is how long a killed command's output is waited for: its own
	// children may hold it open.
	killDelay = time.Second
)

// run runs the command until it ends or ctx does, and returns what it printed. If
// the command says that it failed, that is the error, and the output is returned,
// too.
func run(ctx context.Context, command string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.WaitDelay = killDelay
	out, problem := &capped{most: mostOutput}, &capped{most: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, problem
	err := cmd.Run()
	exit, isExit := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%s did not end in time and was killed: %w", command, context.Cause(ctx))
	case out.over:
		return "", fmt.Errorf("%s printed more than %d bytes: is it NVIDIA's?", command, mostOutput)
	case isExit:
		return out.String(), fmt.Errorf("%s failed with status %d and printed %s", command, exit.ExitCode(), words(problem.String(), out.String()))
	case errors.Is(err, exec.ErrWaitDelay):
		return "", fmt.Errorf("%s ended, but something that it started goes on: is it NVIDIA's?", command)
	case err != nil:
		return "", fmt.Errorf("%w: %w: install NVIDIA's driver, which brings nvidia-smi; NVIDIA's container toolkit passes it into "+
			"containers (NVIDIA_DRIVER_CAPABILITIES must include 'utility'); where it is elsewhere, set "+
			"'gpus nvidia_smi { command <path> }'; without a driver, set 'gpus static'", errNoCommand, err)
	}
	return out.String(), nil
}

// words are the first that a command printed, of one text or else the other, in
// quotes.
func words(texts ...string) string {
	const most = 300
	for _, text := range texts {
		line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(line) > most {
			line = line[:most]
		}
		return strconv.Quote(line)
	}
	return "nothing"
}

// capped keeps the first bytes that are written to it, so many at most.
type capped struct {
	kept []byte
	most int
	over bool
}

// Write implements io.Writer. It takes everything, so that the writer is not
// killed by a broken pipe.
func (c *capped) Write(p []byte) (int, error) {
	keep := p[:min(len(p), c.most-len(c.kept))]
	c.kept = append(c.kept, keep...)
	c.over = c.over || len(keep) < len(p)
	return len(p), nil
}

// String is what was kept.
func (c *capped) String() string { return string(c.kept) }
