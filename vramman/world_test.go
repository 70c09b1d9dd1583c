package vramman

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// world is everything around one owner: cards, servers that take their time
// and fail, requests that come and go, and a clock that only it moves. All of
// it follows from one seed. It carries the owner's effects out.
type world struct {
	seed   uint64
	rng    *rand.Rand
	now    time.Time
	queue  schedule
	mgr    *Manager
	owner  *owner
	faults bool // servers fail, die, hang and lie; readings fail; other programs take VRAM

	cards     []*worldCard
	processes []*process // those that live or whose memory is not free yet
	pids      int
	clients   []*client
	wake      time.Time // when the owner wants to be woken
	wakes     int       // the number of the wake that counts

	specs     []*Spec       // that a reload may bring
	current   []*Generation // applied
	started   map[*Instance]*process
	abandoned map[*Instance]bool
	states    map[*Instance]State // as last seen
	steps     int
	still     int // steps since the clock moved
	reloading bool
	touched   bool                    // requests have changed something without a word to the owner
	uses      map[*Instance]time.Time // when each was last used, or became ready

	returning    map[*Model]int      // tickets whose lease is over
	readingBegan time.Time           // of the reading that is being told
	hadVictims   map[*load]time.Time // when a load was last seen to have some
	served       int
	refused      map[Code]int
	decisions    []string
}

type worldCard struct {
	uuid    string
	total   int64
	foreign int64
}

// process is one server's process and its memory.
type process struct {
	pid     int
	i       *Instance
	worker  int              // a child that takes the memory over; 0: not yet
	seen    map[string]int64 // the most that a reading told of, per card
	used    map[string]int64
	ended   bool
	running *worldRunning
}

// holder is the process that holds the memory.
func (p *process) holder() int {
	if p.worker != 0 {
		return p.worker
	}
	return p.pid
}

// client is one request.
type client struct {
	n        int
	model    *Model
	ticket   Ticket
	waiter   *waiter
	lease    Lease
	queued   bool
	finished bool
	service  time.Duration
}

// item is something that happens at its time.
type item struct {
	at  time.Time
	seq int
	do  func()
}

type schedule struct {
	items []item
	seq   int
}

func (s *schedule) Len() int { return len(s.items) }
func (s *schedule) Less(a, b int) bool {
	if !s.items[a].at.Equal(s.items[b].at) {
		return s.items[a].at.Before(s.items[b].at)
	}
	return s.items[a].seq < s.items[b].seq
}
func (s *schedule) Swap(a, b int) { s.items[a], s.items[b] = s.items[b], s.items[a] }
func (s *schedule) Push(x any)    { s.items = append(s.items, x.(item)) }
func (s *schedule) Pop() any {
	last := s.items[len(s.items)-1]
	s.items = s.items[:len(s.items)-1]
	return last
}

func newWorld(seed uint64, faults bool) *world {
	w := &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_800_000_000, 0), mgr: New(), faults: faults,
		started: make(map[*Instance]*process), abandoned: make(map[*Instance]bool), states: make(map[*Instance]State), refused: make(map[Code]int), pids: 100,
	}
	w.returning = make(map[*Model]int)
	w.hadVictims, w.uses = make(map[*load]time.Time), make(map[*Instance]time.Time)
	w.owner = newOwner(w.mgr, w)
	return w
}

// after has something happen after a time between least and most.
func (w *world) after(least, most time.Duration, do func()) {
	w.queue.seq++
	heap.Push(&w.queue, item{w.now.Add(w.between(least, most)), w.queue.seq, do})
}

func (w *world) between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(w.rng.Int64N(int64(most-least)))
}

// chance is true in one of so many cases, and never without faults.
func (w *world) chance(in int) bool { return w.faults && w.rng.IntN(in) == 0 }

// tell has the owner handle an event, and all wakes that follow from it.
func (w *world) tell(e event) {
	w.owner.handle(w.now, e)
	w.touched = false
	for range 1000 {
		select {
		case <-w.mgr.woken:
			w.owner.handle(w.now, wakeEvent{})
		default:
			return
		}
	}
	panic(fmt.Sprintf("seed %d: the owner wakes itself without end", w.seed))
}

