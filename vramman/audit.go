package vramman

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file is about the audit: it holds the ledger against the cards with each
// reading, and against what the engine says that runs after each change and at
// intervals. What differs is named, counted, and repaired towards what was seen.

const (
	// listInterval is how often an engine is asked what runs, when nothing changes.
	listInterval = time.Minute
	// listAgain is how soon it is asked again when its answer differs from what the
	// manager knows: one answer may cross with an event on its way.
	listAgain = 5 * time.Second
	// listConfirms is how many answers in a row make a difference believed.
	listConfirms = 2
)

// FindingKind says what kind of difference the audit has found.
type FindingKind string

// The kinds.
const (
	FindingUnderCharged FindingKind = "under_charged" // an instance uses more than it was charged: it is charged more
	FindingOverdrawn    FindingKind = "overdrawn"     // a card's charges exceed what it has, or its budget
	FindingOutlived     FindingKind = "outlived"      // a process outlives its server and holds VRAM
	FindingLost         FindingKind = "lost"          // the engine does not know an instance: it counts as ended
	FindingUnknown      FindingKind = "unknown"       // the engine runs an instance that nobody knows: it is removed
	FindingSums         FindingKind = "sums"          // the ledger's own sums do not add up
)

// findingKinds are all of them, in the order in which they are shown.
var findingKinds = []FindingKind{FindingUnderCharged, FindingOverdrawn, FindingOutlived, FindingLost, FindingUnknown, FindingSums}

// audit is what it has found.
type audit struct {
	at       time.Time
	findings []Finding             // that hold now, in a stable order
	drift    map[FindingKind]int64 // how many were found since the process began

	lists    uint64 // how many lists were asked for
	listing  bool
	again    bool                 // another is wanted as soon as the present one is over
	listedAt time.Time            // when the last came
	soon     bool                 // it differed: ask again soon
	strays   map[string]int       // listed and known to nobody: in how many lists in a row
	fromList map[string][]Finding // of the last list, by instance
}

// listing is how an engine's lists saw an instance.
type listing struct {
	since   uint64 // lists up to this number were begun too early to have it
	missing int    // in how many lists in a row it was missing
	lost    bool   // it counts as ended for that
}

// found adds to what the audit has found, and tells of it once.
func (o *owner) found(f Finding) {
	a := &o.audit
	known := slices.ContainsFunc(a.findings, f.same)
	if a.drift == nil {
		a.drift = make(map[FindingKind]int64)
	}
	if !known {
		a.drift[f.Kind]++
		o.log.Warn(messages["audit"], zap.String("kind", string(f.Kind)), zap.String("gpu", f.GPU), zap.String("instance", f.Instance),
			zap.Int64("bytes", f.Bytes), zap.String("what", f.Text))
		a.findings = append(a.findings, f)
	}
}

// same says whether two findings are of the same thing, whatever their figures.
func (f Finding) same(g Finding) bool {
	return f.Kind == g.Kind && f.GPU == g.GPU && f.Instance == g.Instance
}

// repair charges every instance what it is to be charged by what was seen.
func (o *owner) repair() {
	for _, i := range o.instances {
		if !i.word.state().charged() {
			continue
		}
		for n, c := range i.cards {
			was, is := o.ledger.ChargeOf(c, i.id), i.charge(n)
			if was == is {
				continue
			}
			if err := o.ledger.Charge(c, i.id, is); err != nil {
				o.log.DPanic("charging what was measured", zap.Error(err))
			}
			if is > was {
				o.found(Finding{
					Kind: FindingUnderCharged, GPU: c, Instance: i.id, Bytes: is - was,
					Text: fmt.Sprintf("%s uses %v of %s and was charged %v; it is charged what it uses", i.id, ledger.Size(is), c, ledger.Size(was)),
				})
			}
		}
	}
}

// auditCards holds the ledger against a reading.
func (o *owner) auditCards(now time.Time, number uint64) {
	a := &o.audit
	a.at = now
	before := a.findings
	a.findings = nil
	for _, f := range before { // what has been repaired is shown until the instance is gone
		if f.Kind == FindingUnderCharged && o.instance(f.Instance) != nil {
			a.findings = append(a.findings, f)
		}
	}
	for _, id := range sortedNames(a.fromList) {
		a.findings = append(a.findings, a.fromList[id]...)
	}
	hold := func(f Finding) {
		if k := slices.IndexFunc(before, f.same); k >= 0 { // told of already
			a.findings = append(a.findings, f)
			return
		}
		o.found(f)
	}
	if err := o.ledger.Check(); err != nil {
		o.log.DPanic("the ledger's sums do not add up", zap.Error(err))
		hold(Finding{Kind: FindingSums, Text: err.Error()})
	}
	for n := range o.cards {
		c := &o.cards[n]
		o.auditCard(c, number, hold)
	}
	for _, i := range o.instances {
		if i.grown && i.served() {
			i.grown = false
			o.settle(now, i, false)
		}
	}
}

