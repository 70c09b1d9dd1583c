package vramman

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file reckons up what the decisions of a plan do to cards, gates, instances
// and the host's memory, in its own way.

// reckoning is a plan's state as its decisions change it.
type reckoning struct {
	s       *scheduler.State
	charged []int64
	held    []bool // per card: its gate is
	gone    []bool // per instance: gone, or another now
	host    int64  // what is left of the host's memory for those who are put to sleep
	kept    bool   // some cards are kept for a demand whose turn has come
}

// going is an instance that makes room.
type going struct {
	n     int
	sleep bool // it sleeps; else it is stopped
}

// stopped has instances stop.
func stopped(all []int) (g []going) {
	for _, n := range all {
		g = append(g, going{n: n})
	}
	return g
}

// aimed is what a start or a waking takes.
type aimed struct {
	cards  []int
	need   []int64
	degree int
	mixed  bool // the cards need not be alike
	wakes  int  // the instance that is woken; -1: none
}

func newReckoning(s *scheduler.State) *reckoning {
	mine := *s
	mine.Instances = slices.Clone(s.Instances)
	r := &reckoning{s: &mine, gone: make([]bool, len(s.Instances)), host: s.HostRoom}
	for _, c := range s.Cards {
		r.charged, r.held = append(r.charged, c.Charged), append(r.held, c.Gate != "")
	}
	return r
}

// aim is what a decision takes.
func (r *reckoning) aim(d scheduler.Decision) aimed {
	q := demandOf(r.s, d.Model)
	if d.Kind == scheduler.Start {
		return aimed{cards: q.Cards, need: q.Need, degree: q.Degree, wakes: -1}
	}
	a := aimed{wakes: r.instance(d.Instance), mixed: true}
	i := &r.s.Instances[a.wakes]
	a.cards, a.degree = i.Cards, len(i.Cards)
	for k, awake := range i.Awake {
		a.need = append(a.need, awake-i.Charges[k])
	}
	return a
}

// takesTurn says whether others are to make room for a model's demand.
func (r *reckoning) takesTurn(model string) bool {
	q := demandOf(r.s, model)
	return q.Conflict == scheduler.Evict && !q.Gentle
}

// instance is the number of one by its name.
func (r *reckoning) instance(id string) int {
	return slices.IndexFunc(r.s.Instances, func(i scheduler.Instance) bool { return i.ID == id })
}

func (r *reckoning) gatesFree(cards []int) bool {
	return !slices.ContainsFunc(cards, func(c int) bool { return r.held[c] })
}

func (r *reckoning) hold(gates []int) {
	for _, c := range gates {
		r.held[c] = true
	}
}

func (r *reckoning) stop(n int, gates []int) {
	r.gone[n] = true
	for k, c := range r.s.Instances[n].Cards {
		r.charged[c] -= r.s.Instances[n].Charges[k]
	}
	r.hold(gates)
}

// lull has an instance sleep.
func (r *reckoning) lull(n int, gates []int) {
	i := &r.s.Instances[n]
	for k, c := range i.Cards {
		r.charged[c] -= i.Charges[k] - i.Resting[k]
	}
	r.host -= i.HostBytes
	i.Phase, i.Awake, i.Charges, i.Resting = scheduler.Asleep, i.Charges, i.Resting, nil
	r.hold(gates)
}

// begin starts or wakes an instance.
func (r *reckoning) begin(d scheduler.Decision) {
	a := r.aim(d)
	for _, v := range d.Victims {
		if v.Sleep {
			r.lull(r.instance(v.Instance), nil)
		} else {
			r.stop(r.instance(v.Instance), nil)
		}
	}
	for _, c := range d.Cards {
		r.charged[c] += a.need[slices.Index(a.cards, c)]
	}
	if a.wakes >= 0 {
		r.gone[a.wakes] = true
	}
	r.hold(d.Gates)
}

// room is how much more could be charged on a card without some instances.
func (r *reckoning) room(card int, without []going) int64 {
	charged := r.charged[card]
	for _, g := range without {
		i := &r.s.Instances[g.n]
		for k, c := range i.Cards {
			if c != card {
				continue
			}
			charged -= i.Charges[k]
			if g.sleep {
				charged += i.Resting[k]
			}
		}
	}
	c := r.s.Cards[card]
	return min(c.Budget-charged, c.Total-c.Foreign-charged)
}

// fits says whether something has room once some instances have made it: on as many
// cards of one class as it wants.
func (r *reckoning) fits(a aimed, without []going, freeGates bool) bool {
	classes := make(map[int]int)
	for k, c := range a.cards {
		if !(freeGates && r.held[c]) && r.room(c, without) >= a.need[k] {
			class := r.s.Cards[c].Class
			if a.mixed {
				class = 0
			}
			if classes[class]++; classes[class] >= a.degree {
				return true
			}
		}
	}
	return false
}

// comingFor says whether room is about to come for a demand that is to be refused
// otherwise, or is held up by nothing but gates, or cards that are kept.
func (r *reckoning) comingFor(d scheduler.Decision) bool {
	if r.kept {
		return true
	}
	q := demandOf(r.s, d.Model)
	aims := []aimed{{cards: q.Cards, need: q.Need, degree: q.Degree, wakes: -1}}
	var soon []going
	for n, i := range r.s.Instances {
		if !r.gone[n] && (i.Phase == scheduler.Stopping || i.Phase == scheduler.Draining && i.Leases == 0 || i.ID == q.Asleep) {
			soon = append(soon, going{n: n})
		}
		if i.ID == q.Asleep {
			if r.gone[n] || i.Leaving {
				return true // about to stop
			}
			aims = append(aims, r.aim(scheduler.Decision{Kind: scheduler.Wake, Model: d.Model, Instance: i.ID}))
		}
	}
	return slices.ContainsFunc(aims, func(a aimed) bool { return r.fits(a, soon, false) })
}

func (r *reckoning) young(n int) bool {
	i := &r.s.Instances[n]
	return i.Phase == scheduler.Ready && r.s.Now.Before(i.ReadySince.Add(i.MinResidency))
}

// idle says whether one could make room.
func (r *reckoning) idle(n int) bool {
	i := &r.s.Instances[n]
	return (i.Phase == scheduler.Ready || i.Phase == scheduler.Asleep) && !i.AlwaysOn && i.Leases == 0 && i.Tickets == 0 && !r.gone[n] && r.gatesFree(i.Cards)
}

// candidates are all who could make room, those first that should go first.
func (r *reckoning) candidates(a aimed) (order []int) {
	for n := range r.s.Instances {
		if n != a.wakes && r.idle(n) {
			order = append(order, n)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		if r.before(a, b) {
			return -1
		}
		return 1
	})
	return order
}

// before is the order of victims: the old, then the young, each as the policy
// says. What the simplest policy says, this reckons up itself.
func (r *reckoning) before(a, b int) bool {
	x, y := &r.s.Instances[a], &r.s.Instances[b]
	switch {
	case r.young(a) != r.young(b):
		return r.young(b)
	case r.s.Policy != scheduler.Policy(scheduler.LRU{}):
		if less := r.s.Policy.Less(x, y); less || r.s.Policy.Less(y, x) {
			return less
		}
	case !x.LastUsed.Equal(y.LastUsed):
		return x.LastUsed.Before(y.LastUsed)
	}
	return x.ID < y.ID
}
