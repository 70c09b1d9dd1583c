package vramman

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

const (
	// openTimeout bounds opening an engine or an inventory.
	openTimeout = time.Minute
	// readTimeout bounds one reading of the cards.
	readTimeout = 10 * time.Second
	// stopSlack is how much longer than its grace a stop may take.
	stopSlack = 30 * time.Second
	// probeInterval is how often a server that starts is asked whether it is
	// ready: often, since the first request waits for the answer, and a refused
	// connection costs next to nothing.
	probeInterval = 20 * time.Millisecond
	// probeTimeout bounds one such question.
	probeTimeout = 5 * time.Second
)

// workers carries effects out, each in a goroutine of its own, and posts what
// came of it. Its methods are called by the owner alone.
type workers struct {
	manager *Manager
	timer   *time.Timer
	running sync.WaitGroup
}

func newWorkers(m *Manager) *workers {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &workers{manager: m, timer: t}
}

// wait returns when all workers have ended. Nobody hears their events any more.
func (w *workers) wait() {
	w.timer.Stop()
	done := make(chan struct{})
	go func() {
		w.running.Wait()
		close(done)
	}()
	for {
		select {
		case <-w.manager.events:
		case <-done:
			return
		}
	}
}

func (w *workers) wakeAt(t time.Time) {
	if t.IsZero() {
		w.timer.Stop()
		return
	}
	w.timer.Reset(time.Until(t))
}

func (w *workers) openEngine(h *engineHandle) {
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		e, err := h.spec.Open(ctx, h.log)
		if err != nil {
			w.manager.post(engineEvent{handle: h, err: err})
			return
		}
		removed, err := e.Reconcile(ctx)
		if err != nil {
			err = errors.Join(err, e.Close(ctx))
			e = nil
		}
		w.manager.post(engineEvent{handle: h, engine: e, removed: removed, err: err})
	})
}

func (w *workers) closeEngine(h *engineHandle) {
	e := h.engine
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			h.log.Error("closing the engine failed", zap.Error(err))
		}
	})
}

func (w *workers) openInventory(h *inventoryHandle) {
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
		defer cancel()
		inv, err := h.spec.Open(ctx, h.log)
		w.manager.post(inventoryEvent{handle: h, inventory: inv, err: err})
	})
}

func (w *workers) closeInventory(h *inventoryHandle) {
	inv := h.inventory
	w.running.Go(func() {
		if err := inv.Close(); err != nil {
			h.log.Error("closing the GPU inventory failed", zap.Error(err))
		}
	})
}

// readCards reads the cards first and the instances' processes after, so that
// a process which uses a card and is young is not taken for somebody else's.
func (w *workers) readCards(number uint64, h *inventoryHandle, of []*Instance) {
	running := make([]engine.Running, len(of))
	for n, i := range of {
		running[n] = i.running
	}
	inv, machine := h.inventory, h.machine
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		e := readEvent{number: number, handle: h, pids: make(map[*Instance][]int, len(of))}
		e.cards, e.err = readAll(ctx, inv)
		e.host, _ = w.manager.readHost(machine) // where it is not known, nobody is put to sleep
		for n, i := range of {
			// An instance that has ended has no processes; that is no failure.
			if pids, err := running[n].PIDs(ctx); err == nil {
				e.pids[i] = pids
			}
		}
		w.manager.post(e)
	})
}

func readAll(ctx context.Context, inv gpu.Inventory) ([]gpu.Card, error) {
	cards, err := inv.Read(ctx)
	if err == nil && len(cards) == 0 {
		err = errors.New("no GPU was found")
	}
	return cards, err
}

func (w *workers) fetch(i *Instance) {
	ctx, cancel := context.WithCancel(context.Background())
	i.cancel = cancel
	e := i.engine.engine
	w.running.Go(func() {
		defer cancel()
		l := launch(i, e, "")
		l.Progress = w.progress(i)
		w.manager.post(fetchedEvent{i: i, err: e.Fetch(ctx, l)})
	})
}

// letGo ends what is done for an instance that lives on without the gateway.
func (w *workers) letGo(i *Instance) {
	i.cancel()
	close(i.left)
}

// started is what a start brings forth.
type started struct {
	running       engine.Running
	transport     *http.Transport
	authorization string
	pids          []int // as far as they are there yet
}

