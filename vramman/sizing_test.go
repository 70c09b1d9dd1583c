package vramman

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

func oneNeed(t *testing.T, m *Manager, model int) NeedStatus {
	t.Helper()
	f := mustStatus(t, m).Models[model].Footprint
	if len(f) != 1 {
		t.Fatalf("its footprint is %+v", f)
	}
	return f[0]
}

// A model that declares nothing is given what is estimated, is told to make its KV
// cache of that size, and is given what was measured the next time.
func TestEstimatedThenMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		asked := new(rigAsked)
		s := rigSized{
			estimate: sizedParts(16*worldGiB, 4*worldGiB, worldGiB, 8), asked: asked,
			weights: 15 * worldGiB, rest: 3 * worldGiB, perSeq: worldGiB,
		}
		spec := r.spec(sizedModel("a", s))
		store := newMemoryStore()
		spec.Store = store
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		status := mustStatus(t, m)
		if i := status.Instances[0]; i.Charged != 28*worldGiB || i.Source != "estimated" || i.Measured != 26*worldGiB {
			t.Errorf("first: %+v", i)
		}
		if p := asked.last(); p.KVBytes != 8*worldGiB || p.Charge != 28*worldGiB {
			t.Errorf("launched with %+v", p)
		}
		if n := oneNeed(t, m, 0); n.Source != "estimated" {
			t.Errorf("it has served nothing, and its working memory counts as measured: %+v", n)
		}
		time.Sleep(time.Second)
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		if n := oneNeed(t, m, 0); n.Bytes != 26*worldGiB || n.Source != "measured" || !strings.Contains(n.Parts, "weights 15.00 GiB (measured)") {
			t.Errorf("then: %+v", n)
		}

		// Another process knows it.
		r2 := newRig(time.Second, 80*worldGiB)
		spec2 := r2.spec(sizedModel("a", s))
		spec2.Store = store
		m2, g2 := r2.open(t, spec2)
		mustHold(t, g2, "a")()
		if i := mustStatus(t, m2).Instances[0]; i.Charged != 26*worldGiB || i.Source != "measured" {
			t.Errorf("in the next process: %+v", i)
		}
		// A longer context keeps the weights.
		longer := *spec2
		longer.Models = slices.Clone(spec2.Models)
		longer.Models[0].Launch.MaxModelLen = 2048
		g3 := NewGeneration(&longer)
		m2.Apply(g3)
		m2.Commit(g3)
		mustHold(t, g3, "a")()
		if n := oneNeed(t, m2, 0); !strings.Contains(n.Parts, "weights 15.00 GiB (measured)") {
			t.Errorf("with another context: %+v", n)
		}
	})
}

// A server tells its sizes rounded. The parts add up to what it takes all the same,
// and no start is charged less.
func TestRoundedFiguresAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		s := rigSized{
			estimate: sizedParts(16*worldGiB, 4*worldGiB, worldGiB, 8), asked: new(rigAsked),
			weights: 15 * worldGiB, rest: 3 * worldGiB, perSeq: worldGiB, more: worldGiB / 250,
		}
		m, g := r.open(t, r.spec(sizedModel("a", s)))
		mustHold(t, g, "a")()
		time.Sleep(time.Second)
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		if n := oneNeed(t, m, 0); n.Bytes != 26*worldGiB || n.Source != "measured" {
			t.Errorf("the next start is given %+v", n)
		}
	})
}

// What grows while it serves is charged at once, and is known to the next start.
func TestPeakIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		s := rigSized{
			estimate: sizedParts(16*worldGiB, 2*worldGiB, worldGiB, 4), asked: new(rigAsked),
			weights: 16 * worldGiB, rest: 2 * worldGiB, perSeq: worldGiB,
		}
		m, g := r.open(t, r.spec(sizedModel("a", s)))
		release := mustHold(t, g, "a")
		time.Sleep(time.Second)
		release()
		r.mu.Lock()
		r.running[0].more = 3 * worldGiB
		r.mu.Unlock()
		time.Sleep(time.Minute)
		if i := mustStatus(t, m).Instances[0]; i.Charged != 25*worldGiB {
			t.Errorf("charged %d", i.Charged)
		}
		if n := oneNeed(t, m, 0); n.Bytes != 25*worldGiB {
			t.Errorf("the next start is given %d", n.Bytes)
		}
	})
}

