// This file owns what Docker says that runs, whatever events told.

package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mine are the labels of the servers that this process has started.
func (e *Engine) mine() map[string]string {
	return map[string]string{labelGateway: e.spec.Gateway, labelRun: run(), labelRole: roleServer}
}

// List implements [engine.Lister]. A paused container counts as running: it holds
// its cards. One that is only made, or has ended, does not.
func (e *Engine) List(ctx context.Context) ([]string, error) {
	found, err := e.daemon.list(ctx, e.mine())
	if err != nil {
		return nil, fmt.Errorf("docker engine: looking for what runs: %w", err)
	}
	names := []string{}
	for _, c := range found {
		if c.alive {
			names = append(names, c.labels[labelInstance])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Discard implements [engine.Lister]. What this engine knows itself is stopped as
// any other instance is; the rest is killed. One that is gone is no error.
func (e *Engine) Discard(ctx context.Context, id string) error {
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return fmt.Errorf("docker engine: discarding %s: %w", id, err)
	}
	defer end()
	labels := e.mine()
	labels[labelInstance] = id
	found, err := e.daemon.list(ctx, labels)
	if err != nil {
		return fmt.Errorf("docker engine: discarding %s: %w", id, err)
	}
	var failures []error
	for _, c := range found {
		if i := e.byContainer(c.id); i != nil {
			failures = append(failures, i.Stop(ctx, closeGrace))
			continue
		}
		if err := e.discardUnknown(ctx, c); err != nil {
			failures = append(failures, fmt.Errorf("docker engine: discarding %s: %w", id, err))
		}
	}
	return errors.Join(failures...)
}

// discardUnknown removes a container that this engine has no instance of, and
// the bridge that was made for it.
func (e *Engine) discardUnknown(ctx context.Context, c listed) error {
	links, err := e.daemon.links(ctx, e.spec.Gateway)
	if err != nil {
		return err
	}
	link := ""
	for _, n := range links {
		if n.labels[labelRun] == run() && strings.HasSuffix(n.name, "-"+c.id[:shortID]) {
			link = n.id
		}
	}
	return e.remove(ctx, c.id, link)
}