// step lets the next thing happen. It returns false when nothing is to come.
func (w *world) step() bool {
	if len(w.queue.items) == 0 {
		return false
	}
	next := heap.Pop(&w.queue).(item)
	if next.at.After(w.now) {
		w.checkQuiet(next.at.Add(-1))
		w.now, w.still = next.at, 0
	}
	if w.still++; w.still > 1000 {
		panic(fmt.Sprintf("the clock stands still; next wake %v, now %v", w.wake, w.now))
	}
	w.steps++
	next.do()
	w.pollClients()
	select {
	case <-w.mgr.woken:
		w.tell(wakeEvent{})
	default:
	}
	for w.pollClients() {
	}
	return true
}

// The owner's effects.

func (w *world) openEngine(h *engineHandle) {
	w.after(time.Millisecond, time.Second, func() {
		if w.chance(10) {
			w.tell(engineEvent{handle: h, err: errors.New("no engine today")})
			return
		}
		w.tell(engineEvent{handle: h, engine: noEngine{}})
	})
}

func (w *world) closeEngine(h *engineHandle) {
	for _, i := range w.owner.instances {
		if i.engine == h {
			panic(fmt.Sprintf("seed %d: an engine is closed under instance %s", w.seed, i.id))
		}
	}
}

func (w *world) openInventory(h *inventoryHandle) {
	w.after(time.Millisecond, time.Second, func() {
		if w.chance(10) {
			w.tell(inventoryEvent{handle: h, err: errors.New("no driver today")})
			return
		}
		w.tell(inventoryEvent{handle: h, inventory: noInventory{}})
	})
}

func (w *world) closeInventory(*inventoryHandle) {}

func (w *world) readCards(number uint64, h *inventoryHandle, of []*Instance) {
	of = slices.Clone(of)
	e := readEvent{number: number, handle: h, pids: make(map[*Instance][]int)}
	began := w.now
	foreign := make(map[string]int64)
	w.after(time.Millisecond, 25*time.Millisecond, func() {
		for _, c := range w.cards {
			card := gpu.Card{UUID: c.uuid, Total: c.total, Used: c.foreign}
			foreign[c.uuid] = c.foreign
			for _, p := range w.processes {
				if u := p.used[c.uuid]; u > 0 {
					card.Used += u
					card.Processes = append(card.Processes, gpu.Process{PID: p.holder(), Used: u})
				}
			}
			e.cards = append(e.cards, card)
		}
	})
	w.after(25*time.Millisecond, 50*time.Millisecond, func() {
		if w.chance(30) {
			e.cards, e.err = nil, errors.New("the driver is busy")
			w.tell(e)
			return
		}
		for _, i := range of {
			if p := w.started[i]; p != nil && !p.ended {
				e.pids[i] = []int{p.pid, p.worker}
			}
		}
		w.readingBegan = began
		w.tell(e)
		if h != w.owner.inventory {
			return
		}
		for _, c := range e.cards {
			if a, _ := w.owner.ledger.Card(c.UUID); a.Foreign != foreign[c.UUID] {
				panic(fmt.Sprintf("%s: others use %d, the account says %d", c.UUID, foreign[c.UUID], a.Foreign))
			}
			for _, p := range w.processes {
				for _, q := range c.Processes {
					if q.PID == p.holder() {
						p.seen[c.UUID] = max(p.seen[c.UUID], q.Used)
					}
				}
			}
		}
	})
}

func (w *world) fetch(i *Instance) {
	w.after(0, 2*time.Second, func() {
		var err error
		if w.chance(25) {
			err = errors.New("no such image")
		}
		w.tell(fetchedEvent{i, err})
	})
}

