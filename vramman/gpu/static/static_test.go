package static

import (
	"reflect"
	"testing"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

func TestInventory(t *testing.T) {
	spec := &Spec{Cards: []Card{{UUID: "GPU-b", Name: "NVIDIA L4", Total: 24 << 30}, {UUID: "GPU-a"}}}
	inv, err := spec.Open(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	want := []gpu.Card{{UUID: "GPU-b", Name: "NVIDIA L4", Total: 24 << 30, Unmeasured: true}, {UUID: "GPU-a", Unmeasured: true}}
	for range 2 {
		got, err := inv.Read(t.Context())
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, %v", got, err)
		}
		got[0].UUID = "changed" // what a reader does to a reading is their own business
	}
	if env := inv.Environ(); env != nil {
		t.Errorf("environment %q", env)
	}
	if err := inv.Close(); err != nil {
		t.Error(err)
	}
}

func TestKey(t *testing.T) {
	a, same := &Spec{Cards: []Card{{UUID: "a", Total: 1}}}, &Spec{Cards: []Card{{UUID: "a", Total: 1}}}
	other := &Spec{Cards: []Card{{UUID: "a", Total: 2}}}
	if a.Key() != same.Key() || a.Key() == other.Key() {
		t.Errorf("keys %q, %q, %q", a.Key(), same.Key(), other.Key())
	}
}
