// This file owns the rehearsal of a start, by which most of what Docker refuses is
// refused before anybody makes room for it.

package docker

import (
	"cmp"
	"context"
	"fmt"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// rehearse makes the container of a launch's server, without cards, and removes it
// again: a folder that is missing, a name that is taken or an option that this
// Docker does not know must not cost another model its place. A launch whose last
// start went well is not rehearsed. What Docker finds only when it runs a container,
// such as a runtime that is missing, is not found here.
func (e *Engine) rehearse(ctx context.Context, l *engine.Launch) error {
	e.mu.Lock()
	proven := e.proven[l.Hash]
	e.mu.Unlock()
	if proven {
		return nil
	}
	imageID, err := e.imageID(ctx, cmp.Or(l.Image, e.spec.Image))
	if err != nil {
		return err
	}
	networkID, err := e.network(ctx)
	if err != nil {
		return err
	}
	// Which cards it will have, and so its arguments, nobody knows yet. Some are
	// needed where the image has none.
	bare := *l
	bare.GPUs, bare.Args = nil, func(engine.Listen) []string { return []string{"--help"} }
	container, err := e.create(ctx, e.spec.server(&bare, networkID, imageID))
	if err != nil {
		return fmt.Errorf("the server's container cannot be made: %w", err)
	}
	if err := e.discard(container, ""); err != nil {
		return fmt.Errorf("the server's container was tried, and %w", err)
	}
	e.prove(l, true)
	return nil
}

// prove notes whether the last container of a launch could be made.
func (e *Engine) prove(l *engine.Launch, well bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if well {
		e.proven[l.Hash] = true
	} else {
		delete(e.proven, l.Hash)
	}
}
