package scheduler_test

import (
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

func TestNobodyIsEvictedBesideRoomThatIsComing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	card := func(n string) scheduler.Card {
		return scheduler.Card{Card: ledger.Card{UUID: n, Total: 8, Budget: 8}, Charged: 8}
	}
	s := scheduler.State{
		Now: now, Policy: scheduler.LRU{}, MaxWaitForTurn: time.Minute,
		Cards: []scheduler.Card{card("A"), card("B")},
		Instances: []scheduler.Instance{
			{ID: "old", Model: "x", Phase: scheduler.Draining, Cards: []int{0}, Charges: []int64{8}},
			{ID: "idle", Model: "y", Phase: scheduler.Ready, Cards: []int{1}, Charges: []int64{8}},
		},
		Demands: []scheduler.Demand{{Model: "z", Since: now, Degree: 1, Cards: []int{0, 1}, Need: []int64{8, 8}}},
	}
	first := scheduler.Decide(&s)
	t.Logf("%+v", first.Decisions)
	s.Instances[0].Phase, s.Cards[0].Gate = scheduler.Stopping, "stop old" // the first decision, carried out
	for _, d := range scheduler.Decide(&s).Decisions {
		if len(d.Victims) > 0 {
			t.Errorf("a moment later it evicts %v: %s", d.Victims, d.Reason)
		}
	}
}
