package scheduler_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is a small world for the scheduler to run, second by second: starts
// and stops take their time, models are busy for ever or now and then, and every
// demand must get its turn.

const second = time.Second

// toyModel is a model and its users.
type toyModel struct {
	name     string
	need     int64 // per card, bytes
	degree   int
	alwaysOn bool
	loading  time.Duration // how long a start takes
	work     time.Duration // how long a request takes; 0: for ever, until drained
	rest     time.Duration // from the end of a request to the next; 0: none comes
	begins   time.Duration // when its first request comes
	conflict scheduler.Conflict
	gentle   bool          // it is wanted from when it begins, without a request
	resting  int64         // per card, asleep, bytes; below 0: it cannot sleep
	host     int64         // the host's memory that it takes asleep, bytes
	waking   time.Duration // how long it takes to wake

	busyUntil, nextAt time.Time // of its requests; zero: not

	// Of its demand, when it has one:
	demand bool
	since  time.Time
	ahead  int // demands and loads under way that came before, or at the same moment

	load   *toyLoad
	serves *toyInstance
	sleeps *toyInstance // asleep, or on its way there
}

// toyLoad is a start that was granted.
type toyLoad struct {
	model   *toyModel
	since   time.Time
	cards   []int
	gates   []int
	victims int // that have not made room yet
	ready   time.Time
	wakes   *toyInstance // nil: a new one is started
}

// toyInstance is an instance with its timers.
type toyInstance struct {
	scheduler.Instance
	model   *toyModel
	load    *toyLoad // the start it is a victim of, or that makes it
	drainBy time.Time
	goneAt  time.Time
	gates   bool // its stop, or its way to sleep, holds the gates of its cards
}

type toyWorld struct {
	t         *testing.T
	now       time.Time
	cards     []scheduler.Card
	models    []*toyModel
	instances []*toyInstance
	loads     []*toyLoad
	patience  time.Duration // MaxWaitForTurn
	drain     time.Duration // drain deadline
	stopping  time.Duration // how long a stop takes, or to go to sleep
	host      int64         // memory for those who sleep, bytes
	settings  scheduler.Instance
	policy    scheduler.Policy
	usage     scheduler.Usage
	serial    int
	everyStep bool // ask at every step, not only when something happened or Next has come
	changed   bool
	next      time.Time
	trace     []string
	asked     int
	granted   int
	woken     int
}

// toyWorldOf makes the world of a seed. With rests, models rest between
// requests and come back; without, they are busy for ever or idle for ever.
func toyWorldOf(t *testing.T, seed uint64, rests bool) *toyWorld {
	rng := rand.New(rand.NewPCG(seed, 0))
	sizes := make([]int64, 1+rng.IntN(3))
	for n := range sizes {
		sizes[n] = 20 + rng.Int64N(5)
	}
	s := room(sizes...)
	w := &toyWorld{
		t: t, now: start, cards: s.Cards, policy: []scheduler.Policy{scheduler.LRU{}, scheduler.Cost{}}[seed%2],
		patience: 60 * second, drain: 20 * second, stopping: 2 * second,
	}
	if rng.IntN(2) == 0 {
		w.settings.MinResidency = 30 * second
	}
	if rng.IntN(3) == 0 {
		w.settings.IdleTimeout = 50 * second
	}
	for n := range w.cards {
		if rng.IntN(4) == 0 {
			w.cards[n].Class = 1
		}
	}
	w.host = []int64{0, 10, 1000}[rng.IntN(3)] * gib
	for n := range 2 + rng.IntN(5) {
		m := &toyModel{
			name: fmt.Sprintf("m%d", n), need: (4 + rng.Int64N(17)) * gib, degree: 1 + rng.IntN(len(sizes))*rng.IntN(2),
			loading: time.Duration(3+rng.IntN(15)) * second, begins: time.Duration(rng.IntN(120)) * second,
			alwaysOn: rng.IntN(12) == 0, gentle: rng.IntN(12) == 0, resting: -1, waking: time.Duration(1+rng.IntN(3)) * second,
		}
		if rng.IntN(3) > 0 {
			m.resting, m.host = (1+rng.Int64N(3))*gib, (1+rng.Int64N(8))*gib
		}
		if rng.IntN(6) == 0 {
			m.conflict = scheduler.Conflict(1 + rng.IntN(2))
		}
		switch {
		case rests && rng.IntN(2) == 0, !rests && rng.IntN(4) > 0:
		case rests:
			m.work, m.rest = time.Duration(1+rng.IntN(30))*second, time.Duration(1+rng.IntN(60))*second
		default:
			m.work = second
		}
		m.nextAt = start.Add(m.begins)
		w.models = append(w.models, m)
	}
	return w
}

