// This file owns the bridge that servers are put on.

package docker

import (
	"context"
	"fmt"
	"sync"
)

// making is held while a network is looked for and made: Docker before version
// 25 would let two engines of this process make two of one name.
var making sync.Mutex

// network returns the ID of the engine's network, and makes it if it is missing:
// when the engine is opened, and again before each start, since an unused
// network is what `docker network prune` removes.
func (e *Engine) network(ctx context.Context) (id string, err error) {
	making.Lock()
	defer making.Unlock()
	name := e.spec.Network
	found, err := e.daemon.bridges(ctx, name)
	if err == nil && len(found) == 0 {
		if err = e.daemon.createBridge(ctx, name); err == nil {
			found, err = e.daemon.bridges(ctx, name)
		}
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("the network %s: %w", name, err)
	case len(found) == 0:
		return "", fmt.Errorf("the network %s was removed as soon as it was made: try again", name)
	}
	// The oldest, on which everybody agrees, should there be several.
	n := found[0]
	switch {
	case n.driver != "bridge":
		return "", fmt.Errorf("the network %s is no bridge but of the driver %s: remove it (docker network rm %s), or name another one with 'network'", name, n.driver, name)
	case n.open:
		return "", fmt.Errorf("on the network %s containers can reach one another, so the gateway does not use it: "+
			"remove it (docker network rm %s) and the gateway makes it anew without that, or name another one with 'network'", name, name)
	}
	return n.id, nil
}

// leaveNetwork removes the network if a gateway made it and nobody is on it.
func (e *Engine) leaveNetwork(ctx context.Context) error {
	making.Lock()
	defer making.Unlock()
	found, err := e.daemon.bridges(ctx, e.spec.Network)
	if err != nil {
		return err
	}
	for _, n := range found {
		if n.ours {
			if err := e.daemon.removeBridge(ctx, n.id); err != nil {
				return err
			}
		}
	}
	return nil
}
