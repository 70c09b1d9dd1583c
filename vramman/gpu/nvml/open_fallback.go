//go:build !(cgo && linux && nvml)

package nvml

import (
	"context"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu/nvidiasmi"
)

// Open implements gpu.Spec: this build cannot call the library, and the command
// that comes with it tells nearly the same.
func (s *Spec) Open(ctx context.Context, log *zap.Logger) (gpu.Inventory, error) {
	log.Warn("this program was built without NVML: it asks the command nvidia-smi instead, which is slower and tells nothing " +
		"of MIG slices; build with CGO_ENABLED=1 and -tags nvml on Linux, or configure 'gpus nvidia_smi'")
	return new(nvidiasmi.Spec).Open(ctx, log)
}

// Interface guards
var _ gpu.Spec = (*Spec)(nil)
