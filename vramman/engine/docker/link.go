// This file owns the bridges that a gateway in a container shares with its
// servers, one with each: on the servers' own network it could not reach them,
// nor can they reach one another.
//
// Such a bridge leads nowhere else ("internal"). So the server still reaches the
// world by the network it is on, and the gateway's container keeps its way out:
// of several networks that lead out Docker takes the first by name.

package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// hasLinks says whether the gateway shares a bridge with each server.
func (e *Engine) hasLinks() bool { return e.self != nil && e.self.network != "" }

// sayWhere tells what follows from where the gateway runs.
func (e *Engine) sayWhere() {
	if e.self == nil {
		return
	}
	e.log.Info("the gateway runs in a container of this Docker", zap.String("container", e.self.id), zap.Bool("own_network", e.hasLinks()))
	if !e.self.hostPID {
		e.log.Warn("the gateway's container has process numbers of its own, so what servers use of their cards may count as other programs' use: run it with 'pid: host'")
	}
	if e.hasLinks() && e.spec.Publish != "" {
		e.log.Warn("the gateway's container cannot reach the ports that 'publish' opens on the host, and reaches servers on bridges of their own")
	}
}

// link makes the bridge between a server that is about to start and the gateway,
// and puts both on it. On a host it does nothing. A link that fails leaves no
// bridge behind. The request to make it is not cut off, lest it were made and
// nobody knew.
func (e *Engine) link(ctx context.Context, l *engine.Launch, container string) (id string, err error) {
	if !e.hasLinks() {
		return "", nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	// The container's ID keeps it apart from one that could not be removed.
	name := containerName(l, roleLink) + "-" + container[:shortID]
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if id, err = e.daemon.createLink(whole, name, linkLabels(l)); err != nil {
		return "", fmt.Errorf("the bridge %s: %w", name, err)
	}
	for _, c := range []string{container, e.self.network} {
		if err := e.daemon.connect(whole, id, c); err != nil {
			return "", errors.Join(fmt.Errorf("the bridge %s: %w", name, err), e.unlink(whole, id))
		}
	}
	return id, nil
}

// linkLabels are those of a launch's bridge.
func linkLabels(l *engine.Launch) map[string]string {
	all := labels(l, roleLink)
	all[labelNetwork] = format
	return all
}

// unlink takes the gateway off a bridge and removes it, unless somebody else is
// on it. What is gone already is no error, nor is an empty name.
func (e *Engine) unlink(ctx context.Context, id string) error {
	if id == "" {
		return nil
	}
	if err := e.leave(ctx, id); err != nil {
		return err
	}
	return e.daemon.removeBridge(ctx, id)
}

// leave takes the gateway off a bridge.
func (e *Engine) leave(ctx context.Context, id string) error {
	if !e.hasLinks() {
		return nil
	}
	return e.daemon.disconnect(ctx, id, e.self.network)
}

// leaveLinks takes the gateway off the bridges of servers that go on without it:
// Docker would refuse to start its container again once one of them were gone.
func (e *Engine) leaveLinks(ctx context.Context) []error {
	running := e.instances()
	failures := make([]error, len(running))
	var wg sync.WaitGroup
	for n, i := range running {
		if i.link != "" {
			wg.Go(func() { failures[n] = e.leave(ctx, i.link) })
		}
	}
	wg.Wait()
	return failures
}

// unlinkLeftovers removes the bridges of this gateway's earlier processes.
func (e *Engine) unlinkLeftovers(ctx context.Context) error {
	found, err := e.daemon.links(ctx, e.spec.Gateway)
	if err != nil {
		return fmt.Errorf("docker engine: looking for bridges that an earlier gateway left: %w", err)
	}
	var failures []error
	for _, n := range found {
		if n.labels[labelRun] == run() {
			continue
		}
		if err := e.unlink(ctx, n.id); err != nil {
			failures = append(failures, fmt.Errorf("docker engine: removing bridge %s of an earlier gateway: %w", n.name, err))
		}
	}
	return errors.Join(failures...)
}

// createLink makes a bridge for one server and the gateway.
func (d *daemon) createLink(ctx context.Context, name string, labels map[string]string) (id string, err error) {
	r, err := d.api.NetworkCreate(ctx, name, client.NetworkCreateOptions{Driver: "bridge", Internal: true, Labels: labels})
	return r.ID, explain(err)
}

// links are the bridges between a gateway and its servers.
func (d *daemon) links(ctx context.Context, gateway string) ([]listed, error) {
	r, err := d.api.NetworkList(ctx, client.NetworkListOptions{
		Filters: labelled(map[string]string{labelGateway: gateway, labelRole: roleLink}),
	})
	if err != nil {
		return nil, explain(err)
	}
	var found []listed
	for _, n := range r.Items {
		found = append(found, listed{id: n.ID, name: n.Name, labels: n.Labels})
	}
	return found, nil
}

// connect puts a container onto a network.
func (d *daemon) connect(ctx context.Context, network, container string) error {
	_, err := d.api.NetworkConnect(ctx, network, client.NetworkConnectOptions{Container: container})
	return explain(err)
}

// disconnect takes a container off a network. If it is not on it, or either is
// gone, there is nothing to do.
func (d *daemon) disconnect(ctx context.Context, network, container string) error {
	_, err := d.api.NetworkDisconnect(ctx, network, client.NetworkDisconnectOptions{Container: container, Force: true})
	if err == nil || isMissing(err) || errdefs.IsConflict(err) || strings.Contains(err.Error(), "is not connected to") {
		return nil
	}
	return explain(err)
}
