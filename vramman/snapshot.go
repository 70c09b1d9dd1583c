package vramman

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file makes pictures of the owner's state: for the scheduler, and for people.

// want sets the wanted bits. It comes before every snapshot: what becomes idle
// after the snapshot was taken then wakes the owner, and nothing is missed.
// While a demand is open, every ready instance is wanted: more than the waiting
// plans depend on, but a wake is cheap and only the last lease's end makes one.
func (o *owner) want(now time.Time) {
	open := slices.ContainsFunc(o.records, func(r *record) bool { return o.placeable(now, r) })
	for _, i := range o.instances {
		if i.word.state() == StateReady {
			on := open || i.leaving || slices.ContainsFunc(i.cards, func(c string) bool { return o.squeezed[c] > 0 })
			i.word.want(on)
			i.model.wanted.Store(on)
		}
	}
}

// placeable says whether a model's demand is the scheduler's business now.
func (o *owner) placeable(now time.Time, r *record) bool {
	i := r.current
	if !o.read || o.readErr != nil || !o.ready() || r.demand == nil || !o.sized(r) {
		return false
	}
	if i == nil {
		return o.asleepOf(r) != nil
	}
	return i.fetched && i.word.state() == StateFetching && o.loadOf(i) == nil && !o.heldBack(now, r)
}

// poolOf is the pool of a model's configuration.
func (o *owner) poolOf(r *record) *Pool { return r.from.pool(r.spec.Pool) }

func (o *owner) expired(i *Instance, now time.Time) bool {
	return i.word.state() == StateDraining && !now.Before(i.drainBy)
}

// phases says what the scheduler sees of each state.
var phases = map[State]scheduler.Phase{
	StateStarting:   scheduler.Starting,
	StateMeasuring:  scheduler.Starting,
	StateReady:      scheduler.Ready,
	StateAsleep:     scheduler.Asleep,
	StateWaking:     scheduler.Starting,
	StateDraining:   scheduler.Draining,
	StateStopping:   scheduler.Stopping,
	StateUnreleased: scheduler.Unreleased,
}

// snapshot is all that the scheduler decides on. A load that has been granted
// is in it as if its victims were gone and its room were reserved: only its
// gates say that it is still on its way.
func (o *owner) snapshot(now time.Time) scheduler.State {
	s := scheduler.State{Now: now, Policy: scheduler.LRU{}}
	if o.spec != nil { // without a configuration, things only end
		s.MaxWaitForTurn, s.Policy = o.spec.MaxWaitForTurn, o.spec.Eviction
	}
	s.HostRoom = o.hostRoom()
	index := make(map[string]int, len(o.cards))
	for _, c := range o.ledger.Cards() {
		if o.present(c.UUID) == nil {
			continue
		}
		index[c.UUID] = len(s.Cards)
		s.Cards = append(s.Cards, scheduler.Card{
			Card: c, Charged: o.ledger.Charged(c.UUID), Gate: o.gates[c.UUID], Class: o.classOf(c.UUID), Squeezed: o.squeezed[c.UUID] > 1,
		})
	}
	leaving := make(map[*Instance]bool)
	for _, l := range o.loads {
		if l.reserved {
			continue
		}
		for _, v := range l.victims {
			leaving[v] = true
			var rests []int64 // what will be left of a victim that goes to sleep
			if v.word.state() == StateSleeping {
				rests = o.restingOf(v)
			}
			for n, c := range v.cards {
				if k, ok := index[c]; ok {
					s.Cards[k].Charged -= v.charge(n)
					if rests != nil {
						s.Cards[k].Charged += rests[n]
					}
				}
			}
			if rests != nil {
				s.Instances = append(s.Instances, o.sleeper(v, rests, index, now))
			}
		}
		if l.wakes {
			leaving[l.instance] = true
			for n, c := range l.instance.cards {
				if k, ok := index[c]; ok {
					s.Cards[k].Charged -= l.instance.charge(n)
				}
			}
		}
		coming := scheduler.Instance{ID: l.instance.id, Model: l.instance.model.name, Phase: scheduler.Starting, AlwaysOn: l.instance.spec.AlwaysOn && !l.instance.spare()}
		o.tellUsage(&coming)
		for n, c := range l.cards {
			if k, ok := index[c]; ok {
				coming.Cards = append(coming.Cards, k)
				coming.Charges = append(coming.Charges, l.need[n])
				s.Cards[k].Charged += l.need[n]
			}
		}
		s.Instances = append(s.Instances, coming)
	}
	for _, i := range o.instances {
		state := i.word.state()
		if !state.charged() || leaving[i] || o.unseenAndHeld(i) {
			continue
		}
		if state == StateSleeping { // as if it slept already: only its gates say that it does not
			rests := o.restingOf(i)
			for n, c := range i.cards {
				if k, ok := index[c]; ok {
					s.Cards[k].Charged += rests[n] - i.charge(n)
				}
			}
			s.Instances = append(s.Instances, o.sleeper(i, rests, index, now))
			continue
		}
		s.Instances = append(s.Instances, o.picture(i, state, now, index))
	}
	for _, r := range o.records {
		if !o.placeable(now, r) {
			continue
		}
		s.Demands = append(s.Demands, o.demandOf(&s, r, r.demand.since))
	}
	for _, r := range o.records {
		if !o.replicaPlaceable(r) {
			continue
		}
		d := o.demandOf(&s, r, r.replicas.coming.demandSince)
		d.Gentle, d.AlwaysOn, d.Waiting, d.Explain = true, false, 0, false
		s.Demands = append(s.Demands, d)
	}
	slices.SortStableFunc(s.Demands, func(a, b scheduler.Demand) int { return a.Since.Compare(b.Since) })
	return s
}

