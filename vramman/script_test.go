package vramman

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// script plays the owner's workers by hand, one event at a time.
type script struct {
	t     *testing.T
	now   time.Time
	mgr   *Manager
	o     *owner
	wake  time.Time
	cards []gpu.Card

	engines                    []*engineHandle
	opened                     []*inventoryHandle
	closedInv                  []*inventoryHandle
	closedEng                  []*engineHandle
	fetches, starts, stops, ab []*Instance
	reads                      []readEvent
	sizings                    []scriptSizing
}

// scriptSizing is a question about a model's footprint.
type scriptSizing struct {
	record   *record
	hash     string
	settings []server.Setting
}

// sizeAll answers all of them.
func (s *script) sizeAll() {
	for _, q := range s.sizings {
		s.tell(sizedEvent{q.record, q.hash, q.settings, q.record.spec.Server.(server.Sizer).Size(s.t.Context(), q.record.spec.Launch, server.Files{}, q.settings)})
	}
	s.sizings = nil
}

func newScript(t *testing.T, totals ...int64) *script {
	s := &script{t: t, now: time.Unix(1_800_000_000, 0), mgr: New()}
	s.o = newOwner(s.mgr, s)
	for n, c := range totals {
		s.cards = append(s.cards, gpu.Card{UUID: []string{"GPU-0", "GPU-1", "GPU-2"}[n], Total: c * worldGiB})
	}
	return s
}
func (s *script) openEngine(h *engineHandle)        { s.engines = append(s.engines, h) }
func (s *script) closeEngine(h *engineHandle)       { s.closedEng = append(s.closedEng, h) }
func (s *script) openInventory(h *inventoryHandle)  { s.opened = append(s.opened, h) }
func (s *script) closeInventory(h *inventoryHandle) { s.closedInv = append(s.closedInv, h) }
func (s *script) fetch(i *Instance)                 { s.fetches = append(s.fetches, i) }
func (s *script) start(i *Instance)                 { s.starts = append(s.starts, i) }
func (s *script) stop(i *Instance)                  { s.stops = append(s.stops, i) }
func (s *script) letGo(*Instance)                   {}
func (s *script) abandon(i *Instance)               { s.ab = append(s.ab, i) }
func (s *script) wakeAt(t time.Time)                { s.wake = t }
func (s *script) readCards(n uint64, h *inventoryHandle, of []*Instance) {
	s.reads = append(s.reads, readEvent{number: n, handle: h})
}

func (s *script) tell(e event) { s.o.handle(s.now, e) }
func (s *script) after(d time.Duration) {
	s.now = s.now.Add(d)
	s.tell(wakeEvent{})
}

func (s *script) openAll() {
	for _, h := range s.engines {
		s.tell(engineEvent{handle: h, engine: noEngine{}})
	}
	s.engines = nil
	for _, h := range s.opened {
		s.tell(inventoryEvent{handle: h, inventory: noInventory{}})
	}
	s.opened = nil
	s.read()
}

// read answers all readings that are under way.
func (s *script) read() {
	for len(s.reads) > 0 {
		e := s.reads[0]
		s.reads = s.reads[1:]
		e.cards = append(e.cards, s.cards...)
		s.tell(e)
	}
}

func (s *script) fetchAll() {
	fs := s.fetches
	s.fetches = nil
	for _, i := range fs {
		s.tell(fetchedEvent{i, nil})
	}
}

// up brings the last start to ready.
func (s *script) up(i *Instance) {
	s.tell(startedEvent{i: i, run: started{running: &worldRunning{done: make(chan struct{})}}})
	s.tell(readyEvent{i})
	s.read()
}

func (s *script) ask(g *Generation, name string) *waiter {
	w := &waiter{result: make(chan acquired, 1)}
	s.tell(acquireEvent{s.o.models[name], w})
	return w
}

// run asks for a model and brings it to ready; the lease is returned.
func (s *script) run(g *Generation, name string) Lease {
	w := s.ask(g, name)
	s.fetchAll()
	s.read()
	s.up(s.starts[len(s.starts)-1])
	select {
	case r := <-w.result:
		if r.err != nil {
			s.t.Fatal(r.err)
		}
		return r.lease
	default:
		s.t.Fatalf("%s is not ready: %+v", name, s.o.decisions)
	}
	return Lease{}
}

