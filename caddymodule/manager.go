// This file owns the process's one manager, and when it ends.

package caddymodule

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// exitTimeout bounds how long the exit of the process waits for servers to end.
// It is less than the 90 s after which systemd kills by default.
const exitTimeout = 50 * time.Second

// managerKey is the only key in the pool: two managers would both believe that
// they own the cards.
const managerKey = "vramman"

// managers counts the configurations that refer to the manager.
var managers = caddy.NewUsagePool()

// theManager is the manager itself. It outlives the pool's entry: a configuration
// without models, or a gap between two, does not end it.
var theManager = sync.OnceValue(vramman.New)

// pooledManager is the manager as the pool holds it.
type pooledManager struct{ *vramman.Manager }

// Destruct implements caddy.Destructor. The last configuration is gone, but only
// the exit of the process ends the manager.
func (m pooledManager) Destruct() error {
	if !caddy.Exiting() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), exitTimeout)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		return fmt.Errorf("stopping the model servers: %w", err)
	}
	return nil
}

// holdManager returns the manager and counts one more who refers to it.
func holdManager() (*vramman.Manager, error) {
	m, _, err := managers.LoadOrNew(managerKey, func() (caddy.Destructor, error) {
		return pooledManager{theManager()}, nil
	})
	if err != nil {
		return nil, fmt.Errorf("getting the VRAM manager: %w", err)
	}
	return m.(pooledManager).Manager, nil
}

// releaseManager gives a reference back.
func releaseManager() error {
	_, err := managers.Delete(managerKey)
	return err
}

// Interface guards
var _ caddy.Destructor = pooledManager{}
