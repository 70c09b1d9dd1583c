package vramman

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
)

// This file tests the accounts of cards of which not everything is known.

// dimGPUs are a rig's cards as somebody sees them who does not see everything.
type dimGPUs struct {
	rigGPUs
	dim func(*gpu.Card)
}

func (d dimGPUs) Key() string                                              { return "dim" }
func (d dimGPUs) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return d, nil }

func (d dimGPUs) Read(ctx context.Context) ([]gpu.Card, error) {
	cards, err := d.rigGPUs.Read(ctx)
	for n := range cards {
		d.dim(&cards[n])
	}
	return cards, err
}

// openDim runs a manager on a card of 16 GiB that is not seen well.
func openDim(t *testing.T, dim func(*gpu.Card), models ...ModelSpec) (*rig, *Manager, *Generation) {
	r := newRig(10*time.Second, 16*worldGiB)
	s := r.spec(models...)
	s.GPUs = dimGPUs{rigGPUs{r}, dim}
	m, g := r.open(t, s)
	return r, m, g
}

// reasons are the reasons of all decisions of a kind.
func reasons(s *Status, action string) string {
	var all []string
	for _, d := range s.Decisions {
		if d.Action == action {
			all = append(all, d.Reason)
		}
	}
	return strings.Join(all, "\n")
}

func TestDeclaredCards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m, g := openDim(t, func(c *gpu.Card) { c.Used, c.Processes, c.Unmeasured = 0, nil, true },
			rigModel("a", 8), rigModel("b", 8), rigModel("c", 8))
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		mustHold(t, g, "b")()
		c := mustStatus(t, m).GPUs[0]
		if c.Total != 16*worldGiB || c.Charged != 16*worldGiB || c.Foreign != 0 || c.Used != 0 || c.Free != 0 || !strings.HasPrefix(c.Note, "not measured: ") {
			t.Errorf("both fit by what is declared: %+v", c)
		}
		// A charge ends with its instance.
		mustHold(t, g, "c")()
		s := mustStatus(t, m)
		if r.count("stop a") != 1 || r.count("stop b") != 0 || s.GPUs[0].Charged != 16*worldGiB {
			t.Errorf("counts %v, %+v", r.counts(), s.GPUs[0])
		}
		if got := reasons(s, "gone"); got != "its server has ended; whether its VRAM is free is not measured" {
			t.Errorf("gone because %q", got)
		}
	})
}

// TestNobodyKnowsWhose shows that an instance's VRAM is not taken for a stranger's
// where the driver does not tell whose it is, but what is beyond is.
func TestNobodyKnowsWhose(t *testing.T) {
	for _, tt := range []struct {
		name string
		dim  func(*gpu.Card)
	}{
		{"no processes", func(c *gpu.Card) { c.Processes = nil }},
		{"processes without figures", func(c *gpu.Card) {
			for n := range c.Processes {
				c.Processes[n].Used = 0
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, m, g := openDim(t, func(c *gpu.Card) {
					tt.dim(c)
					c.Used += worldGiB // somebody else
					c.Unattributed = true
				}, rigModel("a", 7), rigModel("b", 8), rigModel("c", 9))
				mustHold(t, g, "a")()
				time.Sleep(time.Minute)
				mustHold(t, g, "b")()
				s := mustStatus(t, m)
				if c := s.GPUs[0]; c.Charged != 15*worldGiB || c.Foreign != worldGiB || c.Free != 0 || !strings.HasPrefix(c.Note, "not measured by process") {
					t.Errorf("both fit: %+v", c)
				}
				mustHold(t, g, "c")()
				if c := mustStatus(t, m).GPUs[0]; c.Charged != 9*worldGiB || c.Foreign != worldGiB || c.Free != 6*worldGiB {
					t.Errorf("c has made them go: %+v", c)
				}
			})
		})
	}
}

// TestUnsizedCardTakesOneModel shows that models take turns on a card whose size
// nobody knows, whatever they declare.
func TestUnsizedCardTakesOneModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, m, g := openDim(t, func(c *gpu.Card) { *c = gpu.Card{UUID: c.UUID, Unmeasured: true} }, rigModel("a", 1), rigModel("b", 1))
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		mustHold(t, g, "b")()
		s := mustStatus(t, m)
		if r.count("stop a") != 1 || r.count("running") != 1 {
			t.Errorf("counts %v", r.counts())
		}
		c := s.GPUs[0]
		if c.Total != 0 || c.Budget != 0 || c.Charged != 0 || c.Free != 0 || !strings.HasSuffix(c.Note, "size not known: one model at a time") {
			t.Errorf("a card %+v", c)
		}
		if len(c.Holders) != 1 || c.Holders[0] != (Holder{Instance: "b-1"}) || s.Instances[0].Charged != 0 {
			t.Errorf("held by %+v, %+v", c.Holders, s.Instances)
		}
		if got := reasons(s, "start"); !strings.Contains(got, "frees a whole card") {
			t.Errorf("started because %s", got)
		}

		// A busy one is waited for, and it is said why.
		release := mustHold(t, g, "b")
		go func() {
			if back, err := hold(t, t.Context(), g, "a"); err == nil {
				back()
			}
		}()
		synctest.Wait()
		if got := mustStatus(t, m).Models[0].Waiting; !strings.Contains(got, "b-1") {
			t.Errorf("a waits because %q", got)
		}
		release()
		synctest.Wait()
	})
}

// TestStatusTellsWhyCardsCannotBeRead shows the inventory's own words to operators,
// and that clients get others.
func TestStatusTellsWhyCardsCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		s := r.spec(rigModel("a", 8))
		broken := &brokenGPUs{rigGPUs: rigGPUs{r}, err: errors.New("the driver is not running: install it")}
		s.GPUs = broken
		m, g := r.open(t, s)
		synctest.Wait()
		if got := mustStatus(t, m); got.Inventory != broken.err.Error() || got.Engine != "the GPUs cannot be read" {
			t.Errorf("inventory %q, engine %q", got.Inventory, got.Engine)
		}
		_, err := hold(t, t.Context(), g, "a")
		if e := wantCode(t, err, CodeNoEngine); e.Message != "the GPUs cannot be read" {
			t.Errorf("clients are told %q", e.Message)
		}
		broken.mend()
		time.Sleep(readInterval + time.Second)
		mustHold(t, g, "a")()
		if got := mustStatus(t, m); got.Inventory != "ready" || got.Engine != "ready" {
			t.Errorf("inventory %q, engine %q", got.Inventory, got.Engine)
		}
	})
}

// brokenGPUs cannot be read until they are mended.
type brokenGPUs struct {
	rigGPUs
	err error
}

func (b *brokenGPUs) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return b, nil }

func (b *brokenGPUs) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = nil
}

func (b *brokenGPUs) Read(ctx context.Context) ([]gpu.Card, error) {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return b.rigGPUs.Read(ctx)
}