func scriptModel(name string, gib int64) ModelSpec {
	return ModelSpec{
		Name: name, Pool: "all", Server: noServer{}, Launch: server.Model{Name: name, TensorParallel: 1},
		Need: placement.Need{Bytes: gib * worldGiB}, StartTimeout: 10 * time.Minute, StopGrace: 10 * time.Second,
		MaxConcurrent: 2, MaxQueue: 4, MaxWait: 15 * time.Minute,
	}
}

func scriptSpec(models ...ModelSpec) *Spec {
	return &Spec{
		Name: "s", Engine: engineKey("e1"), GPUs: gpuKey("g1"), Eviction: scheduler.LRU{}, Log: zap.NewNop(),
		Pools: []Pool{{Name: "all", Budget: 1}}, MaxWaitForTurn: 2 * time.Minute, DrainTimeout: time.Minute, Models: models,
	}
}

func (s *script) load(spec *Spec) *Generation {
	g := NewGeneration(spec)
	s.tell(applyEvent{g: g})
	s.tell(commitEvent{g: g})
	return g
}
func (s *script) last() DecisionStatus { return s.o.decisions[len(s.o.decisions)-1] }
func (s *script) result(w *waiter) (acquired, bool) {
	select {
	case r := <-w.result:
		return r, true
	default:
		return acquired{}, false
	}
}

// 1. A drain deadline that has passed while another holds the gate.
func TestDrainDeadlineBehindGateDoesNotSpin(t *testing.T) {
	s := newScript(t, 16)
	spec := scriptSpec(scriptModel("a", 8), scriptModel("b", 8))
	g := s.load(spec)
	s.openAll()
	s.run(g, "a") // lease kept
	next := *spec
	next.Models = []ModelSpec{scriptModel("a", 8), scriptModel("b", 8)}
	next.Models[0].Launch.MaxModelLen = 1
	s.load(&next) // a drains
	s.ask(g, "b")
	s.fetchAll()
	s.read() // b is starting, and holds the gate for minutes
	if len(s.starts) != 2 {
		t.Fatal("b does not start")
	}
	s.after(2 * time.Minute)
	s.reads = nil
	if !s.wake.IsZero() && !s.wake.After(s.now) {
		t.Errorf("the owner wants to be woken %v ago: it spins", s.now.Sub(s.wake))
	}
}

// 2. Pool changed while a load is granted and not confirmed.
func TestPoolChangesUnderALoad(t *testing.T) {
	s := newScript(t, 16, 16)
	spec := scriptSpec(scriptModel("a", 8))
	spec.Pools = []Pool{{Name: "all", GPUs: []string{"GPU-0"}, Budget: 1}, {Name: "other", GPUs: []string{"GPU-1"}, Budget: 1}}
	g := s.load(spec)
	s.openAll()
	s.ask(g, "a")
	s.fetchAll() // granted on GPU-0; the reading is under way
	next := *spec
	next.Pools = []Pool{{Name: "all", GPUs: []string{"GPU-1"}, Budget: 1}, {Name: "other", GPUs: []string{"GPU-0"}, Budget: 1}}
	s.load(&next)
	s.fetchAll()
	s.read()
	for _, i := range s.starts {
		if i.cards[0] != "GPU-1" {
			t.Errorf("%s starts on %v, which its pool has no more", i.id, i.cards)
		}
	}
	if len(s.starts) == 0 {
		t.Error("nothing starts")
	}
}

// 3. A model that only an uncommitted generation has, with another engine.
func TestNewModelStartsOnItsOwnEngine(t *testing.T) {
	s := newScript(t, 16)
	s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	next := scriptSpec(scriptModel("a", 8), scriptModel("new", 8))
	next.Engine = engineKey("e2")
	g := NewGeneration(next)
	s.tell(applyEvent{g: g})
	s.ask(g, "new")
	s.fetchAll()
	s.read()
	s.tell(commitEvent{g: g})
	s.openAll()
	s.fetchAll()
	s.read()
	for _, i := range s.starts {
		if i.word.state() == StateStarting && i.engine.spec.Key() != "e2" {
			t.Errorf("%s runs on engine %s with the hash of e2", i.id, i.engine.spec.Key())
		}
	}
}

