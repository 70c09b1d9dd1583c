package vramman

import (
	"slices"

	"github.com/vllm-gateway/vllm-gateway/vramman/footprint"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file is about what models are given, and on how many cards: as declared, or
// by what was measured and estimated, and never less than what was seen.

// granted is what a plan gave a model that starts.
type granted struct {
	cards []string
	need  []int64
}

// on is how much it gave on a card.
func (g granted) on(card string) int64 {
	if n := slices.Index(g.cards, card); n >= 0 {
		return g.need[n]
	}
	return 0
}

// degree is on how many cards an instance is to be. Another of the model may have
// been started since, on others.
func (g granted) degree(i *Instance) int {
	if slices.Equal(g.cards, i.cards) {
		return len(g.cards)
	}
	return len(i.cards)
}

// checkNeed is about what a plan gives a model on each of its cards.
func (w *world) checkNeed(r *reckoning, d scheduler.Decision, q *scheduler.Demand) {
	rec := w.owner.record(d.Model)
	var g granted
	for _, c := range d.Cards {
		card, need := r.s.Cards[c].Card, q.Need[slices.Index(q.Cards, c)]
		want := w.wants(rec, card, q.Degree)
		w.must(need == want, 8, "%s is given %d of %s, where it needs %d", d.Model, need, card.UUID, want)
		g.cards, g.need = append(g.cards, card.UUID), append(g.need, need)
	}
	w.granted[d.Model] = g
	if b, known := w.believed(rec, w.settingOf(g.cards[0], q.Degree)); known {
		w.saw(map[bool]string{true: "sized by measurements", false: "sized by estimates"}[b.Has(footprint.PartRest)])
	}
	if len(rec.spec.Pin)+len(rec.spec.Exclude) > 0 {
		w.saw("on some cards only")
	}
	if rec.spec.Colocate {
		w.saw("sharing whole cards")
	}
	if rec.spec.AutoParallel {
		w.checkDegree(rec, q.Degree)
	}
}

// settingOf is a card as one of so many that a model runs on.
func (w *world) settingOf(uuid string, degree int) server.Setting {
	return server.Setting{Card: w.card(uuid).cardOf(), Degree: degree}
}

// believed is what is to be believed of a model's footprint on a kind of card.
func (w *world) believed(r *record, at server.Setting) (b footprint.Belief, known bool) {
	if _, ok := r.spec.Server.(server.Sizer); !ok {
		return b, false
	}
	switch sizing, ok := r.sizes.settings[at]; {
	case !ok:
		return b, false
	case sizing.Err == nil:
		return footprint.Believe(sizing.Parts, w.owner.measured), true
	default:
		return footprint.Remember(sizing.Parts, w.owner.measured)
	}
}

// wants is what a model needs on a card when it runs on so many.
func (w *world) wants(r *record, c ledger.Card, degree int) int64 {
	pool := w.owner.poolOf(r)
	plain := needOn(pool, r.spec, c.Total)
	b, known := w.believed(r, w.settingOf(c.UUID, degree))
	fixed := b.Weights + b.Rest()
	switch {
	case !known:
		return plain
	case r.spec.Need != (placement.Need{}) || pool.WholeCard && !r.spec.Colocate:
		if b.Has(footprint.PartWeights) && b.Has(footprint.PartRest) {
			return max(plain, fixed+b.KVLeast)
		}
		return plain
	}
	extra := int64(0)
	if r.tuning.hash == r.hash {
		extra = r.tuning.extra
	}
	b, _ = b.Fit(c.Budget - extra)
	return b.Total() + extra
}

// checkDegree sees to it that a model runs on the fewest cards that do, or on as
// many as it ran before, if they still do.
func (w *world) checkDegree(r *record, degree int) {
	w.saw(map[bool]string{true: "one card found to do", false: "several cards found to do"}[degree == 1])
	w.must(degree&(degree-1) == 0, 8, "%s runs on %d cards, which is no power of two", r.model.name, degree)
	if !w.wouldFit(r, degree) { // it is tried where none would, if it can be placed at all
		for d := 1; d <= len(w.cards); d *= 2 {
			w.must(!w.wouldFit(r, d), 8, "%s runs on %d cards, on which it does not fit, and %d would do", r.model.name, degree, d)
		}
		return
	}
	key := r.degreeKey()
	before, ran := w.degrees[key]
	if !ran && w.loaded != nil {
		before, ran = w.loaded.kept.Degrees[key]
	}
	w.degrees[key] = degree
	if ran && before != degree {
		w.must(!w.wouldFit(r, before), 8, "%s runs on %d cards, and ran on %d, on which it fits", r.model.name, degree, before)
	}
	for d := 1; d < degree && !(ran && before == degree); d *= 2 {
		w.must(!w.wouldFit(r, d), 8, "%s runs on %d cards, and %d do", r.model.name, degree, d)
	}
}

// wouldFit says whether a model fits on so many cards of one kind that are empty.
func (w *world) wouldFit(r *record, degree int) bool {
	count := make(map[server.Card]int)
	for _, c := range w.owner.ledger.Cards() {
		if w.owner.present(c.UUID) == nil || !w.owner.allowed(r, c.UUID) {
			continue
		}
		need, at := w.wants(r, c, degree), w.settingOf(c.UUID, degree)
		b, known := w.believed(r, at)
		if need > c.Budget || known && b.Weights+b.Rest()+b.KVLeast > need {
			continue
		}
		if count[at.Card]++; count[at.Card] >= degree {
			return true
		}
	}
	return false
}

// checkPreloads sees to it that whoever is to be there from the beginning comes.
func (w *world) checkPreloads() {
	o := w.owner
	for _, r := range o.records {
		if r.spec == nil || !r.spec.Preload || r.from != o.spec || o.closing || w.hasRun[r.model] {
			continue
		}
		backsOff := r.failure != nil && w.now.Before(r.failure.until)
		coming := r.demand != nil || r.current != nil || o.asleepOf(r) != nil || o.napping(r)
		w.must(coming || backsOff || o.unavailable(w.now, r.model.name) != nil, 5, "%s is to be there from the beginning, and nobody loads it", r.model.name)
	}
}
