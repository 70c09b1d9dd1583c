package vramman

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about how much VRAM a model is given, and what that is believed
// for: declared, measured, estimated, or the whole of a card.

// footing is what a model takes on each card of a kind.
type footing struct {
	bytes  int64
	source string // what it was taken from, one of the sources
	// belief is the footprint in parts; it means something only if known.
	belief footprint.Belief
	known  bool
	parts  footprint.Parts // with the signatures under which measurements are kept
	fits   bool            // as far as is known, its server starts with so much, on an empty card
	kv     int64           // the KV cache that the server is told to make; 0: it sizes itself
	note   string          // why it was not estimated; empty: it was, or need not be
}

// The sources of a footing.
const (
	sourceDeclared  = "declared"
	sourceShare     = "share of the card"
	sourceMeasured  = "measured"
	sourceEstimated = "estimated"
	sourceWhole     = "whole card"
)

// sizes are what a model's server says of its memory, for one launch.
type sizes struct {
	hash     string // of the launch
	under    bool   // a worker is at it
	stale    bool   // what it reads has changed meanwhile: its answer does not count
	settings map[server.Setting]server.Sizing
	footings map[footingKey]footing // worked out already
}

// footingKey is all that a footing depends on, for one launch and one state of
// the measurements.
type footingKey struct {
	server.Setting
	budget int64
}

// tuning is what starts that failed have taught about the next one.
type tuning struct {
	hash     string // of the launch
	adjusted bool   // it was adjusted once; more is not tried
	extra    int64  // bytes more on each card
	unpinned bool   // the server sizes its KV cache itself
}

// kindOf is a card as far as footprints depend on it.
func kindOf(c *gpu.Card) server.Card { return server.Card{Name: c.Name, Total: c.Total} }

// classOf numbers the kinds of cards: those of one number are alike.
func (o *owner) classOf(uuid string) int {
	c := o.present(uuid)
	for n := range o.cards {
		if kindOf(&o.cards[n]) == kindOf(c) {
			return n
		}
	}
	return len(o.cards)
}

// allowed says whether a model may run on a card: it is one of its pool's, and
// neither left out nor, where some are named, not named.
func (o *owner) allowed(r *record, uuid string) bool {
	return o.poolOf(r).has([]string{uuid}) &&
		(len(r.spec.Pin) == 0 || slices.Contains(r.spec.Pin, uuid)) && !slices.Contains(r.spec.Exclude, uuid)
}

// settings are all kinds and numbers of cards that a model may run on, in a
// stable order.
func (o *owner) settings(r *record) (all []server.Setting) {
	count := make(map[server.Card]int)
	var kinds []server.Card
	for n := range o.cards {
		c := &o.cards[n]
		if c.Total == 0 || !o.allowed(r, c.UUID) {
			continue
		}
		if count[kindOf(c)] == 0 {
			kinds = append(kinds, kindOf(c))
		}
		count[kindOf(c)]++
	}
	for _, kind := range kinds {
		for _, degree := range degrees(r.spec, count[kind]) {
			all = append(all, server.Setting{Card: kind, Degree: degree})
		}
	}
	return all
}

// degrees are on how many of so many like cards a model may run: as configured,
// or the powers of two.
func degrees(m *ModelSpec, cards int) (all []int) {
	if !m.AutoParallel {
		return []int{max(1, m.Launch.TensorParallel)}
	}
	for d := 1; d <= max(1, cards); d *= 2 {
		all = append(all, d)
	}
	return all
}

// sized says whether a model's footprint is known as far as it can be, for all
// cards that it may run on.
func (o *owner) sized(r *record) bool {
	if _, ok := r.spec.Server.(server.Sizer); !ok {
		return true
	}
	if !o.storeRead() || r.sizes.hash != r.hash {
		return false
	}
	for _, s := range o.settings(r) {
		if _, ok := r.sizes.settings[s]; !ok {
			return false
		}
	}
	return true
}

// size has a worker find out what a model takes.
func (o *owner) size(r *record, h *engineHandle) {
	if r.sizes.under || !o.storeRead() {
		return
	}
	r.sizes = sizes{hash: r.hash, under: true}
	o.fx.size(r, h, o.settings(r))
}

