package simulated

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

const gib = 1 << 30

func TestInventory(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "cards")
	spec := &Spec{Folder: folder, Cards: []Card{
		{UUID: "GPU-z", Total: 24 * gib},
		{UUID: "GPU-a", Name: "NVIDIA L4", Total: 23 * gib},
	}}
	inv, err := spec.Open(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if got := inv.Environ(); !reflect.DeepEqual(got, []string{"VLLM_SIM_CARDS=" + folder}) {
		t.Errorf("Environ %q", got)
	}
	for _, bytes := range []int64{2 * gib, 0, gib} {
		e, err := simcard.Hold(folder, "GPU-a", "desktop", bytes)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
	}
	got, err := inv.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []gpu.Card{
		{UUID: "GPU-z", Name: "simulated", Total: 24 * gib},
		{
			UUID: "GPU-a", Name: "NVIDIA L4", Total: 23 * gib, Used: 3 * gib,
			Processes: []gpu.Process{{PID: os.Getpid(), Used: 3 * gib}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v\nwant %+v", got, want)
	}

	// A second gateway generation opens the same cards and loses nothing.
	again, err := spec.Open(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := inv.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Read(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read again %+v, %v", got, err)
	}
}

// Cards that do not tell by whom they are used tell how full they are.
func TestUnattributed(t *testing.T) {
	folder := t.TempDir()
	spec := &Spec{Folder: folder, Cards: []Card{{UUID: "GPU-a", Total: 24 * gib}}, Unattributed: true}
	inv, err := spec.Open(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	e, err := simcard.Hold(folder, "GPU-a", "desktop", 2*gib)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	got, err := inv.Read(t.Context())
	want := []gpu.Card{{UUID: "GPU-a", Name: "simulated", Total: 24 * gib, Used: 2 * gib, Unattributed: true}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v\nwant %+v", got, err, want)
	}
}

func TestStaleEntriesAreRemoved(t *testing.T) {
	folder := t.TempDir()
	spec := &Spec{Folder: folder, Cards: []Card{{UUID: "GPU-a", Total: gib}}}
	inv, err := spec.Open(t.Context(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(folder, "GPU-a", "1-gone.entry")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cards, err := inv.Read(t.Context())
	if err != nil || cards[0].Used != 0 {
		t.Errorf("read %+v, %v", cards, err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("the stale entry is still there: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{Cards: []Card{{UUID: "a", Total: 1}}}, "no folder"},
		{Spec{Folder: t.TempDir()}, "none is declared"},
		{Spec{Folder: t.TempDir(), Cards: []Card{{UUID: "a", Total: 1}, {UUID: "a", Total: 1}}}, "declared twice"},
		{Spec{Folder: t.TempDir(), Cards: []Card{{UUID: "a"}}}, "above zero"},
		{Spec{Folder: t.TempDir(), Cards: []Card{{UUID: "../a", Total: 1}}}, "not a card's UUID"},
		{Spec{Folder: file, Cards: []Card{{UUID: "a", Total: 1}}}, "in folder"},
	} {
		if _, err := test.spec.Open(t.Context(), zap.NewNop()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%+v): %v, want %q", test.spec, err, test.want)
		}
	}
}

func TestKey(t *testing.T) {
	a := &Spec{Folder: "/x", Cards: []Card{{UUID: "a", Total: 1}}}
	same := &Spec{Folder: "/x", Cards: []Card{{UUID: "a", Total: 1}}}
	other := &Spec{Folder: "/x", Cards: []Card{{UUID: "a", Total: 2}}}
	silent := &Spec{Folder: "/x", Cards: []Card{{UUID: "a", Total: 1}}, Unattributed: true}
	if a.Key() != same.Key() || a.Key() == other.Key() || a.Key() == silent.Key() {
		t.Errorf("keys %q %q %q %q", a.Key(), same.Key(), other.Key(), silent.Key())
	}
}

func TestDefaultFolder(t *testing.T) {
	a, b := DefaultFolder("main"), DefaultFolder("other/../main")
	if a == b || filepath.Dir(a) != filepath.Dir(b) || !strings.HasPrefix(a, os.TempDir()) {
		t.Errorf("folders %q and %q", a, b)
	}
}