func (w *workers) start(i *Instance) {
	ctx, cancel := context.WithTimeout(context.Background(), i.start)
	i.cancel = cancel
	e, srv, size := i.engine.engine, i.spec.Server, i.spec.MaxConcurrent
	w.running.Go(func() {
		defer cancel()
		key := rand.Text()
		l := launch(i, e, key)
		// A line may tell how far the start is, or why it fails.
		l.Output = func(line string) {
			i.tail.Add(line)
			if said := srv.Line(line); said != (server.Line{}) {
				w.manager.post(lineEvent{i, said})
			}
		}
		l.Progress = w.progress(i)
		running, err := e.Start(ctx, l)
		if err != nil {
			w.manager.post(startedEvent{i: i, err: err})
			return
		}
		// A server that ends before the cards are read again is still known by these.
		pids, _ := running.PIDs(ctx)
		run := started{running, newTransport(running, srv.KeepAlive(), size), "Bearer " + key, pids}
		w.manager.post(startedEvent{i: i, run: run})
		w.running.Go(func() {
			select {
			case <-running.Done():
				w.manager.post(exitedEvent{i, running.Exit()})
			case <-i.left:
			}
		})
		if probe(ctx, srv.ReadyRequest(), run) {
			w.manager.post(readyEvent{i})
		}
	})
}

// progress tells the owner how far an engine's work on an instance has come.
func (w *workers) progress(i *Instance) func(string) {
	return func(stage string) { w.manager.post(lineEvent{i, server.Line{Stage: server.Stage(stage)}}) }
}

// launch is what the engine is told of an instance. It may read files.
func launch(i *Instance, e engine.Engine, key string) *engine.Launch {
	s := i.spec
	place := server.Place{
		Charge: i.share, CardTotal: i.total, Free: i.free, Context: i.footing.belief.Context, KVBytes: i.footing.kv,
		Key: key, StartTimeout: i.start, StopGrace: i.stop,
	}
	model := s.Launch
	if len(i.cards) > 0 { // chosen
		model.TensorParallel = len(i.cards)
	}
	if c, ok := e.(engine.Cacher); ok {
		place.Cache = c.Cache()
	}
	l := &engine.Launch{
		Gateway: i.gateway, Model: s.Name, ID: i.id, Hash: i.hash,
		Args:         func(at engine.Listen) []string { return s.Server.Args(model, place, at) },
		GPUs:         i.cards,
		Charge:       i.share,
		StopGrace:    i.stop,
		Image:        s.Launch.Image,
		Mounts:       s.Launch.Mounts,
		FetchCommand: s.Server.FetchCommand(model),
		Output:       func(string) {},
		Progress:     func(string) {},
	}
	l.Env = append(l.Env, i.environ...)
	l.Env = append(l.Env, s.Server.Env(model, place)...)
	l.Env = append(l.Env, s.Launch.Env...)
	return l
}

// newTransport makes the connection pool of one instance. Idle connections are
// dropped well before the server drops them, so that no request meets one that
// is being closed.
func newTransport(r engine.Running, keepAlive time.Duration, size int) *http.Transport {
	return &http.Transport{
		DialContext:         dialer(r),
		MaxIdleConnsPerHost: max(size, 2),
		IdleConnTimeout:     keepAlive * 3 / 4,
		DisableCompression:  true,
		WriteBufferSize:     32 << 10,
		ReadBufferSize:      32 << 10,
	}
}

func dialer(r engine.Running) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) { return r.Dial(ctx) }
}

// probe asks until the server answers 200. False means that it has ended, or
// that ctx has.
func probe(ctx context.Context, ask *http.Request, run started) bool {
	again := time.NewTicker(probeInterval)
	defer again.Stop()
	for {
		if probeOnce(ctx, ask, run) {
			return true
		}
		select {
		case <-again.C:
		case <-run.running.Done():
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func probeOnce(ctx context.Context, ask *http.Request, run started) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req := ask.Clone(ctx)
	req.Header.Set("Authorization", run.authorization)
	resp, err := run.transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (w *workers) stop(i *Instance) {
	running, grace := i.running, i.stop
	i.cancel() // its start is over, whatever it was waiting for
	w.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), grace+stopSlack)
		defer cancel()
		// Told before the stop, so that they are known when its end is: what they
		// hold is still the instance's. Without them, the end of the server stands
		// for the end of its processes.
		if pids, err := running.PIDs(ctx); err == nil {
			w.manager.post(stoppingEvent{i, pids})
		}
		w.manager.post(stoppedEvent{i, running.Stop(ctx, grace)})
	})
}

func (w *workers) abandon(i *Instance) {
	if i.cancel != nil {
		i.cancel()
	}
}

// Interface guards
var _ effects = (*workers)(nil)