// A reservation that nobody asked for is made as large as the card has room for;
// one that was asked for is kept, or refused with the figures.
func TestReservationShrinksUnlessAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 24*worldGiB)
		asked := new(rigAsked)
		s := rigSized{
			estimate: sizedParts(16*worldGiB, 2*worldGiB, 2*worldGiB, 8), asked: asked,
			weights: 16 * worldGiB, rest: 2 * worldGiB, perSeq: 2 * worldGiB,
		}
		exact := sizedModel("b", s)
		exact.Launch.ReservedSeqs = 8
		m, g := r.open(t, r.spec(sizedModel("a", s), exact))
		mustHold(t, g, "a")()
		if p := asked.last(); p.KVBytes != 6*worldGiB || p.Charge != 24*worldGiB {
			t.Errorf("launched with %+v", p)
		}
		_, err := hold(t, t.Context(), g, "b")
		if e := wantCode(t, err, CodeUnplaceable); !strings.Contains(e.Message, "34.0 GiB") || !e.NoRetry {
			t.Errorf("refused with %v", e)
		}
		_ = m
	})
}

// Without an estimate a model takes a whole card, says why, and is known from its
// second start on.
func TestUnknownModelIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		s := rigSized{
			estimate: sizedParts(0, 0, worldGiB, 8), cannot: "its model_type is not known", asked: new(rigAsked),
			weights: 15 * worldGiB, rest: 3 * worldGiB, perSeq: worldGiB,
		}
		m, g := r.open(t, r.spec(sizedModel("a", s)))
		time.Sleep(time.Second) // until the engine and the cards are open
		before, err := m.Plan(t.Context(), "a")
		if err != nil || before.Verdict != "start" || before.Need[0].Source != "whole card" ||
			before.Need[0].Note != "cannot estimate, because its model_type is not known" {
			t.Errorf("before: %+v, %v", before, err)
		}
		mustHold(t, g, "a")()
		if i := mustStatus(t, m).Instances[0]; i.Charged != 80*worldGiB {
			t.Errorf("charged %d", i.Charged)
		}
		time.Sleep(time.Second)
		mustHold(t, g, "a")()
		time.Sleep(time.Minute)
		if n := oneNeed(t, m, 0); n.Bytes != 26*worldGiB || n.Source != "measured" {
			t.Errorf("then: %+v", n)
		}
	})
}

// What a server asked for is given to it once; what is declared is for a person to
// change.
func TestServerThatAsksForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		asked := new(rigAsked)
		s := rigSized{
			estimate: sizedParts(16*worldGiB, 2*worldGiB, worldGiB, 1), asked: asked,
			weights: 16 * worldGiB, rest: 2 * worldGiB, perSeq: 3 * worldGiB,
		}
		m, g := r.open(t, r.spec(sizedModel("a", s)))
		mustHold(t, g, "a")()
		if r.count("start a") != 2 || asked.last().KVBytes < 3*worldGiB || asked.last().KVBytes > 4*worldGiB {
			t.Errorf("%d starts, the last with %+v", r.count("start a"), asked.last())
		}
		if got := actions(t, m, "a"); !slices.Contains(got, "adjust") {
			t.Errorf("%v", got)
		}
		declared := sizedModel("b", s)
		declared.Need = placement.Need{Bytes: 20 * worldGiB}
		spec := r.spec(declared)
		m2, g2 := newRig(time.Second, 80*worldGiB).open(t, spec)
		_, err := hold(t, t.Context(), g2, "b")
		if e := wantCode(t, err, CodeStartFailed); !strings.Contains(e.Message, "one request does not fit") {
			t.Error(e)
		}
		_ = m2
	})
}

// What was measured of the weights and the rest is the least that a declared
// footprint is charged.
func TestDeclaredIsNotLessThanMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB)
		asked := new(rigAsked)
		s := rigSized{
			estimate: sizedParts(10*worldGiB, 2*worldGiB, worldGiB, 4), asked: asked,
			weights: 16 * worldGiB, rest: 4 * worldGiB, perSeq: worldGiB,
		}
		model := sizedModel("a", s)
		model.Need = placement.Need{Bytes: 16 * worldGiB}
		model.IdleTimeout = time.Minute
		m, g := r.open(t, r.spec(model))
		mustHold(t, g, "a")()
		if i := mustStatus(t, m).Instances[0]; i.Charged != 24*worldGiB { // 16 + 4 + the 4 that were pinned
			t.Errorf("charged %d", i.Charged)
		}
		time.Sleep(time.Second)
		mustHold(t, g, "a")()
		time.Sleep(30 * time.Second)
		if n := oneNeed(t, m, 0); n.Bytes != 21*worldGiB || n.Source != "declared" {
			t.Errorf("then: %+v", n)
		}
		if asked.files.Env != nil {
			t.Error("the hub may be asked about what is declared")
		}
	})
}

