package scheduler

import (
	"cmp"
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// Decide says what to do now. Its decisions are meant to be carried out in
// their order; when one cannot be (an instance that was idle got a request
// meanwhile), the rest is void and Decide is to be asked again.
//
// First come those who end without anybody's demand. Instances that are drained
// or leaving stop. Those idle for longer than they may are put to sleep, where
// they can be, and stop when they were unused for as long again. On cards that
// are squeezed, idle instances stop in the policy's order, no more of them than
// other programs need room.
//
// Then each demand, first come first served. Of those that came at the same
// moment, always-on models go first. How many requests wait for each does not
// change the order, which would turn with every request. Gentle demands come
// after all others.
//
//  1. Cards with room as it is: start there, or wait for their gates. Room that is
//     about to come, since who holds it is stopping, is waited for, too.
//  2. Room once idle instances have made it: those, in the policy's order, and no
//     more than needed. They sleep where they can and where that frees enough; only
//     if it does not, they stop, but for those who may sleep after all. The young
//     ones (below their minimum residency) go only if the others do not suffice.
//  3. Room once busy instances are idle or others have ended: wait for them.
//     After MaxWaitForTurn those in the way are drained (or stopped, if they are
//     asleep and their model is asked for), and the cards are kept from every later
//     demand, so that nobody waits for ever.
//  4. No room whatever ends: refuse, with the figures.
//
// A set of several cards is of one class.
//
// A demand whose model is asleep looks in the same way for the room that its
// instance lacks, on that instance's cards, and wakes it. Where it would have to
// wait while there is room for a new instance on other cards, and where no wait
// would do while a new instance could find a place, the sleeping one is stopped,
// and the demand is an ordinary one the next time.
//
// Hold leaves out step 2, and what comes after MaxWaitForTurn in step 3. Reject
// is refused after step 1. A gentle demand does as Hold does, waits where others
// are refused, and uses no card that another demand waits for.
func Decide(s *State) Plan {
	d := newDecider(s)
	d.ends()
	d.yield()
	for _, n := range d.queue() {
		d.demand(&s.Demands[n])
	}
	return d.plan
}

// decider is one decision in the making: the state, and what the decisions so
// far have done to it.
type decider struct {
	*State
	cards  []placement.Card
	gates  []string // per card, who holds the gate
	kept   []string // per card, the model whose turn it is kept for
	wanted []bool   // per card: a demand waits that might use it
	taken  []bool   // per instance: gone, or another now, by a decision of this plan
	young  []bool   // per instance: its minimum residency has not passed
	order  []int    // the instances, those first that should go first
	host   int64    // what is left of HostRoom
	plan   Plan
	on     [][]int // per card, the instances that are charged on it; nil: not asked yet

	// Scratch of look, victims, hopes and evict.
	place    placement.Planner
	requests [2]placement.Request
	offered  []placement.Victim
	numbers  []int
	sleeps   []bool
	idlers   []int
	outlooks []outlook
	freed    []int64

	// Scratch of verdicts.
	line    []byte
	staying []int
}

func newDecider(s *State) *decider {
	mine := *s
	// The plan adds instances of its own: never into the caller's array.
	mine.Instances = append(make([]Instance, 0, len(s.Instances)+len(s.Demands)+4), s.Instances...)
	d := decider{
		State:  &mine,
		cards:  make([]placement.Card, len(s.Cards)),
		gates:  make([]string, len(s.Cards)),
		kept:   make([]string, len(s.Cards)),
		wanted: make([]bool, len(s.Cards)),
		taken:  make([]bool, len(s.Instances)),
		young:  make([]bool, len(s.Instances)),
		order:  make([]int, len(s.Instances)),
		host:   s.HostRoom,
	}
	for i, c := range s.Cards {
		d.cards[i] = placement.Card{Card: c.Card, Charged: c.Charged, Class: c.Class}
		d.gates[i] = c.Gate
	}
	for n := range d.order {
		d.order[n], d.young[n] = n, mine.Instances[n].young(s.Now)
	}
	slices.SortFunc(d.order, d.compare)
	return &d
}

// compare puts instances past their residency before young ones, and each kind
// in the policy's order.
func (d *decider) compare(a, b int) int {
	x, y := &d.Instances[a], &d.Instances[b]
	if d.young[a] != d.young[b] {
		if d.young[a] {
			return 1
		}
		return -1
	}
	switch {
	case d.Policy.Less(x, y):
		return -1
	case d.Policy.Less(y, x):
		return 1
	}
	return cmp.Compare(x.ID, y.ID)
}

// queue is the order in which demands have their say.
func (d *decider) queue() []int {
	line := make([]int, len(d.Demands))
	for n := range line {
		line[n] = n
	}
	rank := func(later bool) int {
		if later {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(line, func(a, b int) int {
		x, y := &d.Demands[a], &d.Demands[b]
		return cmp.Or(
			rank(x.Gentle)-rank(y.Gentle),
			x.Since.Compare(y.Since),
			rank(!x.AlwaysOn)-rank(!y.AlwaysOn),
		)
	})
	return line
}

// aim is what a demand would have done: a start on some of its cards, or the waking
// of its sleeping instance on all of that one's.
type aim struct {
	*Demand
	cards  []int
	need   []int64 // bytes more that are charged on each of them
	degree int
	wakes  int  // the instance that is woken; nobody: one is started
	spent  int  // the sleeping instance that is stopped for the start; nobody: none
	due    bool // its turn has come, as far as it goes by when it began
}

const nobody = -1

func (d *decider) start(q *Demand) *aim {
	return &aim{Demand: q, cards: q.Cards, need: q.Need, degree: q.Degree, wakes: nobody, spent: nobody, due: d.due(q)}
}

// demand decides about one model that should run.
func (d *decider) demand(q *Demand) {
	if q.Asleep != "" && d.wakeOrReplace(q) {
		return
	}
	a := d.start(q)
	d.settle(a, d.look(a))
}

// prospect is what an aim can count on.
type prospect struct {
	when
	choice  placement.Choice
	victims []victim // for now: who makes room first
	others  []int    // for soon and later: the instances that are waited for
}

type when int

const (
	now      when = iota
	atGate        // there is room, and a gate is held
	soon          // there will be room at once, since who holds it is stopping
	later         // there will be once others have ended
	behind        // there will be, on cards for which others have waited longer
	hopeless      // there will not be, or it may not be waited for
)

// look finds out what an aim can count on.
func (d *decider) look(a *aim) prospect {
	all := d.request(&d.requests[0], a, func(c int) bool { return d.kept[c] == "" && !(a.Gentle && d.wanted[c]) })
	free := d.request(&d.requests[1], a, func(c int) bool { return d.gates[c] == "" && d.kept[c] == "" && !(a.Gentle && d.wanted[c]) })
	if c, ok := d.place.Place(d.cards, nil, all); ok {
		if c, ok := d.place.Place(d.cards, nil, free); ok {
			return prospect{choice: c}
		}
		return prospect{when: atGate, choice: c}
	}
	coming, numbers := d.coming(a)
	if c, ok := d.place.Place(d.cards, coming, all); ok {
		return prospect{when: soon, choice: c, others: pick(numbers, c.Victims)}
	}
	if a.takesTurn() {
		if c, victims, ok := d.evict(a, free); ok {
			return prospect{choice: c, victims: victims}
		}
	}
	if a.rejects() {
		return prospect{when: hopeless}
	}
	var hopes []placement.Victim
	hopes, numbers = d.hopes(a)
	if c, ok := d.place.Place(d.cards, hopes, all); ok {
		if a.takesTurn() {
			d.wakeForOutlook(a, numbers)
		}
		return prospect{when: later, choice: c, others: pick(numbers, c.Victims)}
	}
	// That cards are kept for another's turn is no reason to refuse.
	if _, ok := d.place.Place(d.cards, hopes, d.request(&d.requests[0], a, func(int) bool { return true })); ok {
		return prospect{when: behind}
	}
	return prospect{when: hopeless}
}

// settle decides as the prospect is.
func (d *decider) settle(a *aim, p prospect) {
	switch {
	case p.when == now:
		d.begin(a, p)
		return
	case p.when == hopeless && !a.Gentle:
		d.refuse(a)
		return
	case p.when == atGate, p.when == soon, p.when == later:
		d.wait(a, p)
	case p.when == behind:
		d.stand(a, p, "other models have waited for longer"+d.others(a))
	default:
		d.stand(a, p, d.explain(a))
	}
	d.want(a)
}

// want notes which cards a demand that waits might use.
func (d *decider) want(a *aim) {
	if a.Gentle {
		return
	}
	for _, cards := range [][]int{a.Cards, a.cards} {
		for _, c := range cards {
			d.wanted[c] = true
		}
	}
}

// request is an aim's request for those of its cards that may be used. It is good
// until the next that is made in the same place.
func (d *decider) request(in *placement.Request, a *aim, usable func(card int) bool) placement.Request {
	r := placement.Request{Degree: a.degree, Mixed: a.wakes != nobody, Cards: in.Cards[:0], Need: in.Need[:0]}
	for k, c := range a.cards {
		if usable(c) {
			r.Cards, r.Need = append(r.Cards, c), append(r.Need, a.need[k])
		}
	}
	*in = r
	return r
}

func pick(numbers, which []int) []int {
	out := make([]int, len(which))
	for i, w := range which {
		out[i] = numbers[w]
	}
	return out
}