// sizedNow is told what a model takes.
func (o *owner) sizedNow(now time.Time, e sizedEvent) {
	r := e.record
	if stale := r.sizes.stale || e.hash != r.hash; stale {
		r.sizes = sizes{}
		o.again = true // it is asked again
		return
	}
	r.sizes.under = false
	r.sizes.settings = make(map[server.Setting]server.Sizing, len(e.settings))
	for n, s := range e.settings {
		r.sizes.settings[s] = e.sizes[n]
	}
	r.sizes.footings = nil
	if len(r.planners) > 0 {
		o.answerPlanners(r, o.plan(now, r))
	}
	if c := o.log.Check(zap.DebugLevel, "a model's footprint was worked out"); c != nil && len(e.sizes) > 0 {
		fields := []zap.Field{zap.String("model", r.model.name)}
		if err := e.sizes[0].Err; err != nil {
			fields = append(fields, zap.NamedError("cannot", err))
		} else {
			fields = append(fields, zap.Stringer("parts", e.sizes[0].Parts))
		}
		c.Write(fields...)
	}
}

// resize has what a model takes found out once more: what it follows from has been
// brought to the machine, and may be another version than before.
func (r *record) resize() {
	if r.sizes.under {
		r.sizes.stale = true
		return
	}
	r.sizes = sizes{}
}

// forgetFootings has all footings worked out anew: what they are believed for has changed.
func (o *owner) forgetFootings() {
	for _, r := range o.records {
		r.sizes.footings = nil
	}
}

// footingOn is what a model takes on a card when it runs on so many of its kind.
func (o *owner) footingOn(r *record, c ledger.Card, degree int) footing {
	card := o.present(c.UUID)
	if card == nil || c.Total == ledger.Unsized || o.unsizedPool(r) {
		return footing{bytes: c.Budget, source: sourceWhole, fits: true, note: "the size of a card is not known"}
	}
	key := footingKey{server.Setting{Card: kindOf(card), Degree: degree}, c.Budget}
	if f, ok := r.sizes.footings[key]; ok {
		return f
	}
	f := o.workOut(r, c, key.Setting)
	if r.sizes.footings == nil {
		r.sizes.footings = make(map[footingKey]footing)
	}
	r.sizes.footings[key] = f
	return f
}

// unsizedPool says whether the size of a card of the model's pool is not known:
// then footprints mean nothing, and each instance takes its cards whole.
func (o *owner) unsizedPool(r *record) bool {
	p := o.poolOf(r)
	return slices.ContainsFunc(o.cards, func(c gpu.Card) bool { return c.Total == 0 && p.has([]string{c.UUID}) })
}

func (o *owner) workOut(r *record, c ledger.Card, s server.Setting) (f footing) {
	if sizing, ok := r.sizes.settings[s]; ok && r.sizes.hash == r.hash {
		f.parts = sizing.Parts
		if sizing.Err == nil {
			f.belief, f.known = footprint.Believe(sizing.Parts, o.measured), true
		} else if f.belief, f.known = footprint.Remember(sizing.Parts, o.measured); !f.known {
			f.note = sizing.Err.Error()
		}
	}
	t := r.tuning
	if t.hash != r.hash {
		t = tuning{}
	}
	declared := r.spec.need(o.poolOf(r))
	whole := o.poolOf(r).WholeCard && !r.spec.Colocate
	switch {
	case declared != (placement.Need{}) || whole:
		f.bytes = declared.On(c)
		switch {
		case whole:
			f.source = sourceWhole
		case declared.Bytes > 0:
			f.source = sourceDeclared
		default:
			f.source = sourceShare
		}
		if f.fits = f.bytes <= c.Budget; !f.known {
			return f
		}
		fixed := f.belief.Weights + f.belief.Rest()
		if f.belief.Has(footprint.PartWeights) && f.belief.Has(footprint.PartRest) {
			// With less the server does not start; it was seen.
			f.bytes = max(f.bytes, fixed+f.belief.KVLeast)
		}
		f.fits = f.bytes <= c.Budget && fixed+f.belief.KVLeast <= f.bytes
		if kv := f.bytes - fixed; kv >= f.belief.KVLeast && f.belief.KVLeast > 0 && !t.unpinned {
			f.kv = kv
		}
	case f.known:
		f.source = sourceEstimated
		if f.belief.Has(footprint.PartWeights) && f.belief.Has(footprint.PartRest) {
			f.source = sourceMeasured
		}
		f.belief, _ = f.belief.Fit(c.Budget - t.extra) // or as small as it can be, for the refusal to tell
		f.bytes = f.belief.Total() + t.extra
		f.fits = f.bytes <= c.Budget
		if f.belief.KVBytes > 0 && !t.unpinned {
			f.kv = f.belief.KVBytes + t.extra
		}
	default:
		f.bytes, f.source, f.fits = c.Budget, sourceWhole, true
	}
	return f
}