// 4. An uncommitted generation evicts.
func TestUncommittedGenerationStopsNobody(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 16)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	on := scriptModel("on", 8)
	on.AlwaysOn = true
	bad := NewGeneration(scriptSpec(scriptModel("a", 16), on))
	s.tell(applyEvent{g: bad})
	s.fetchAll()
	s.read()
	s.tell(withdrawEvent{g: bad})
	if len(s.stops) != 0 {
		t.Errorf("%s was stopped for a configuration that never came into force", s.stops[0].id)
	}
}

// 5. Everybody left, and the start is planned anew.
func TestNobodyIsEvictedForNobody(t *testing.T) {
	s := newScript(t, 16, 16)
	g := s.load(scriptSpec(scriptModel("a", 16), scriptModel("b", 16), scriptModel("c", 16)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	s.after(time.Second)
	s.run(g, "b").Release(s.now)
	s.after(time.Second)
	w := s.ask(g, "c")
	s.fetchAll() // a is evicted
	if len(s.stops) != 1 {
		t.Fatal("nobody is evicted")
	}
	w.over.Store(true)
	s.tell(leftEvent{s.o.models["c"], w}) // the only one who asked goes
	s.cards[0].Used = 4 * worldGiB        // another program takes what became free
	s.tell(stoppedEvent{i: s.stops[0]})
	s.read()
	s.read()
	if len(s.stops) != 1 {
		t.Errorf("%s is stopped though nobody waits", s.stops[1].id)
	}
	if r := s.o.record("c"); r.demand != nil {
		t.Errorf("a demand of nobody goes on: %q", r.waiting)
	}
}

// 6. Close answers with the right code.
func TestCloseSaysShuttingDown(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 16)))
	s.openAll()
	w := s.ask(g, "a")
	s.tell(closeEvent{})
	r, ok := s.result(w)
	if !ok {
		t.Fatal("no answer")
	}
	wantCode(t, r.err, CodeShuttingDown)
}

// 7. An inventory that opens after the last configuration went.
func TestLateInventoryIsClosed(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 16)))
	s.tell(withdrawEvent{g: g})
	s.tell(inventoryEvent{handle: s.opened[0], inventory: noInventory{}})
	if len(s.closedInv) != 1 {
		t.Error("the inventory stays open")
	}
}

// 8. Start beside a crashed server whose VRAM is not free.
func TestCrashHoldsTheGate(t *testing.T) {
	s := newScript(t, 32)
	g := s.load(scriptSpec(scriptModel("a", 8), scriptModel("b", 8)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	i := s.starts[0]
	i.pids[7] = true
	s.cards[0].Used, s.cards[0].Processes = 8*worldGiB, []gpu.Process{{PID: 7, Used: 8 * worldGiB}}
	s.tell(exitedEvent{i: i})
	s.ask(g, "b")
	s.fetchAll()
	s.read()
	if len(s.starts) == 2 {
		t.Errorf("b starts while %s (%v) still frees its memory on the card", i.id, i.word.state())
	}
}

// 9. A draining instance dies: those who wait for its successor.
func TestDeathOfDrainingTellsNobody(t *testing.T) {
	s := newScript(t, 32)
	spec := scriptSpec(scriptModel("a", 8))
	g := s.load(spec)
	s.openAll()
	s.run(g, "a").Release(s.now)
	s.tell(exitedEvent{i: s.starts[0]}) // first death: an accident
	s.read()
	s.run(g, "a") // again, leased
	next := *spec
	next.Models = []ModelSpec{scriptModel("a", 8)}
	next.Models[0].Launch.MaxModelLen = 1
	g = s.load(&next) // drains
	w := s.ask(g, "a")
	s.fetchAll()
	s.read()
	if len(s.starts) != 3 {
		t.Fatalf("the successor does not start: %+v", s.o.decisions)
	}
	s.tell(exitedEvent{i: s.starts[1]}) // what drains dies
	if r, ok := s.result(w); ok {
		t.Errorf("who waits for the successor, which starts well, is told: %v", r.err)
	}
}

// 10. A stale *Model (record deleted and re-made).
func TestStaleModelIsAnswered(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8), scriptModel("b", 8)))
	s.openAll()
	stale := s.o.models["a"]
	g2 := s.load(scriptSpec(scriptModel("b", 8)))
	s.tell(withdrawEvent{g: g})
	g3 := s.load(scriptSpec(scriptModel("a", 8), scriptModel("b", 8)))
	s.tell(withdrawEvent{g: g2})
	s.run(g3, "a").Release(s.now)
	w := &waiter{result: make(chan acquired, 1)}
	s.tell(acquireEvent{stale, w})
	if _, ok := s.result(w); !ok {
		t.Error("a is ready, and who asks for it by an older pointer waits for ever")
	}
}

