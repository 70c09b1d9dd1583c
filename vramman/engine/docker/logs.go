// This file owns how a server's output gets from Docker to the gateway.

package docker

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine/lines"
)

// logRetry is how long after its end the output of a server that has not ended
// is asked for again.
const logRetry = time.Second

// initFailed begins the line of a container's init process that could not run
// the image's program.
const initFailed = "[FATAL tini"

// follow hands on the server's lines until it has ended. When Docker breaks off,
// it goes on with what is printed afterwards.
func (i *instance) follow() {
	defer close(i.logged)
	said := false
	output := func(line string) {
		i.output(line)
		if strings.HasPrefix(line, initFailed) {
			i.output("the image lacks the program that it is to run, or it is made for another processor: " +
				"check that the image is one of the server")
		}
	}
	var since time.Time
	for {
		err := copyLines(i.logs, i.engine.daemon, i.container, &since, output, nil)
		if i.logs.Err() != nil {
			return
		}
		// A stream that breaks off, or a Docker that is away, is no refusal.
		if refused, ok := errors.AsType[*refusal](err); ok && !said {
			i.engine.log.Warn("the output of a server cannot be read: Docker's logging driver may not allow it",
				zap.String("instance", i.id), zap.Error(refused))
			said = true
		}
		select {
		case <-i.alive.Done():
			if err == nil || said {
				return
			}
			said = true // whatever is left after a break is asked for once
		case <-time.After(logRetry):
		case <-i.logs.Done():
			return
		}
	}
}

// copyLines hands on the lines of a container from since on, until it ends, and
// leaves in since from when on to go on. state is called with the states of
// progress bars; it may be nil.
func copyLines(ctx context.Context, d *daemon, container string, since *time.Time, line, state func(string)) error {
	r, err := d.logs(ctx, container, *since)
	if err != nil {
		return refused(err)
	}
	defer r.Close()
	// The two streams are told apart so that a piece of one does not get into a
	// line of the other.
	out := &lines.Splitter{Line: line, State: state}
	errs := &lines.Splitter{Line: line, State: state}
	_, err = stdcopy.StdCopy(out, errs, &clocked{r, since})
	out.Flush()
	errs.Flush()
	return err
}

// clocked notes when it was last read from.
type clocked struct {
	io.Reader
	last *time.Time
}

func (c *clocked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 {
		*c.last = time.Now()
	}
	return n, err
}
