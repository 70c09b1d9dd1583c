package vramman

import (
	"errors"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
)

// This file is the world's engine: it opens, fetches, stops and fails. How
// servers start and what becomes of them is in world_server_test.go.

// machine is what runs in a world.
type machine struct {
	processes []*process       // those that live or whose memory is not free yet
	byPID     map[int]*process // all that there ever were
	pids      int
	started   map[*Instance]*process
	abandoned map[*Instance]bool
	stops     map[*Instance]int // how often each was asked to stop
	opened    int               // engines and inventories
	down      time.Time         // until then the daemon answers nobody
}

func (m *machine) begin() {
	m.pids, m.byPID = 100, make(map[int]*process)
	m.started, m.abandoned, m.stops = make(map[*Instance]*process), make(map[*Instance]bool), make(map[*Instance]int)
}

// process is one server's process and its memory.
type process struct {
	pid     int
	i       *Instance
	life    int              // the gateway that started it
	worker  int              // a child that takes the memory over; 0: not yet
	told    []int            // the processes that the owner was told of
	seen    map[string]int64 // the most that a reading told of, per card
	used    map[string]int64
	ended   bool
	unseen  bool // its memory was missing from a reading that was told after its end
	running *worldRunning
	misread misreading
	endedAt time.Time

	missed int              // in how many lists in a row
	grown  bool             // it took more when it served
	asleep bool             // it has let go of most of its memory
	awake  map[string]int64 // what it used before
	pinned int64            // the host's memory that it takes
	// When it answered that it sleeps; what the last reading told of it; and the
	// most that was told since it counts as asleep.
	sleptAt      time.Time
	last, rested map[string]int64
}

// holder is the process that holds the memory.
func (p *process) holder() int {
	if p.worker != 0 {
		return p.worker
	}
	return p.pid
}

// all are the server's processes.
func (p *process) all() []int {
	if p.worker != 0 {
		return []int{p.pid, p.worker}
	}
	return []int{p.pid}
}

// tellOf notes that the owner is told of some of the processes.
func (p *process) tellOf(pids []int) []int {
	for _, n := range pids {
		if !slices.Contains(p.told, n) {
			p.told = append(p.told, n)
		}
	}
	return pids
}

// known says whether the owner knows whose the memory is.
func (p *process) known() bool { return slices.Contains(p.told, p.holder()) }

var errDown = errors.New("the daemon does not answer")

func (w *world) daemonDown() bool { return w.now.Before(w.down) }

func (w *world) openEngine(h *engineHandle) {
	w.opened++
	n := w.opened
	w.later(w.delay("engine opens", "", n, time.Millisecond, time.Second), func() {
		if w.daemonDown() || w.fault("the engine does not open", "", n, 10) {
			w.note("the engine cannot be opened")
			w.tell(engineEvent{handle: h, err: errors.New("no engine today")})
			return
		}
		var e engine.Engine = noEngine{}
		if w.lister {
			e = worldEngine{}
		}
		w.listedAt = w.now
		w.tell(engineEvent{handle: h, engine: e, removed: w.reconcile()})
	})
}

// reconcile ends what earlier gateways left behind.
func (w *world) reconcile() (removed int) {
	for _, p := range slices.Clone(w.processes) {
		if p.life != w.life && !p.ended {
			w.end(p, engine.Exit{})
			removed++
		}
	}
	clear(w.strays)
	return removed
}

func (w *world) closeEngine(h *engineHandle) {
	for _, i := range w.owner.instances {
		w.must(i.engine != h || i.word.state() == StateUnreleased && w.owner.closing, 9, "an engine is closed under instance %s", i.id)
	}
}

func (w *world) fetch(i *Instance) {
	d := w.delay("fetch", i.id, w.life, 0, 2*time.Second)
	if w.happens("slow fetch", i.id, w.life, 30) {
		d *= 60
	}
	w.later(d/2, func() { w.tell(lineEvent{i, stageLine("pulling")}) })
	w.later(d, func() {
		var err error
		switch {
		case w.abandoned[i]:
			err = errors.New("given up")
		case w.daemonDown():
			err = errDown
		case w.fault("a fetch fails", i.id, w.life, 25):
			err = errors.New("no such image")
		}
		w.tell(fetchedEvent{i, err})
	})
}

func (w *world) stop(i *Instance) {
	w.checkStop(i)
	p := w.started[i]
	w.stops[i]++
	n := w.stops[i]
	if w.daemonDown() || w.fault("a stop fails", i.id, n, 30) {
		w.note("%s: the stop fails", i.id)
		w.later(w.delay("failing stop", i.id, n, time.Second, 40*time.Second), func() { w.tell(stoppedEvent{i: i, err: errDown}) })
		return
	}
	if w.fault("dies while it stops", i.id, w.life, 5) {
		w.later(w.delay("late death", i.id, n, 0, time.Second), func() { w.dies(p) })
	}
	w.later(w.delay("stop", i.id, n, 100*time.Millisecond, 5*time.Second), func() {
		w.tell(stoppingEvent{i, p.tellOf(p.all())})
		w.end(p, engine.Exit{})
		w.later(w.delay("stopped", i.id, n, 0, 100*time.Millisecond), func() { w.tell(stoppedEvent{i: i}) })
	})
}

// end has a server end: its memory becomes free a little later.
func (w *world) end(p *process, exit engine.Exit) { w.ends(p, exit, false) }

// ends is end; quiet says that nobody is told of it.
func (w *world) ends(p *process, exit engine.Exit, quiet bool) {
	if p.ended {
		return
	}
	p.ended, p.endedAt, p.pinned = true, w.now, 0
	p.running.exit = exit
	close(p.running.done)
	late := w.delay("memory is freed", p.i.id, p.life, 0, 2*time.Second)
	if w.fault("memory stays", p.i.id, p.life, 20) {
		late = w.delay("memory is freed", p.i.id, p.life, 20*time.Second, time.Minute)
		w.note("%s: its memory stays in use for %v after its end", p.i.id, late.Round(time.Second))
	}
	w.after(late, func() {
		w.processes = slices.DeleteFunc(w.processes, func(x *process) bool { return x == p })
		p.used = nil
	})
	if p.life == w.life && !quiet {
		w.later(w.delay("exit is told", p.i.id, p.life, 0, 100*time.Millisecond), func() { w.tell(exitedEvent{p.i, exit}) })
	}
}

func (*world) letGo(*Instance) {}

func (w *world) abandon(i *Instance) { w.abandoned[i] = true }

// engineTroubles has the daemon restart now and then: it answers nobody for a
// while, and its servers end or live on.
func (w *world) engineTroubles(n int) {
	w.after(w.chanceBetween("daemon", "", n, time.Minute, 15*time.Minute), func() {
		defer w.engineTroubles(n + 1)
		if !w.fault("the daemon restarts", "", n, 1) {
			return
		}
		l := w.luck("how the daemon restarts", "", n)
		w.down = w.now.Add(l.between(0, 30*time.Second))
		all := l.intN(2) == 0
		w.note("the daemon restarts and is away for %v%s", w.down.Sub(w.now).Round(time.Second), map[bool]string{true: "; all servers end"}[all])
		if all {
			for _, p := range slices.Clone(w.processes) {
				w.end(p, engine.Exit{Code: -1, Signal: "killed"})
			}
		}
	})
}

// chanceBetween is a time that is drawn even where delays do not vary: it says
// when something happens, not how long it takes.
func (w *world) chanceBetween(what, who string, n int, least, most time.Duration) time.Duration {
	l := w.luck(what, who, n)
	return l.between(least, most)
}