// worldServer is how a server behaves, drawn when it starts.
func (w *world) start(i *Instance) {
	w.checkStart(i)
	w.after(10*time.Millisecond, 500*time.Millisecond, func() {
		if w.abandoned[i] || w.chance(25) {
			w.tell(startedEvent{i: i, err: errors.New("cannot start")})
			return
		}
		w.pids++
		p := &process{pid: w.pids, i: i, used: make(map[string]int64), seen: make(map[string]int64)}
		p.running = &worldRunning{done: make(chan struct{})}
		w.processes = append(w.processes, p)
		w.started[i] = p
		w.tell(startedEvent{i: i, run: started{running: p.running, pids: []int{p.pid}}})
		if w.chance(12) {
			w.after(time.Second, 20*time.Second, func() {
				w.tell(lineEvent{i, server.Line{Class: server.ClassMemory, Why: "too little VRAM was free"}})
				w.end(p, engine.Exit{Code: 1})
			})
			return
		}
		if w.chance(40) {
			return // never ready
		}
		w.after(100*time.Millisecond, 900*time.Millisecond, func() {
			if !p.ended {
				w.pids++
				p.worker = w.pids
				for n, c := range i.cards {
					p.used[c] = i.need[n] / 2
				}
				w.tell(lineEvent{i, server.Line{Stage: "loading weights"}})
			}
		})
		w.after(time.Second, 60*time.Second, func() {
			if p.ended {
				return
			}
			for n, c := range i.cards {
				p.used[c] = i.need[n] - int64(w.rng.IntN(64))<<20
				if w.chance(20) {
					p.used[c] += 1 << 30 // more than was declared for it
				}
			}
			w.tell(readyEvent{i})
			if w.chance(8) {
				w.after(time.Second, 10*time.Minute, func() { w.end(p, engine.Exit{Code: -1, Signal: "killed"}) })
			}
		})
	})
}

// end has a server end: its memory becomes free a little later.
func (w *world) end(p *process, exit engine.Exit) {
	if p.ended {
		return
	}
	p.ended = true
	p.running.exit = exit
	close(p.running.done)
	late := w.between(0, 2*time.Second)
	if w.chance(20) {
		late = w.between(20*time.Second, time.Minute)
	}
	w.after(late, late, func() {
		w.processes = slices.DeleteFunc(w.processes, func(x *process) bool { return x == p })
	})
	w.after(0, 100*time.Millisecond, func() { w.tell(exitedEvent{p.i, exit}) })
}

func (w *world) stop(i *Instance) {
	w.checkStop(i)
	p := w.started[i]
	if w.chance(30) {
		w.after(time.Second, 5*time.Second, func() { w.tell(stoppedEvent{i: i, err: errors.New("the daemon does not answer")}) })
		return
	}
	w.after(100*time.Millisecond, 5*time.Second, func() {
		w.tell(stoppingEvent{i, []int{p.pid, p.worker}})
		w.end(p, engine.Exit{})
		w.after(0, 100*time.Millisecond, func() { w.tell(stoppedEvent{i: i}) })
	})
}

func (*world) letGo(*Instance) {}

func (w *world) abandon(i *Instance) { w.abandoned[i] = true }

func (w *world) wakeAt(t time.Time) {
	w.wakes++
	w.wake = t
	if t.IsZero() {
		return
	}
	if !t.After(w.now) {
		panic(fmt.Sprintf("the owner wants to be woken at %v, which is not later than now: it spins", t))
	}
	mine := w.wakes
	w.queue.seq++
	heap.Push(&w.queue, item{t, w.queue.seq, func() {
		if mine == w.wakes {
			w.tell(wakeEvent{})
		}
	}})
}

type worldRunning struct {
	done chan struct{}
	exit engine.Exit
}

func (*worldRunning) Dial(context.Context) (net.Conn, error) {
	return nil, errors.New("not in this world")
}
func (*worldRunning) PIDs(context.Context) ([]int, error)       { return nil, nil }
func (*worldRunning) Stop(context.Context, time.Duration) error { return nil }
func (r *worldRunning) Done() <-chan struct{}                   { return r.done }
func (r *worldRunning) Exit() engine.Exit                       { return r.exit }

type noEngine struct{}

func (noEngine) Reconcile(context.Context) (int, error)                        { return 0, nil }
func (noEngine) Fetch(context.Context, *engine.Launch) error                   { return nil }
func (noEngine) Start(context.Context, *engine.Launch) (engine.Running, error) { return nil, nil }
func (noEngine) Close(context.Context) error                                   { return nil }