// unseenAndHeld says whether a card of an instance is not to be seen, as while
// another inventory opens, and its gate is held: nothing is decided about it then.
func (o *owner) unseenAndHeld(i *Instance) bool {
	return slices.ContainsFunc(i.cards, func(c string) bool { return o.gates[c] != "" && o.present(c) == nil })
}

// demandOf is a model's demand as the scheduler sees it.
func (o *owner) demandOf(s *scheduler.State, r *record, since time.Time) scheduler.Demand {
	p := o.poolOf(r)
	d := scheduler.Demand{
		Model: r.model.name, Since: since, Pool: p.Name, AlwaysOn: r.spec.AlwaysOn, Degree: o.degreeOf(r),
		Waiting: r.model.tickets(), Conflict: r.spec.OnConflict, Gentle: o.gentle(r), Explain: r.waiting == "",
	}
	if i := o.asleepOf(r); i != nil && r.current == nil {
		d.Asleep = i.id
	}
	for k, c := range s.Cards {
		if o.allowed(r, c.UUID) {
			d.Cards = append(d.Cards, k)
		}
	}
	order := r.spec.Pin
	if len(order) == 0 {
		order = p.GPUs
	}
	slices.SortStableFunc(d.Cards, func(a, b int) int {
		return cmp.Compare(slices.Index(order, s.Cards[a].UUID), slices.Index(order, s.Cards[b].UUID))
	})
	for _, c := range d.Cards {
		d.Need = append(d.Need, o.footingOn(r, s.Cards[c].Card, d.Degree).bytes)
	}
	return d
}

// restingOf is what a sleeping instance is expected to hold of each card.
func (o *owner) restingOf(i *Instance) []int64 {
	all := make([]int64, len(i.cards))
	for n, c := range i.cards {
		all[n] = restingDefault
		if seen, ok := i.record.resting[c]; ok {
			all[n] = seen
		}
		all[n] = min(all[n], i.charge(n))
	}
	return all
}

// sleeper is an instance that goes to sleep, as if it slept already.
func (o *owner) sleeper(i *Instance, rests []int64, index map[string]int, now time.Time) scheduler.Instance {
	p := o.picture(i, StateAsleep, now, index)
	p.Charges = p.Charges[:0]
	for n, c := range i.cards {
		if _, ok := index[c]; ok {
			p.Charges = append(p.Charges, rests[n])
		}
	}
	return p
}

// picture is one instance as the scheduler sees it.
func (o *owner) picture(i *Instance, state State, now time.Time, index map[string]int) scheduler.Instance {
	p := scheduler.Instance{
		ID: i.id, Model: i.model.name, Phase: phases[state],
		Leases: i.word.leases(), Expired: o.expired(i, now),
		Leaving: i.leaving || i.outdated, ReadySince: i.readySince, LastUsed: i.lastUse(), DemandSince: i.demandSince,
	}
	o.tellUsage(&p)
	if state == StateReady || state == StateAsleep {
		p.Tickets = i.model.tickets()
	}
	resting := []int64(nil)
	if state == StateReady {
		resting = o.resting(now, i)
		p.HostBytes = i.weights() * hostFactor
	}
	// What may change while it runs comes from the configuration in force.
	if spec := i.record.spec; spec != nil {
		p.AlwaysOn, p.MinResidency, p.IdleTimeout = spec.AlwaysOn, spec.MinResidency, spec.IdleTimeout
	}
	if i.spare() && state == StateReady {
		// The model has another: this one is not needed by who waits or is served there.
		p.AlwaysOn, p.Tickets, p.IdleTimeout = false, 0, replicaIdle
	}
	for n, c := range i.cards {
		if k, ok := index[c]; ok {
			p.Cards = append(p.Cards, k)
			p.Charges = append(p.Charges, i.charge(n))
			if state == StateAsleep {
				p.Awake = append(p.Awake, i.awake(n))
			}
			if resting != nil {
				p.Resting = append(p.Resting, resting[n])
			}
		}
	}
	return p
}

