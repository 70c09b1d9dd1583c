package simmodel

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
)

// llama8B is Llama 3.1 8B.
var llama8B = Llama{Layers: 32, Hidden: 4096, Heads: 32, KVHeads: 8, Intermediate: 14336, Vocab: 128256, MaxLen: 131072}

// TestUnderstood has the estimate read what is written.
func TestUnderstood(t *testing.T) {
	for name, m := range map[string]Llama{
		"8B":   llama8B,
		"tiny": {Layers: 1, Hidden: 64, Heads: 8, KVHeads: 8, Intermediate: 96, Vocab: 100, MaxLen: 2048},
		"deep": {Layers: 200, Hidden: 1024, Heads: 16, KVHeads: 2, Intermediate: 4096, Vocab: 32000, MaxLen: 32768},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "org", "model")
			weights, err := Write(dir, m)
			if err != nil {
				t.Fatal(err)
			}
			src, err := footprint.FromCache("", dir)
			if err != nil {
				t.Fatal(err)
			}
			model, err := footprint.Load(t.Context(), src)
			if err != nil {
				t.Fatal(err)
			}
			if got := model.Weights.Bytes(); got != weights {
				t.Errorf("the checkpoint has %d bytes, want %d", got, weights)
			}
			for _, cards := range []int{1, 2} {
				parts, err := footprint.Estimate(model.Config, model.Weights, footprint.Launch{
					TensorParallel: cards, MaxModelLen: 2048, MaxNumSeqs: 4, CardTotal: 24 << 30,
				})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := parts.KV.PerToken(), m.KVPerToken()/int64(cards); got != want {
					t.Errorf("on %d cards a token takes %d bytes, want %d", cards, got, want)
				}
				if want := 4 * 2048 * m.KVPerToken() / int64(cards); parts.KVBytes < want || parts.KVBytes > want+want/50 {
					t.Errorf("on %d cards the cache takes %d bytes, want %d", cards, parts.KVBytes, want)
				}
				// The vocabulary is rounded up, and the norms are on each card.
				norms := int64(2*m.Layers+1) * int64(m.Hidden) * elementBytes
				spare := norms + 2*64*int64(m.Hidden)*elementBytes
				if even := weights / int64(cards); parts.Weights < even || parts.Weights > even+spare {
					t.Errorf("on %d cards the weights take %d bytes, want %d and at most %d more", cards, parts.Weights, even, spare)
				}
			}
		})
	}
}

// TestSize writes 15 GiB that take no room.
func TestSize(t *testing.T) {
	dir := t.TempDir()
	weights, err := Write(dir, llama8B)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(8_030_261_248) * elementBytes; weights != want { // the parameters that its card tells
		t.Errorf("%d bytes of weights, want %d", weights, want)
	}
	info, err := os.Stat(filepath.Join(dir, "model.safetensors"))
	if err != nil || info.Size() <= weights {
		t.Fatalf("%d bytes in the file, %v", info.Size(), err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Blocks*512 > 16<<20 {
		t.Errorf("the file takes %d bytes of the disk", s.Blocks*512)
	}
	if again, err := Write(dir, llama8B); err != nil || again != weights {
		t.Errorf("written again: %d, %v", again, err)
	}
}

func TestRefuses(t *testing.T) {
	for _, change := range []func(*Llama){
		func(m *Llama) { m.Layers = 0 },
		func(m *Llama) { m.MaxLen = -1 },
		func(m *Llama) { m.Heads = 33 },
		func(m *Llama) { m.KVHeads = 5 },
	} {
		m := llama8B
		change(&m)
		if _, err := Write(t.TempDir(), m); err == nil {
			t.Errorf("%+v is written", m)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(file, llama8B); err == nil {
		t.Error("a file became a folder")
	}
}
