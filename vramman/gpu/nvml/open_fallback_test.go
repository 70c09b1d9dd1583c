//go:build !(cgo && linux && nvml)

package nvml

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestWithoutCgoTheCommandIsAsked(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	core, logs := observer.New(zap.InfoLevel)
	inv, err := new(Spec).Open(t.Context(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := inv.Read(t.Context()); err == nil || !strings.Contains(err.Error(), "nvidia-smi") {
			t.Errorf("read: %v", err)
		}
	}
	if logs.FilterMessageSnippet("built without NVML").Len() != 1 || logs.Len() != 1 {
		t.Errorf("logged %v", logs.All())
	}
	if err := inv.Close(); err != nil {
		t.Error(err)
	}
}