type noInventory struct{}

func (noInventory) Read(context.Context) ([]gpu.Card, error) { return nil, nil }
func (noInventory) Environ() []string                        { return nil }
func (noInventory) Close() error                             { return nil }

// key is a spec that opens nothing: the world answers in its stead.
type engineKey string

func (k engineKey) Key() string                                            { return string(k) }
func (engineKey) Open(context.Context, *zap.Logger) (engine.Engine, error) { return noEngine{}, nil }

type gpuKey string

func (k gpuKey) Key() string                                            { return string(k) }
func (gpuKey) Open(context.Context, *zap.Logger) (gpu.Inventory, error) { return noInventory{}, nil }

type noServer struct{}

func (noServer) Key() string                                             { return "none" }
func (noServer) Args(server.Model, server.Place, engine.Listen) []string { return nil }
func (noServer) FetchCommand(server.Model) []string                      { return nil }
func (noServer) Env(server.Model, server.Place) []string                 { return nil }
func (noServer) Managed([]string) string                                 { return "" }
func (noServer) ReadyRequest() *http.Request                             { return nil }
func (noServer) Line(string) server.Line                                 { return server.Line{} }
func (noServer) KeepAlive() time.Duration                                { return time.Minute }

const worldGiB = 1 << 30

// randomSpec draws a configuration for the world's cards.
func (w *world) randomSpec(models int) *Spec {
	s := &Spec{
		Name: "world", Engine: engineKey("engine-1"), GPUs: gpuKey("cards"), Eviction: scheduler.LRU{},
		MaxWaitForTurn: w.between(10*time.Second, 3*time.Minute), DrainTimeout: w.between(time.Minute, 10*time.Minute), Log: zap.NewNop(),
	}
	if w.seed/8%2 == 0 { // of those that are run twice, too, every other one
		s.Eviction = scheduler.Cost{}
	}
	if w.rng.IntN(3) == 0 || len(w.cards) == 1 {
		s.Pools = []Pool{{Name: "all", Budget: 0.5 + w.rng.Float64()/2}}
	} else {
		cut := 1 + w.rng.IntN(len(w.cards)-1)
		for n, part := range [][]*worldCard{w.cards[:cut], w.cards[cut:]} {
			p := Pool{Name: fmt.Sprintf("pool-%d", n), Budget: 0.5 + w.rng.Float64()/2, WholeCard: w.rng.IntN(6) == 0}
			for _, c := range part {
				p.GPUs = append(p.GPUs, c.uuid)
			}
			s.Pools = append(s.Pools, p)
		}
	}
	always := 0
	for n := range models {
		p := s.Pools[w.rng.IntN(len(s.Pools))]
		size := len(p.GPUs)
		if size == 0 {
			size = len(w.cards)
		}
		m := ModelSpec{
			Name: fmt.Sprintf("m%d", n), Pool: p.Name, Server: noServer{}, Launch: server.Model{TensorParallel: 1},
			IdleTimeout: []time.Duration{0, time.Minute, 30 * time.Minute}[w.rng.IntN(3)], MinResidency: w.between(0, 2*time.Minute),
			StartTimeout: 2 * time.Minute, StopGrace: 10 * time.Second,
			MaxConcurrent: 1 + w.rng.IntN(8), MaxQueue: w.rng.IntN(20), MaxWait: w.between(time.Minute, 15*time.Minute),
		}
		if w.rng.IntN(4) == 0 {
			m.Launch.TensorParallel = 1 + w.rng.IntN(size)
		}
		switch w.rng.IntN(4) {
		case 0: // the whole budget
		case 1:
			m.Need = placement.Need{Share: 0.1 + 0.4*w.rng.Float64()}
		default:
			m.Need = placement.Need{Bytes: int64(1+w.rng.IntN(20)) * worldGiB}
		}
		if w.rng.IntN(8) == 0 && always < 2 {
			always++
			m.AlwaysOn, m.Need = true, placement.Need{Bytes: worldGiB}
		}
		s.Models = append(s.Models, m)
	}
	return s
}
