package vramman

// mutationLists are the mutations of all subjects.
var mutationLists = [][]mutation{accountMutations, gateMutations, requestMutations, turnMutations, victimMutations, orderMutations}

// accountMutations are about what is charged: invariants 1, 2 and 8.
var accountMutations = []mutation{
	{
		invariant: 1, mistake: "a start is not confirmed by the reading", file: "load.go", short: true,
		edits: []edit{{old: "if room < l.need[n] || o.present(c) == nil {", new: "if room < 0 && o.present(c) == nil {"}},
		says:  "starts on GPU-",
	},
	{
		invariant: 1, mistake: "foreign VRAM is not subtracted", file: "ledger/ledger.go",
		edits: []edit{{old: "return min(c.Budget-charged, c.Total-c.Foreign-charged)", new: "return min(c.Budget-charged, c.Total-charged)"}},
		says:  "starts on GPU-",
	},
	{
		invariant: 1, mistake: "the budget does not count", file: "ledger/ledger.go",
		edits: []edit{{old: "return min(c.Budget-charged, c.Total-c.Foreign-charged)", new: "return c.Total - c.Foreign - charged"}},
		says:  "starts on GPU-",
	},
	{
		invariant: 1, mistake: "a reading that began too early confirms", file: "load.go",
		edits: []edit{{old: "len(l.victims) == 0 && number > l.fresh", new: "len(l.victims) == 0"}},
		says:  "starts on a reading that began too early",
	},
	{
		invariant: 1, mistake: "what our own servers use counts as foreign", file: "reading.go",
		edits: []edit{{old: "foreign -= used", new: "foreign -= used / 2"}},
		says:  "others use",
	},
	{
		invariant: 2, mistake: "an ended server's VRAM is taken to be free", file: "release.go", short: true,
		edits: []edit{{old: "if !o.holdsMemory(i) {", new: "if true {"}},
		says:  "was seen to hold memory",
	},
	{
		invariant: 2, mistake: "what was measured is not charged", file: "instance.go",
		edits: []edit{{old: "return max(i.need[n], i.measured[i.cards[n]])", new: "return i.need[n]"}},
		says:  "was seen to use",
	},
	{
		invariant: 2, mistake: "what is charged falls with what is measured", file: "reading.go",
		edits: []edit{{old: "case used > i.measured[card]:", new: "case used != i.measured[card]:"}},
		says:  "was seen to use",
	},
	{
		invariant: 2, mistake: "a charge ends with the wait for its VRAM", file: "release.go",
		edits: []edit{{old: "o.wantReading() // whoever waited", new: "o.ledger.Release(i.id)\n\to.wantReading() // whoever waited"}},
		says:  "is charged 0",
	},
	{
		invariant: 8, mistake: "only the first card is charged", file: "load.go", short: true,
		edits: []edit{{old: "if err := o.ledger.Charge(c, i.id, l.need[n]); err != nil {", new: "if err := o.ledger.Charge(l.cards[0], i.id, l.need[n]); err != nil {"}},
		says:  "is charged 0 on GPU-",
	},
	{
		invariant: 8, mistake: "the first card's share is charged on all", file: "decide.go",
		edits: []edit{{old: "l.footing = o.footingOn(r, s.Cards[c].Card, len(d.Cards))", new: "l.footing = o.footingOn(r, s.Cards[0].Card, len(d.Cards))"}},
		says:  "where it needs",
	},
	{
		invariant: 8, mistake: "fewer cards than wanted will do", file: "placement/placement.go",
		edits: []edit{
			{old: "was := *n >= p.r.Degree", new: "was := *n >= 1"},
			{old: "is := *n >= p.r.Degree", new: "is := *n >= 1"},
			{old: "return n >= p.r.Degree", new: "return n >= 1"},
		},
		says: "cards, not",
	},
}