// need is the declared footprint, or none for one that takes its cards whole.
func (m *ModelSpec) need(p *Pool) placement.Need {
	if p.WholeCard && !m.Colocate {
		return placement.Need{}
	}
	return m.Need
}

// degreeOf is on how many cards a model runs. Where it is to be found, it is the
// smallest with which it fits on empty cards; once found it stays, as long as
// it does fit.
func (o *owner) degreeOf(r *record) int {
	if !r.spec.AutoParallel {
		return max(1, r.spec.Launch.TensorParallel)
	}
	fits := func(degree int) bool {
		count := make(map[int]int)
		for n := range o.cards {
			c := &o.cards[n]
			if !o.allowed(r, c.UUID) {
				continue
			}
			account, ok := o.ledger.Card(c.UUID)
			if ok && o.footingOn(r, account, degree).fits {
				class := o.classOf(c.UUID)
				if count[class]++; count[class] >= degree {
					return true
				}
			}
		}
		return false
	}
	if d := o.kept.Degrees[r.degreeKey()]; d > 0 && fits(d) {
		return d
	}
	most := 1
	for _, s := range o.settings(r) {
		most = max(most, s.Degree)
	}
	for d := 1; d <= most; d *= 2 {
		if fits(d) {
			return d
		}
	}
	return most // for the refusal to say how much is missing at best
}

// degreeKey names what a degree was found for: all that the footprint depends on.
func (r *record) degreeKey() string {
	launch := r.spec.Launch
	launch.Env, launch.Mounts, launch.Name = nil, nil, ""
	text, _ := json.Marshal([]any{launch, r.spec.Pool, r.spec.Need}) // plain fields cannot fail
	sum := sha256.Sum256(text)
	return r.model.name + " " + hex.EncodeToString(sum[:8])
}

// keepDegree has a degree that was found stay.
func (o *owner) keepDegree(r *record, degree int) {
	if key := r.degreeKey(); r.spec.AutoParallel && o.kept.Degrees[key] != degree {
		if o.kept.Degrees == nil {
			o.kept.Degrees = make(map[string]int)
		}
		o.kept.Degrees[key] = degree
		o.save()
	}
}

// logRounding is how exactly a server's log tells sizes: in hundredths of a GiB.
const logRounding = 1 << 30 / 100

// settle keeps what an instance was measured to take, so that the next start
// knows it. Of one that is idle and has served nothing yet, what a batch takes is
// not to be seen.
func (o *owner) settle(now time.Time, i *Instance, idle bool) {
	facts := i.facts
	if told := i.footing.kv; told > 0 && facts.KV-told < logRounding && told-facts.KV < logRounding || facts.KV == 0 {
		facts.KV = told // to the byte, so that the parts add up to what is used
	}
	var used int64
	for _, m := range i.measured {
		used = max(used, m)
	}
	if used == 0 && facts == (footprint.Facts{}) {
		return
	}
	o.keepRecords(i, i.footing.parts.Records(i.model.name, footprint.Observation{Used: used, Facts: facts, Idle: idle}, now))
}

// keepRecords adds measurements to those that are kept.
func (o *owner) keepRecords(i *Instance, records []footprint.Record) {
	changed := false
	for _, r := range records {
		old, known := o.measured.Find(r.Part, r.Signature)
		m, err := o.measured.With(r)
		if err != nil {
			o.log.Warn("a measurement cannot be kept", zap.String("instance", i.id), zap.Error(err))
			continue
		}
		o.measured = m
		changed = changed || !known || r.Bytes > old.Bytes
	}
	if changed {
		o.forgetFootings()
		o.save()
	}
}

// believed says what a model is given on one kind of card, for people.
func (f *footing) believed() string {
	if !f.known {
		return ""
	}
	return fmt.Sprint(f.belief)
}
