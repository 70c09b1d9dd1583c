package vramman

import (
	"container/heap"
	"fmt"
	"runtime/debug"
	"time"
)

// world is everything around one owner: cards, servers that take their time
// and fail, requests that come and go, configurations that change, and a clock
// that only it moves. It carries the owner's effects out.
//
// What happens in it follows from its plot alone. Each of its subjects has a
// file: this one owns the clock and what happens when.
type world struct {
	plot
	now   time.Time
	queue schedule
	steps int
	still int                               // steps since the clock moved
	live  bool                              // not being wound up yet
	wound time.Time                         // when that began
	lived struct{ decisions, happened int } // how many there were before

	mgr   *Manager
	owner *owner
	life  int       // how many gateways there were before this one
	wake  time.Time // when the owner wants to be woken
	wakes int       // the number of the wake that counts

	known     map[cue]bool
	happened  []cue // each once, in the order in which they did
	faults    bool  // servers fail, die, hang; readings fail; other programs take VRAM
	calm      bool  // they never do
	lies      bool  // figures are wrong at times
	varying   bool  // delays differ
	disturbed time.Time

	machine
	gpus
	crowd
	config
	witness
	dormitory
	archive
	register
	tale *tale // nil: nobody listens

	broken *broken
}

// plot is what a world follows from.
type plot struct {
	seed   uint64
	events int          // how many things happen before it is wound up
	only   map[cue]bool // what may happen; nil: everything
	until  time.Time    // with only: when it ends, or is wound up
	loose  bool         // it is not wound up
	told   bool         // its story is wanted
	also   func(*world) // one more thing that must be so after every event
}

// broken is an invariant that was broken.
type broken struct {
	invariant int // of DESIGN section 5; 0: the owner panicked
	check     string
	message   string
	stack     string
}

func (b *broken) String() string {
	if b.invariant == 0 {
		return fmt.Sprintf("%s\n%s", b.message, b.stack)
	}
	return fmt.Sprintf("invariant %d: %s", b.invariant, b.message)
}

// same says whether two worlds broke at the same check.
func (b *broken) same(as *broken) bool {
	return b != nil && b.invariant == as.invariant && b.check == as.check
}

// breaks ends a world in which an invariant does not hold. The format stands
// for the check.
func (w *world) breaks(invariant int, format string, args ...any) {
	if *simInvariant != 0 && invariant != *simInvariant {
		return
	}
	panic(&broken{invariant: invariant, check: format, message: fmt.Sprintf(format, args...)})
}

// must is breaks unless something holds.
func (w *world) must(holds bool, invariant int, format string, args ...any) {
	if !holds {
		w.breaks(invariant, format, args...)
	}
}

// worldBegin is when every world begins.
var worldBegin = time.Unix(1_800_000_000, 0)

func newWorld(p plot) *world {
	w := &world{plot: p, now: worldBegin, live: true, known: make(map[cue]bool)}
	w.faults, w.lies = p.seed%4 != 0, p.seed%4 == 3
	w.calm = !w.faults
	w.varying = w.happens("delays vary", "", 0, 1)
	w.machine.begin()
	w.crowd.begin()
	w.witness.begin()
	w.dormitory.begin()
	w.archive.begin()
	w.register.begin()
	if p.told {
		w.tale = new(tale)
	}
	w.open()
	return w
}

// open has a gateway begin, with nothing but what it finds.
func (w *world) open() {
	w.mgr = New()
	w.owner = newOwner(w.mgr, w)
	w.owner.planned = w.checkPlan
	w.storeTold, w.loaded, w.listedAt = false, nil, w.now
	clear(w.degrees) // what was not written is found anew
	clear(w.squeezed)
}

// runWorld makes a world, lets it happen, winds it up, and checks it all the
// way. Whether it broke is in what it returns.
func runWorld(p plot) *world {
	w := newWorld(p)
	w.guard(func() {
		if !w.populate() {
			return
		}
		for w.goesOn() && w.step() {
			w.check()
		}
		w.lived.decisions, w.lived.happened = len(w.decisions), len(w.happened)
		if !p.loose {
			w.windUp()
		}
	})
	return w
}

// goesOn says whether it is too early to wind the world up.
func (w *world) goesOn() bool {
	if w.only == nil {
		return w.steps < w.events
	}
	// As many steps as before could last for ever, now that less happens.
	return w.steps < 4*w.events && len(w.queue.items) > 0 && !w.queue.items[0].at.After(w.until)
}

// guard notes what breaks in it.
func (w *world) guard(do func()) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *broken:
			w.broken = r
		default:
			w.broken = &broken{check: fmt.Sprint(r), message: fmt.Sprintf("panic: %v", r), stack: string(debug.Stack())}
		}
		if w.broken != nil {
			w.listen()
		}
	}()
	do()
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

func (w *world) at(t time.Time, do func()) {
	w.queue.seq++
	heap.Push(&w.queue, item{t, w.queue.seq, do})
}

// after has something happen after a while, whatever becomes of the gateway.
func (w *world) after(d time.Duration, do func()) { w.at(w.now.Add(d), do) }

// later is after for what the gateway does itself: it ends with it.
func (w *world) later(d time.Duration, do func()) {
	life := w.life
	w.after(d, func() {
		if life == w.life {
			do()
		}
	})
}

// tell has the owner handle an event, and all wakes that follow from it.
func (w *world) tell(e event) {
	w.hear(e)
	for range 1000 {
		select {
		case <-w.mgr.woken:
			w.hear(wakeEvent{})
		default:
			return
		}
	}
	w.breaks(5, "the owner wakes itself without end")
}

func (w *world) hear(e event) {
	w.owner.handle(w.now, e)
	w.touched = false
	w.listen()
}

// step lets the next thing happen. It returns false when nothing is to come.
func (w *world) step() bool {
	if len(w.queue.items) == 0 {
		return false
	}
	next := heap.Pop(&w.queue).(item)
	if next.at.After(w.now) {
		w.checkQuiet(next.at.Add(-1))
		w.checkLists()
		w.now, w.still = next.at, 0
	}
	w.still++
	w.must(w.still <= 1000, 5, "the clock stands still, and the owner wants to be woken at %v", w.wake)
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

func (w *world) wakeAt(t time.Time) {
	w.wakes++
	w.wake = t
	if t.IsZero() {
		return
	}
	w.must(t.After(w.now), 5, "the owner wants to be woken at %v, which is not later than now: it spins", t)
	mine := w.wakes
	w.at(t, func() {
		if mine == w.wakes {
			w.tell(wakeEvent{})
		}
	})
}
