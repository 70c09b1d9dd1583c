// This file owns how a server is started.

package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// Start makes and starts the server's container, and returns as soon as Docker
// has run it. A start that fails leaves no container behind.
func (e *Engine) Start(ctx context.Context, l *engine.Launch) (engine.Running, error) {
	ctx, end, err := e.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("docker engine: start %s: %w", l.ID, err)
	}
	defer end()
	i, err := e.run(ctx, l)
	e.prove(l, err == nil)
	if err != nil {
		return nil, fmt.Errorf("docker engine: start %s: %w", l.ID, cmp.Or(context.Cause(ctx), err))
	}
	return i, nil
}

// run starts a server. When the network is removed in between, as another
// engine's end or a `docker network prune` does, it tries once more.
func (e *Engine) run(ctx context.Context, l *engine.Launch) (*instance, error) {
	image := cmp.Or(l.Image, e.spec.Image)
	if image == "" {
		return nil, errNoImage
	}
	imageID, err := e.imageID(ctx, image)
	if err != nil {
		return nil, err
	}
	if imageID == "" {
		return nil, fmt.Errorf("the image %s is not there any more: somebody removed it since it was pulled", image)
	}
	for again := true; ; again = false {
		networkID, err := e.network(ctx)
		if err != nil {
			return nil, err
		}
		i, err := e.launch(ctx, l, e.spec.server(l, networkID, imageID), networkID)
		if again && isMissingNetwork(err) {
			continue
		}
		return i, err
	}
}

// errNoImage is what a launch without any image meets.
var errNoImage = errors.New("no image is set: add 'image' to the engine or to the model")

// launch makes a container and runs it.
func (e *Engine) launch(ctx context.Context, l *engine.Launch, b *blueprint, networkID string) (*instance, error) {
	container, err := e.create(ctx, b)
	if err != nil {
		return nil, err
	}
	// From here on its end is heard of.
	i := newInstance(e, l, container)
	e.register(i)
	fail := func(err error) (*instance, error) {
		e.forget(i)
		i.stopLogs()
		return nil, errors.Join(err, e.discard(container, i.link))
	}
	if i.link, err = e.link(ctx, l, container); err != nil {
		return fail(err)
	}
	if err := e.daemon.start(ctx, container); err != nil {
		return fail(err)
	}
	s, err := e.daemon.inspect(ctx, container)
	if err != nil {
		return fail(err)
	}
	switch ip := s.addresses[cmp.Or(i.link, networkID)]; {
	case e.isPublished() && s.published.IsValid():
		i.address = s.published.String()
	case !e.isPublished() && ip.IsValid():
		i.address = net.JoinHostPort(ip.String(), strconv.Itoa(int(port.Num())))
	}
	i.begin()
	if !s.running { // it may have died before anybody listened for it
		i.hasEnded(s.exitCode)
	}
	e.log.Debug("server started", zap.String("instance", l.ID), zap.String("container", b.name), zap.String("address", i.address))
	return i, nil
}

// isPublished says whether servers are reached at ports of the host.
func (e *Engine) isPublished() bool { return e.spec.Publish != "" && !e.hasLinks() }

// create makes a container. When the answer does not come, nobody knows whether
// it exists; then it is looked for and removed.
func (e *Engine) create(ctx context.Context, b *blueprint) (id string, err error) {
	e.removeOwed(ctx)
	id, err = e.daemon.create(ctx, b)
	if err == nil {
		return id, nil
	}
	if ctx.Err() != nil {
		look, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		s, missing := e.daemon.inspect(look, b.name)
		if missing == nil && s.labels[labelRun] == run() && s.labels[labelInstance] == b.config.Labels[labelInstance] {
			err = errors.Join(err, e.daemon.remove(look, s.id))
		}
	}
	return "", err
}

// discard removes a container and its bridge, if it has one, whatever has become
// of the caller. What cannot be removed now is removed later, see [Engine.removeOwed].
func (e *Engine) discard(container, link string) error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	err := e.remove(ctx, container, link)
	if err != nil {
		e.mu.Lock()
		e.owed[container] = link
		e.mu.Unlock()
	}
	return err
}

// remove removes a container and its bridge, if it has one.
func (e *Engine) remove(ctx context.Context, container, link string) error {
	if err := e.daemon.remove(ctx, container); err != nil {
		return fmt.Errorf("its container could not be removed: %w", err)
	}
	if err := e.unlink(ctx, link); err != nil {
		return fmt.Errorf("its bridge could not be removed: %w", err)
	}
	return nil
}

// removeOwed tries again to remove what could not be removed: a container that
// Docker has run before it was lost holds its cards, and nobody else knows of it.
func (e *Engine) removeOwed(ctx context.Context) {
	e.mu.Lock()
	owed := maps.Clone(e.owed)
	e.mu.Unlock()
	for container, link := range owed {
		if err := e.remove(ctx, container, link); err != nil {
			continue // it stays owed
		}
		e.mu.Lock()
		delete(e.owed, container)
		e.mu.Unlock()
		e.log.Info("a container is removed that could not be removed before", zap.String("container", container))
	}
}