// gateMutations are about who starts and stops where: invariants 3, 4 and 9.
var gateMutations = []mutation{
	{
		invariant: 3, mistake: "gates do not count", file: "scheduler/books.go", short: true,
		edits: []edit{{old: "return d.gates[c] != \"\" || d.kept[c] != \"\"", new: "return d.kept[c] != \"\""}},
		says:  "whose gates are not free",
	},
	{
		invariant: 3, mistake: "who stops holds no gate", file: "gates.go",
		edits: []edit{{old: "if o.gates[c] == \"\" {", new: "if o.gates[c] == \"nobody\" {"}},
		says:  "nobody holds the gate",
	},
	{
		invariant: 3, mistake: "a start does not look who has died beside it", file: "load.go",
		edits: []edit{{old: "number > l.fresh && !o.freeing(l) {", new: "number > l.fresh {"}},
		says:  "is stopping beside it",
	},
	{
		invariant: 3, mistake: "the gate of what is not released is kept", file: "release.go",
		edits: []edit{{old: "o.decided(now, \"unreleased\", i.model.name, i, i.cards, reason)\n\to.free(\"stop \" + i.id)", new: "o.decided(now, \"unreleased\", i.model.name, i, i.cards, reason)"}},
		says:  "which is over",
	},
	{
		invariant: 4, mistake: "a claim does not look at the leases", file: "word.go",
		edits: []edit{{old: "if old&wordLeases != 0 || State(old>>wordState) != from {", new: "if State(old>>wordState) != from {"}},
		says:  "leases",
	},
	{
		invariant: 4, mistake: "a drain has no time", file: "snapshot.go", short: true,
		edits: []edit{{old: "return i.word.state() == StateDraining && !now.Before(i.drainBy)", new: "return i.word.state() == StateDraining"}},
		says:  "leases",
	},
	{
		invariant: 4, mistake: "what drains is still offered", file: "load.go",
		edits: []edit{{old: "if i.record == r && i.word.state() == StateReady {", new: "if i.record == r && (i.word.state() == StateReady || i.word.state() == StateDraining) {"}},
		says:  "is offered to requests and is draining",
	},
	{
		invariant: 9, mistake: "starts do not wait for the engine", file: "decide.go",
		edits: []edit{
			{old: "return h != nil && h.engine != nil", new: "return h != nil"},
			{file: "demand.go", old: "if h == nil || h.engine == nil {", new: "if h == nil {"},
		},
		says: "starts on an engine that is not open",
	},
	{
		invariant: 9, mistake: "what is not committed is planned for", file: "demand.go", short: true,
		edits: []edit{{old: "if r.from != o.spec {", new: "if r.from == nil {"}},
		says:  "before its configuration is committed",
	},
	{
		invariant: 9, mistake: "an engine is closed under its instances", file: "generations.go",
		edits: []edit{{old: "return i.engine == h })", new: "return i.engine == h && i.word.state() == StateReady })"}},
		says:  "an engine is closed under instance",
	},
}

// requestMutations are about invariant 5.
var requestMutations = []mutation{
	{
		invariant: 5, mistake: "the end of a drain wakes nobody", file: "word.go", short: true,
		edits: []edit{{old: "return now&wordLeases == 0 && (now&wordWanted != 0 || State(now>>wordState) != StateReady)", new: "return now&wordLeases == 0 && now&wordWanted != 0"}},
		says:  "nothing happens any more",
	},
	{
		invariant: 5, mistake: "the last ticket's end wakes nobody", file: "ticket.go",
		edits: []edit{{old: "if idle && m.wanted.Load() {", new: "if idle && !m.wanted.Load() {"}},
		says:  "nothing happens any more",
	},
	{
		invariant: 5, mistake: "time alone changes nothing", file: "reading.go",
		edits: []edit{{old: "if !o.planNext.IsZero() && o.planNext.Before(next) {", new: "if o.planNext.IsZero() && o.planNext.Before(next) {"}},
		says:  "nothing happens any more",
	},
	{
		invariant: 5, mistake: "a lease that nobody takes is kept", file: "load.go",
		edits: []edit{{old: "if !w.grant(i) {\n\t\t\ti.word.release()\n\t\t}", new: "w.grant(i)"}},
		says:  "leases",
	},
	{
		invariant: 5, mistake: "a failed start is told to nobody", file: "demand.go",
		edits: []edit{{old: "\tfor _, w := range r.demand.waiters {\n\t\tw.fail(err)\n\t}\n\tr.demand, r.waiting = nil, \"\"\n\tif i", new: "\tr.demand, r.waiting = nil, \"\"\n\tif i"}},
		says:  "requests wait, and the owner does not know",
	},
	{
		invariant: 5, mistake: "who gave up goes on waiting", file: "demand.go",
		edits: []edit{{old: "return x == w })\n\tif len", new: "return x != nil && x != w })\n\tif len"}},
		says:  "the owner",
	},
	{
		invariant: 5, mistake: "a ticket is lost when its turn comes at the wrong moment", file: "ticket.go",
		edits: []edit{{old: "case !waited && !lost: // its turn came at the same moment", new: "case lost && !lost:"}},
		says:  "tickets",
	},
	{
		invariant: 5, mistake: "the owner spins", file: "reading.go",
		edits: []edit{{old: "if now.Before(i.drainBy) { // once past", new: "if true { // once past"}},
		says:  "it spins",
	},
}