// settle lets everything happen that is due now.
func (w *toyWorld) settle() {
	for _, i := range slices.Clone(w.instances) {
		switch {
		case i.Phase == scheduler.Starting && !w.now.Before(i.load.ready):
			i.Phase, i.ReadySince, i.LastUsed = scheduler.Ready, w.now, w.now
			w.freeGates(i.load.gates)
			w.loads = slices.DeleteFunc(w.loads, func(l *toyLoad) bool { return l == i.load })
			woken := i.load.wakes != nil
			i.load, i.model.load, i.model.serves = nil, nil, i
			if !woken {
				w.usage.Loaded(i.Model, i.model.loading)
			}
			if !i.model.gentle || !i.model.nextAt.IsZero() {
				w.request(i.model) // who asked for it
			}
		case i.Phase == scheduler.Asleep && !i.goneAt.IsZero() && !w.now.Before(i.goneAt):
			w.fellAsleep(i)
		case i.Phase == scheduler.Stopping && !w.now.Before(i.goneAt):
			for k, c := range i.Cards {
				w.cards[c].Charged -= i.Charges[k]
			}
			if i.gates {
				w.freeGates(i.Cards)
			}
			if i.load != nil {
				i.load.victims--
			}
			w.instances = slices.DeleteFunc(w.instances, func(x *toyInstance) bool { return x == i })
			w.changed = true
		case i.Phase == scheduler.Draining && !i.Expired && !w.now.Before(i.drainBy):
			i.Expired, w.changed = true, true
		}
	}
	for _, m := range w.models {
		if !m.busyUntil.IsZero() && !w.now.Before(m.busyUntil) {
			m.busyUntil, w.changed = time.Time{}, true
			if m.rest > 0 {
				m.nextAt = w.now.Add(m.rest)
			}
			for _, i := range w.instances {
				if i.model == m {
					i.Leases, i.Tickets = 0, 0
				}
			}
		}
	}
	for _, l := range w.loads {
		if l.victims == 0 && l.ready.IsZero() {
			w.startServer(l)
		}
	}
	for _, m := range w.models {
		if !m.nextAt.IsZero() && !w.now.Before(m.nextAt) {
			m.nextAt = time.Time{}
			w.ask(m)
		}
	}
}

// ask is a request that arrives.
func (w *toyWorld) ask(m *toyModel) {
	w.usage.Used(m.name, w.now)
	switch {
	case m.serves != nil:
		w.request(m)
	case !m.demand && m.load == nil:
		m.demand, m.since, m.ahead = true, w.now, len(w.loads)
		for _, o := range w.models {
			if o != m && o.demand && !o.gentle {
				m.ahead++
				if o.since.Equal(w.now) {
					o.ahead++ // neither was first
				}
			}
		}
		w.changed = true
	}
}

// request has the model's instance serve one.
func (w *toyWorld) request(m *toyModel) {
	m.serves.Leases, m.serves.Tickets, m.serves.LastUsed = 1, 1, w.now
	if m.work > 0 {
		m.busyUntil = w.now.Add(m.work)
	}
	w.changed = true
}

func (w *toyWorld) freeGates(cards []int) {
	for _, c := range cards {
		w.cards[c].Gate = ""
	}
	w.changed = true
}

func (w *toyWorld) holdGates(cards []int, who string) {
	for _, c := range cards {
		if w.cards[c].Gate != "" {
			w.t.Fatalf("%s takes the gate of card %d, which %s holds", who, c, w.cards[c].Gate)
		}
		w.cards[c].Gate = who
	}
}

// startServer charges a load's cards, which must have the room.
func (w *toyWorld) startServer(l *toyLoad) {
	if l.wakes != nil {
		w.wakeServer(l)
		return
	}
	m := l.model
	w.serial++
	i := &toyInstance{Instance: w.settings, model: m, load: l}
	i.ID, i.Model, i.Phase, i.Cards, i.DemandSince, i.AlwaysOn = fmt.Sprintf("%s-%d", m.name, w.serial), m.name, scheduler.Starting, l.cards, l.since, m.alwaysOn
	i.HostBytes = m.host
	for _, c := range l.cards {
		i.Charges = append(i.Charges, m.need)
		if w.cards[c].Room(w.cards[c].Charged) < m.need {
			w.t.Fatalf("%v: %s starts on card %d, which has no room", w.now.Sub(start), m.name, c)
		}
		w.cards[c].Charged += m.need
		if m.resting >= 0 {
			i.Resting = append(i.Resting, min(m.resting, m.need))
		}
	}
	l.ready = w.now.Add(m.loading)
	w.instances = append(w.instances, i)
	w.changed = true
}

func (w *toyWorld) snapshot() *scheduler.State {
	s := &scheduler.State{Now: w.now, Cards: slices.Clone(w.cards), MaxWaitForTurn: w.patience, Policy: w.policy, HostRoom: w.hostRoom()}
	for _, i := range w.instances {
		if m := i.model; i.Phase == scheduler.Asleep {
			i.Tickets = 0
			if !m.gentle && (m.demand || m.load != nil) {
				i.Tickets = 1
			}
		}
		i.LoadTime, i.Likelihood = w.usage.LoadTime(i.Model), w.usage.Likelihood(i.Model)
		s.Instances = append(s.Instances, i.Instance)
	}
	for _, m := range w.models {
		if m.demand && (m.sleeps == nil || m.sleeps.goneAt.IsZero()) { // who falls asleep cannot be woken yet
			d := wants(s, m.name, m.need/gib, m.degree, 0)
			d.Since, d.AlwaysOn, d.Conflict, d.Gentle = m.since, m.alwaysOn, m.conflict, m.gentle
			if m.sleeps != nil {
				d.Asleep = m.sleeps.ID
			}
		}
	}
	return s
}