// auditCard looks for what is wrong with one card's account.
func (o *owner) auditCard(c *gpu.Card, number uint64, hold func(Finding)) {
	account, ok := o.ledger.Card(c.UUID)
	if !ok || c.Total == 0 {
		return
	}
	charged := o.ledger.Charged(c.UUID)
	if short := charged + account.Foreign - account.Total; short > 0 {
		o.squeezed[c.UUID]++
		hold(Finding{
			Kind: FindingOverdrawn, GPU: c.UUID, Bytes: short,
			Text: fmt.Sprintf("%v are charged on %s and other programs use %v: %v more than it has", ledger.Size(charged), c.UUID, ledger.Size(account.Foreign), ledger.Size(short)),
		})
	} else {
		delete(o.squeezed, c.UUID)
		if over := charged - account.Budget; over > 0 && o.poolWith(c.UUID) != nil { // else it has no budget, and all of it is about to go
			hold(Finding{
				Kind: FindingOverdrawn, GPU: c.UUID, Bytes: over,
				Text: fmt.Sprintf("%v are charged on %s, %v more than its budget", ledger.Size(charged), c.UUID, ledger.Size(over)),
			})
		}
	}
	for _, i := range o.instances {
		if !i.ended || number <= i.fresh { // a reading that began before its end says nothing of that
			continue
		}
		if pids, used := holdersOf(c, i); len(pids) > 0 {
			hold(Finding{
				Kind: FindingOutlived, GPU: c.UUID, Instance: i.id, Bytes: used,
				Text: fmt.Sprintf("the server of %s has ended, and its %s %v of %s", i.id, stillHold(pids), ledger.Size(used), c.UUID),
			})
		}
	}
}

// holdersOf are the instance's processes that still use a card, and how much.
func holdersOf(c *gpu.Card, i *Instance) (pids []int, used int64) {
	for _, p := range c.Processes {
		if i.pids[p.PID] {
			pids, used = append(pids, p.PID), used+p.Used
		}
	}
	slices.Sort(pids)
	return pids, used
}

// stillHold names processes as the subject of what they hold.
func stillHold(pids []int) string {
	if len(pids) == 1 {
		return fmt.Sprintf("process %d still holds", pids[0])
	}
	var s []string
	for _, p := range pids {
		s = append(s, fmt.Sprint(p))
	}
	return "processes " + strings.Join(s, ", ") + " still hold"
}

// wantList has the engine asked what runs, once the present changes are over.
func (o *owner) wantList() {
	o.audit.soon = true
	o.audit.again = o.audit.listing
}

// nextList is when the engine is to be asked what runs.
func (o *owner) nextList() time.Time {
	a := &o.audit
	if a.listing || !o.lists() {
		return never
	}
	if a.soon {
		return a.listedAt.Add(listAgain)
	}
	return a.listedAt.Add(listInterval)
}

// lists says whether the engine in force can be asked what runs.
func (o *owner) lists() bool {
	if !o.ready() {
		return false
	}
	_, ok := o.engineOf(o.spec.Engine).engine.(engine.Lister)
	return ok
}

// askIfDue asks the engine what runs, if the time has come. It comes after all else
// that an event leads to: any of it may have made it due.
func (o *owner) askIfDue(now time.Time) {
	if now.Before(o.nextList()) {
		return
	}
	a := &o.audit
	a.listing, a.soon, a.again = true, false, false
	a.lists++
	o.fx.list(a.lists, o.engineOf(o.spec.Engine))
}

// listedNow holds what the engine says that runs against what the manager knows.
// What differs once may be on its way; what differs twice in a row is believed.
func (o *owner) listedNow(now time.Time, e listedEvent) {
	a := &o.audit
	a.listing, a.listedAt, a.soon = false, now, a.again
	if e.err != nil {
		o.log.Warn("the engine does not say what runs", zap.Error(e.err))
		return
	}
	strays := make(map[string]int)
	a.fromList = make(map[string][]Finding)
	note := func(f Finding) {
		o.found(f)
		a.fromList[f.Instance] = append(a.fromList[f.Instance], f)
	}
	for _, name := range e.names {
		if o.instance(name) != nil || slices.ContainsFunc(o.loads, func(l *load) bool { return l.instance.id == name }) {
			continue
		}
		if strays[name] = a.strays[name] + 1; strays[name] >= listConfirms {
			note(Finding{Kind: FindingUnknown, Instance: name, Text: fmt.Sprintf("the engine runs %s, which nobody knows; it is removed", name)})
			o.fx.discard(e.handle, name)
		}
		a.soon = true
	}
	a.strays = strays
	for _, i := range slices.Clone(o.instances) {
		if i.engine != e.handle || i.running == nil || i.ended || i.listed.since >= e.number || slices.Contains(e.names, i.id) {
			i.listed.missing = 0
			continue
		}
		a.soon = true
		if i.listed.missing++; i.listed.missing >= listConfirms {
			note(Finding{Kind: FindingLost, Instance: i.id, Text: fmt.Sprintf("the engine does not know %s any more; it counts as ended", i.id)})
			i.listed.lost = true
			o.exited(now, exitedEvent{i: i, exit: engine.Exit{Code: -1, Signal: "not known to the engine"}})
		}
	}
}

func (o *owner) discarded(_ time.Time, e discardedEvent) {
	if e.err != nil {
		o.log.Warn("what nobody knows could not be removed", zap.String("instance", e.name), zap.Error(e.err))
	}
	o.wantList()
}

// sortedNames are the keys of findings, in order.
func sortedNames(m map[string][]Finding) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// auditStatus is what the audit has found, for people.
func (o *owner) auditStatus() AuditStatus {
	s := AuditStatus{Time: o.audit.at, Findings: append([]Finding{}, o.audit.findings...), Drift: make(map[FindingKind]int64)}
	for _, k := range findingKinds {
		s.Drift[k] = o.audit.drift[k]
	}
	return s
}
