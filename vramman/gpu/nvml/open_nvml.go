//go:build cgo && linux && nvml

package nvml

import (
	"cmp"
	"context"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/driver"
)

// standardLibrary is the name under which the driver installs its library.
const standardLibrary = "libnvidia-ml.so.1"

// calls orders all calls of this process into the library: there is one library,
// whatever the number of inventories, and its state is the process's.
var calls = driver.NewCalls()

// Open implements gpu.Spec. It asks the driver nothing: whether there is one shows
// at each reading.
func (s *Spec) Open(_ context.Context, log *zap.Logger) (gpu.Inventory, error) {
	return newInventory(&shared{path: cmp.Or(s.Library, standardLibrary)}, calls, log), nil
}

// Interface guards
var _ gpu.Spec = (*Spec)(nil)
