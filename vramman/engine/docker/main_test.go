// This file owns the roles of the test program.

package docker

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
)

// roleVar makes this program open an engine and print why that fails.
const roleVar = "DOCKER_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "opener" {
		_, err := Spec{Gateway: "opener"}.Open(context.Background(), zap.NewNop())
		fmt.Println(err)
		return
	}
	os.Exit(dockertest.Run(m))
}