// status is a picture for people.
func (o *owner) status(now time.Time) *Status {
	s := &Status{Time: now, Decisions: slices.Clone(o.decisions), Models: []ModelStatus{}, Instances: []InstanceStatus{}, GPUs: []GPUStatus{}}
	if o.spec == nil {
		s.Engine = "no configuration is in force"
		return s
	}
	s.Gateway, s.Eviction, s.Engine = o.spec.Name, o.spec.Eviction.Name(), "ready"
	if err := o.unavailable(now, ""); err != nil {
		s.Engine = err.Message
	} else if !o.ready() || !o.read {
		s.Engine = "opening"
	}
	switch {
	case o.inventory.err != nil:
		s.Inventory = o.inventory.err.Error()
	case o.readErr != nil:
		s.Inventory = o.readErr.Error()
	case o.read:
		s.Inventory = "ready"
	default:
		s.Inventory = "opening"
	}
	s.Audit, s.Host = o.auditStatus(), o.hostStatus()
	for n := range o.spec.Models {
		s.Models = append(s.Models, o.modelStatus(now, &o.spec.Models[n]))
	}
	for _, i := range o.instances {
		s.Instances = append(s.Instances, o.instanceStatus(i))
	}
	for _, c := range o.ledger.Cards() {
		card := o.present(c.UUID)
		if card == nil {
			continue
		}
		s.GPUs = append(s.GPUs, o.gpuStatus(c, card))
	}
	return s
}

func (o *owner) gpuStatus(c ledger.Card, card *gpu.Card) GPUStatus {
	g := GPUStatus{
		UUID: c.UUID, Name: card.Name, Driver: card.Driver, Total: card.Total, Used: card.Used, Foreign: c.Foreign,
		Gate: o.gates[c.UUID], Note: note(card),
	}
	if p := o.poolWith(c.UUID); p != nil {
		g.Pool = p.Name
	}
	sized := card.Total > 0
	if sized {
		g.Budget, g.Charged, g.Free = c.Budget, o.ledger.Charged(c.UUID), max(0, o.ledger.Room(c.UUID))
	}
	for _, id := range o.ledger.Instances(c.UUID) {
		h := Holder{Instance: id}
		if sized {
			h.Charged = o.ledger.ChargeOf(c.UUID, id)
		}
		g.Holders = append(g.Holders, h)
	}
	return g
}

// note is what is not known of a card, in words.
func note(c *gpu.Card) string {
	var unknown []string
	switch {
	case c.Unmeasured:
		unknown = append(unknown, "not measured: what other programs use counts as nothing, and a charge ends with its instance")
	case c.Unattributed:
		unknown = append(unknown, "not measured by process: instances count as what they are charged")
	}
	if c.Total == 0 {
		unknown = append(unknown, "size not known: one model at a time")
	}
	return strings.Join(unknown, "; ")
}

func (o *owner) modelStatus(now time.Time, spec *ModelSpec) ModelStatus {
	m := ModelStatus{
		Name: spec.Name, Aliases: spec.Aliases, Pool: spec.Pool, State: "stopped",
		AlwaysOn: spec.AlwaysOn, Need: spec.Need.Bytes,
	}
	r := o.record(spec.Name)
	if r == nil {
		return m
	}
	m.Queue, m.Waiting = r.model.Queue(), r.waiting
	if r.from == o.spec && r.spec != nil && o.read && o.sized(r) {
		m.Footprint = o.needStatus(r)
	}
	if f := r.failure; f != nil {
		m.Failure = &Failure{Class: string(f.class), Message: f.message, Count: f.count, Until: f.until}
		if now.Before(f.until) {
			m.State = "failed"
		}
	}
	if i := o.asleepOf(r); i != nil {
		m.State = i.word.state().String()
	}
	if r.demand != nil {
		m.State = "waiting"
	}
	if i := r.current; i != nil {
		if m.State = i.word.state().String(); i.word.state() == StateFetching && i.fetched {
			m.State = "waiting"
		}
		if at := i.lastUse(); !at.IsZero() {
			m.LastUsed = &at
		}
	}
	return m
}

func (o *owner) instanceStatus(i *Instance) InstanceStatus {
	s := InstanceStatus{
		ID: i.id, Model: i.model.name, State: i.word.state().String(), Stage: string(i.stage), Since: i.since,
		GPUs: i.cards, Leases: i.word.leases(), Hash: i.hash, Source: i.footing.source,
	}
	for n, c := range i.cards {
		if card := o.present(c); card != nil && card.Total == 0 {
			continue // it has the whole card, whatever that is
		}
		s.Declared, s.Charged, s.Measured = max(s.Declared, i.need[n]), max(s.Charged, i.charge(n)), max(s.Measured, i.measured[c])
	}
	if at := i.lastUse(); !at.IsZero() {
		s.LastUsed = &at
	}
	return s
}