// The smallest degree that fits is taken, and stays while it fits.
func TestAutoParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 24*worldGiB, 24*worldGiB, 24*worldGiB, 24*worldGiB)
		store := newMemoryStore()
		asked := new(rigAsked)
		s := rigSized{
			estimate: sizedParts(60*worldGiB, 2*worldGiB, worldGiB, 4), asked: asked,
			weights: 36 * worldGiB, rest: 2 * worldGiB, perSeq: worldGiB,
		}
		model := sizedModel("a", s)
		model.AutoParallel, model.Launch.TensorParallel, model.Launch.ReservedSeqs = true, 0, 4
		model.IdleTimeout = time.Minute
		spec := r.spec(model)
		spec.Store = store
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		if got := asked.degrees[len(asked.degrees)-1]; got != 4 || len(mustStatus(t, m).Instances[0].GPUs) != 4 {
			t.Fatalf("it runs on %d cards", got)
		}
		time.Sleep(2 * time.Minute) // stopped; by what was measured of four, it takes less than was estimated
		mustHold(t, g, "a")()
		if got := asked.degrees[len(asked.degrees)-1]; got != 4 {
			t.Errorf("it runs on %d cards the second time", got)
		}
		if !strings.Contains(string(store.all()[keyKept]), `:4`) {
			t.Errorf("kept: %s", store.all()[keyKept])
		}
	})
}

// Cards of a pool of whole cards are filled, but for models that share theirs.
func TestColocate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(time.Second, 80*worldGiB, 80*worldGiB)
		s := rigSized{
			estimate: sizedParts(10*worldGiB, 2*worldGiB, worldGiB, 4), asked: new(rigAsked),
			weights: 10 * worldGiB, rest: 2 * worldGiB, perSeq: worldGiB,
		}
		shared := func(name string) ModelSpec {
			m := sizedModel(name, s)
			m.Colocate = true
			return m
		}
		spec := r.spec(sizedModel("a", s), shared("b"), shared("c"))
		spec.Pools[0].WholeCard, spec.Pools[0].Budget = true, 0.5
		m, g := r.open(t, spec)
		mustHold(t, g, "a")()
		mustHold(t, g, "b")()
		mustHold(t, g, "c")()
		var charged []int64
		for _, c := range mustStatus(t, m).GPUs {
			charged = append(charged, c.Charged)
		}
		if !slices.Equal(charged, []int64{40 * worldGiB, 32 * worldGiB}) {
			t.Errorf("charged %v", charged)
		}
	})
}

// On cards that nobody tells processes apart on, a start is measured by how much
// more is in use after it.
func TestMeasuredByDifference(t *testing.T) {
	s := newScript(t, 80)
	s.cards[0].Unattributed, s.cards[0].Used = true, 5*worldGiB
	model := scriptModel("a", 0)
	model.Need = placement.Need{}
	asked := new(rigAsked)
	model.Server = rigSized{estimate: sizedParts(16*worldGiB, 2*worldGiB, worldGiB, 8), asked: asked}
	g := s.load(scriptSpec(model))
	s.openAll()
	w := s.ask(g, "a")
	s.fetchAll()
	s.sizeAll()
	s.read()
	i := s.starts[0]
	s.tell(startedEvent{i: i, run: started{running: &worldRunning{done: make(chan struct{})}}})
	s.tell(lineEvent{i, rigSized{}.Line("memory 17179869184 8589934592 1073741824")})
	s.tell(readyEvent{i})
	s.cards[0].Used = 32 * worldGiB
	s.read()
	r, ok := s.result(w)
	if !ok {
		t.Fatal("it is not ready")
	}
	s.after(time.Second)
	r.lease.Release(s.now)
	s.after(10 * time.Second)
	s.read()
	if i.measured["GPU-0"] != 27*worldGiB || s.o.ledger.Charged("GPU-0") != 27*worldGiB {
		t.Errorf("measured %d, charged %d", i.measured["GPU-0"], s.o.ledger.Charged("GPU-0"))
	}
	rest, ok := s.o.measured.Find(footprint.PartRest, i.footing.parts.Signatures.Of(footprint.PartRest))
	if !ok || rest.Bytes != 3*worldGiB {
		t.Errorf("the rest is %+v", rest)
	}
}