// decide carries plans out until one has nothing to do at once.
func (w *toyWorld) decide() {
	for range 20 {
		w.asked++
		s := w.snapshot()
		plan := scheduler.Decide(s)
		w.next, w.changed = plan.Next, false
		for _, d := range plan.Decisions {
			w.carryOut(d)
		}
		if !w.changed {
			return
		}
	}
	w.t.Fatalf("%v: it never comes to rest", w.now.Sub(start))
}

func (w *toyWorld) carryOut(d scheduler.Decision) {
	find := func(id string) *toyInstance {
		return w.instances[slices.IndexFunc(w.instances, func(i *toyInstance) bool { return i.ID == id })]
	}
	model := func() *toyModel {
		return w.models[slices.IndexFunc(w.models, func(m *toyModel) bool { return m.name == d.Model })]
	}
	switch d.Kind {
	case scheduler.Wait:
		return
	case scheduler.Start, scheduler.Wake:
		m := model()
		l := &toyLoad{model: m, since: m.since, cards: d.Cards, gates: d.Gates, victims: len(d.Victims)}
		w.holdGates(d.Gates, "start "+m.name)
		if d.Kind == scheduler.Wake {
			l.wakes = find(d.Instance)
			w.woken++
		} else if m.sleeps != nil {
			w.t.Fatalf("%s starts while %s sleeps", m.name, m.sleeps.ID)
		}
		for _, victim := range d.Victims {
			v := find(victim.Instance)
			v.load = l
			if victim.Sleep {
				w.sleep(v)
			} else {
				w.stop(v)
			}
		}
		w.turnCame(m)
		m.load, m.demand = l, false
		w.loads = append(w.loads, l)
		if l.victims == 0 {
			w.startServer(l)
		}
	case scheduler.Stop:
		i := find(d.Instance)
		w.holdGates(d.Gates, "stop "+i.ID)
		i.gates = true
		w.stop(i)
	case scheduler.Sleep:
		i := find(d.Instance)
		w.holdGates(d.Gates, "sleep "+i.ID)
		i.gates = true
		w.sleep(i)
	case scheduler.Drain:
		i := find(d.Instance)
		if i.Phase == scheduler.Ready { // two demands may want it gone
			i.Phase, i.drainBy = scheduler.Draining, w.now.Add(w.drain)
			i.model.serves = nil
			w.again(i.model)
		}
	case scheduler.Refuse:
		model().demand = false
	}
	w.changed = true
	w.trace = append(w.trace, fmt.Sprintf("%v %s", w.now.Sub(start), words(d)))
}

// again brings the next request of a model that is always busy and just lost
// its instance.
func (w *toyWorld) again(m *toyModel) {
	if m.work == 0 {
		m.nextAt = w.now.Add(second)
	}
}

func (w *toyWorld) stop(i *toyInstance) {
	i.Phase, i.Leases, i.Tickets, i.goneAt = scheduler.Stopping, 0, 0, w.now.Add(w.stopping)
	if i.model.sleeps == i {
		i.model.sleeps = nil
	}
	if i.model.serves == i {
		i.model.serves = nil
		w.again(i.model)
	}
}

// turnCame checks how long a demand waited for its turn: for its own, and for
// that of each that came before it.
func (w *toyWorld) turnCame(m *toyModel) {
	w.granted++
	if m.conflict != scheduler.Evict || m.gentle {
		return // it has no turn
	}
	var loading time.Duration
	for _, o := range w.models {
		loading = max(loading, o.loading)
	}
	turn := w.patience + w.drain + loading + 2*w.stopping + 3*second
	if waited, bound := w.now.Sub(m.since), time.Duration(m.ahead+1)*turn; waited > bound {
		w.t.Fatalf("%v: %s waited for %v with %d before it, at most %v would do\n%s",
			w.now.Sub(start), m.name, waited, m.ahead, bound, strings.Join(w.trace, "\n"))
	}
}

// run lets so much time pass, and checks at its end that nobody waits for ever.
func (w *toyWorld) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(second) {
		w.settle()
		if w.everyStep || w.changed || !w.next.IsZero() && !w.now.Before(w.next) {
			w.decide()
		}
		for n, c := range w.cards {
			if c.Room(c.Charged) < 0 {
				w.t.Fatalf("%v: card %d is charged beyond its budget", w.now.Sub(start), n)
			}
		}
	}
	for _, m := range w.models {
		if m.demand {
			w.turnCame(m)
		}
	}
}