// 11. Measuring with an inventory that cannot be opened.
func TestMeasuringDoesNotWaitForABrokenInventory(t *testing.T) {
	s := newScript(t, 16)
	spec := scriptSpec(scriptModel("a", 8))
	g := s.load(spec)
	s.openAll()
	w := s.ask(g, "a")
	s.fetchAll()
	s.read()
	next := *spec
	next.GPUs = gpuKey("broken")
	s.load(&next)
	s.tell(inventoryEvent{handle: s.opened[0], err: errAny})
	s.tell(startedEvent{i: s.starts[0], run: started{running: &worldRunning{done: make(chan struct{})}}})
	s.tell(readyEvent{s.starts[0]})
	s.read()
	for range 20 {
		s.after(30 * time.Second)
		for _, h := range s.opened[1:] {
			s.tell(inventoryEvent{handle: h, err: errAny})
		}
		s.opened = s.opened[:1]
	}
	if _, ok := s.result(w); !ok {
		t.Errorf("the server is ready for 10 minutes, and the request still waits: %v", s.starts[0].word.state())
	}
}

var errAny = &Error{Message: "no"}

// 12. Engine that cannot open: those who wait already.
func TestWaitersHearThatTheEngineIsMissing(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	w := s.ask(g, "a")
	s.tell(engineEvent{handle: s.engines[0], err: errAny})
	late := s.ask(g, "a")
	_, lateOK := s.result(late)
	if _, ok := s.result(w); !ok {
		t.Errorf("who came before the engine failed waits on (who came later was told: %v)", lateOK)
	}
}

// 13. A card that is missing from a reading is not free.
func TestMissingCardIsNotSeenFree(t *testing.T) {
	s := newScript(t, 16, 16)
	g := s.load(scriptSpec(scriptModel("a", 8)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	i := s.starts[0]
	i.pids[7] = true
	s.tell(exitedEvent{i: i})
	s.cards = s.cards[1:] // the driver has lost the card for a moment
	s.read()
	if i.word.state() == StateGone {
		t.Errorf("%s: %q, though its card was not seen", i.id, s.last().Reason)
	}
}

// 14. Two victims on one card, and their load is halted by a reload.
func TestGateIsHeldUntilTheLastVictimIsGone(t *testing.T) {
	s := newScript(t, 16)
	spec := scriptSpec(scriptModel("a", 8), scriptModel("b", 8), scriptModel("c", 16), scriptModel("d", 4))
	g := s.load(spec)
	s.openAll()
	s.run(g, "a").Release(s.now)
	s.run(g, "b").Release(s.now)
	s.ask(g, "c")
	s.fetchAll()
	if len(s.stops) != 2 {
		t.Fatal("not both are evicted")
	}
	next := *spec
	next.Models = []ModelSpec{scriptModel("a", 8), scriptModel("b", 8), scriptModel("d", 4)}
	g = s.load(&next) // c is removed
	s.tell(stoppedEvent{i: s.stops[1]})
	s.read() // that one is gone
	s.ask(g, "d")
	s.fetchAll()
	s.read()
	if i := s.stops[0]; len(s.starts) == 3 && i.word.state() == StateStopping {
		t.Errorf("%s starts while %s is still stopping on the card; gates %v", s.starts[2].id, i.id, s.o.gates)
	}
}

// 15. Processes that are first known when the stop begins.
func TestPIDsOfAStopCountBeforeItsEnd(t *testing.T) {
	s := newScript(t, 16)
	g := s.load(scriptSpec(scriptModel("a", 16), scriptModel("b", 16)))
	s.openAll()
	s.run(g, "a").Release(s.now)
	s.ask(g, "b")
	s.fetchAll()
	i := s.stops[0]
	// A worker that is not known yet holds the memory a little longer than its parent lives.
	s.cards[0].Used, s.cards[0].Processes = 8*worldGiB, []gpu.Process{{PID: 8, Used: 8 * worldGiB}}
	s.tell(stoppingEvent{i, []int{8}})
	s.tell(exitedEvent{i: i})
	s.read()
	s.tell(stoppedEvent{i: i})
	if i.word.state() == StateGone {
		t.Errorf("%s is gone, and its process 8 holds memory", i.id)
	}
}