// turnMutations are about invariant 6.
var turnMutations = []mutation{
	{
		invariant: 6, mistake: "no card is kept for whoever's turn it is", file: "scheduler/turn.go", worlds: 600,
		edits: []edit{{old: "d.kept[card] = a.Model", new: "_ = card"}},
		says:  "has been the first in line",
	},
	{
		invariant: 6, mistake: "nobody is drained", file: "scheduler/turn.go",
		edits: []edit{{old: "out = append(out, n)", new: "out = out[:0]"}},
		says:  "has been the first in line",
	},
	{
		invariant: 6, mistake: "whoever came first has no turn", file: "scheduler/turn.go", short: true,
		edits: []edit{{old: "if !i.DemandSince.After(q.Since) && i.ReadySince.After(since) {", new: "if !i.DemandSince.After(q.Since) && i.ReadySince.Before(since) {"}},
		says:  "before its turn",
	},
	{
		invariant: 6, mistake: "a start has no end", file: "reading.go",
		edits: []edit{
			{old: "if !now.Before(i.started.Add(i.start)) {", new: "if !now.Before(i.started.Add(2 * i.start)) {"},
			{old: "earlier(i.started.Add(i.start))", new: "earlier(i.started.Add(2 * i.start))"},
		},
		says: "starts for longer than",
	},
	{
		invariant: 6, mistake: "what fails starts again at once", file: "demand.go",
		edits: []edit{{old: "backingOff := r.failure != nil && now.Before(r.failure.until)", new: "backingOff := false"}},
		says:  "backs off",
	},
}

// victimMutations are about invariant 7.
var victimMutations = []mutation{
	{
		invariant: 7, mistake: "who has requests waiting counts as idle", file: "scheduler/state.go",
		edits: []edit{{old: "return i.Leases > 0 || i.Tickets > 0", new: "return i.Leases > 0"}},
		says:  "is not idle",
	},
	{
		invariant: 7, mistake: "always-on models make room", file: "scheduler/victims.go",
		edits: []edit{{old: "(i.Phase == Ready || i.Phase == Asleep) && !i.AlwaysOn && !i.busy()", new: "(i.Phase == Ready || i.Phase == Asleep) && !i.busy()"}},
		says:  "is always on",
	},
	{
		invariant: 7, mistake: "the most recently used go first", file: "scheduler/lru.go", short: true,
		edits: []edit{{old: "return a.LastUsed.Before(b.LastUsed)", new: "return a.LastUsed.After(b.LastUsed)"}},
		says:  "stands before it in the order of lru",
	},
	{
		invariant: 7, mistake: "victims are not given back", file: "placement/placement.go",
		edits: []edit{{old: "if p.enough == 0 {\n\t\t\t\tp.free(victims[j], 1)", new: "if true {\n\t\t\t\tp.free(victims[j], 1)"}},
		says:  "and need not",
	},
	{
		invariant: 7, mistake: "the young are not spared", file: "scheduler/decide.go",
		edits:  []edit{{old: "d.young[n] = n, mine.Instances[n].young(s.Now)", new: "d.young[n] = n, false"}},
		says:   "makes room for",
		worlds: 600,
	},
	{
		invariant: 7, mistake: "the configuration's residency is forgotten", file: "snapshot.go",
		edits: []edit{{old: "p.AlwaysOn, p.MinResidency, p.IdleTimeout = spec.AlwaysOn, spec.MinResidency, spec.IdleTimeout", new: "p.AlwaysOn, p.IdleTimeout = spec.AlwaysOn, spec.IdleTimeout"}},
		says:  "is spared for",
	},
	{
		invariant: 7, mistake: "when an instance was last used is not known", file: "lease.go",
		edits: []edit{{old: "l.instance.lastUsed.Store(now.UnixNano())", new: "_ = now"}},
		says:  "was last used",
	},
	{
		invariant: 7, mistake: "somebody makes room where there is some", file: "scheduler/decide.go", worlds: 600,
		edits: []edit{
			{old: "return prospect{when: atGate, choice: c}", new: "_ = c"},
			{old: "d.place.Place(d.cards, coming, all); ok {", new: "d.place.Place(d.cards, coming, all); ok && len(c.Victims) > 0 {"},
		},
		says: "has room",
	},
}

// orderMutations are about invariant 10.
var orderMutations = []mutation{
	{
		invariant: 10, mistake: "the real clock has a say", file: "demand.go", short: true,
		edits: []edit{{old: "retryDelay(f.count - f.chances))", new: "retryDelay(f.count-f.chances) + time.Duration(time.Now().UnixNano()%(1<<36)))"}},
		says:  "differs between two runs",
	},
	{
		invariant: 10, mistake: "demands come in the order of a map", file: "snapshot.go", worlds: 600,
		edits: []edit{{old: "for _, r := range o.records {\n\t\tif !o.placeable(now, r) {", new: "for _, m := range o.models {\n\t\tr := o.record(m.name)\n\t\tif r == nil || !o.placeable(now, r) {"}},
		says:  "differs between two runs",
	},
}
