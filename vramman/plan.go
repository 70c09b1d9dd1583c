package vramman

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about explaining: what a decision saw of each card, and what would
// be decided if a model were asked for now.

// Plan says what would happen if a model were asked for now, without doing any of
// it. The model is named as in a request, by its name or an alias. The error is an
// [*Error] where there is no such model, or the context's.
func (m *Manager) Plan(ctx context.Context, model string) (*PlanStatus, error) {
	unknown := &Error{Code: CodeUnknownModel, Message: fmt.Sprintf("the model %q does not exist", model), NoRetry: true}
	g := m.inForce.Load()
	if m.never() || g == nil {
		return nil, unknown
	}
	found, err := g.Find(ctx, model)
	if err != nil {
		return nil, err
	}
	reply := make(chan *PlanStatus, 1)
	if !m.post(planEvent{found.name, reply}) {
		return nil, errShuttingDown(found.name)
	}
	select {
	case p := <-reply:
		if p == nil {
			return nil, unknown
		}
		return p, nil
	case <-m.stopped:
		return nil, errShuttingDown(found.name)
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the manager's plan: %w", ctx.Err())
	}
}

// askedForPlan answers, at once or when the model's footprint is known.
func (o *owner) askedForPlan(now time.Time, e planEvent) {
	r := o.record(e.model)
	switch {
	case r == nil || r.spec == nil || o.closing:
		e.reply <- nil
	case o.read && o.ready() && r.from == o.spec && !o.sized(r):
		r.planners = append(r.planners, e)
	default:
		e.reply <- o.plan(now, r)
	}
}

// answerPlanners answers all who wait to hear what would happen.
func (o *owner) answerPlanners(r *record, p *PlanStatus) {
	for _, e := range r.planners {
		e.reply <- p
	}
	r.planners = nil
}

// plan is what would happen if a model were asked for now.
func (o *owner) plan(now time.Time, r *record) *PlanStatus {
	p := &PlanStatus{Model: r.model.name, Need: []NeedStatus{}, Cards: []CandidateStatus{}}
	if r.spec == nil || o.spec == nil {
		p.Verdict, p.Reason = "refuse", "it is no longer configured"
		return p
	}
	if o.read {
		p.Need = o.needStatus(r)
	}
	if f := r.failure; f != nil && now.Before(f.until) {
		p.Verdict, p.Reason = "refuse", fmt.Sprintf("%s; it is not started again before %s", f.message, f.until.Format(time.RFC3339))
		return p
	}
	if i := r.current; i != nil && i.word.state() == StateReady {
		p.Verdict, p.Reason = "ready", fmt.Sprintf("%s is ready on %v", i.id, i.cards)
		return p
	}
	if l := o.loadOf(r.current); l != nil {
		p.Verdict, p.Reason = "loading", fmt.Sprintf("%s is being loaded (%v): %s", l.instance.id, l.instance.word.state(), l.reason)
		return p
	}
	if err := o.unavailable(now, r.model.name); err != nil || !o.read || !o.ready() {
		p.Verdict, p.Reason = "wait", "the engine or the cards are not open yet"
		if err != nil {
			p.Verdict, p.Reason = "refuse", err.Message
		}
		return p
	}
	s := o.snapshot(now)
	k := slices.IndexFunc(s.Demands, func(d scheduler.Demand) bool { return d.Model == r.model.name })
	if k < 0 {
		d := o.demandOf(&s, r, now)
		d.Waiting, d.Gentle = 1, false
		k = len(s.Demands)
		s.Demands = append(s.Demands, d)
	}
	s.Demands[k].Explain = true
	o.explainPlan(p, &s, scheduler.Decide(&s))
	return p
}

// explainPlan takes from a plan what it says of a model.
func (o *owner) explainPlan(p *PlanStatus, s *scheduler.State, plan scheduler.Plan) {
	p.Verdict, p.Reason = "wait", "nothing is decided about it yet"
	for _, d := range plan.Decisions {
		switch {
		case d.Model != p.Model || d.Kind == scheduler.Drain:
			continue
		case d.Kind == scheduler.Stop || d.Kind == scheduler.Sleep: // of its own instance, before it starts anew
			p.Victims = append(p.Victims, VictimStatus{d.Instance, d.Kind.String()})
			p.Verdict, p.Reason = "start", d.Reason
			continue
		}
		p.Verdict, p.Reason, p.Cards = d.Kind.String(), d.Reason, o.candidates(s, d)
		for _, v := range d.Victims {
			action := "stop"
			if v.Sleep {
				action = "sleep"
			}
			p.Victims = append(p.Victims, VictimStatus{v.Instance, action})
		}
	}
}

// needStatus is what a model is given on each kind of card that it may run on.
func (o *owner) needStatus(r *record) []NeedStatus {
	needs := []NeedStatus{}
	chosen := o.degreeOf(r)
	for _, s := range o.settings(r) {
		if s.Degree != chosen {
			continue
		}
		for n := range o.cards {
			c := &o.cards[n]
			account, ok := o.ledger.Card(c.UUID)
			if !ok || kindOf(c) != s.Card || !o.allowed(r, c.UUID) {
				continue
			}
			f := o.footingOn(r, account, s.Degree)
			name := c.Name
			if name == "" {
				name = c.UUID
			}
			needs = append(needs, NeedStatus{Card: name, Degree: s.Degree, Bytes: f.bytes, Source: f.source, Parts: f.believed(), Note: f.note})
			break
		}
	}
	return needs
}

// candidates are a decision's cards, for people.
func (o *owner) candidates(s *scheduler.State, d scheduler.Decision) []CandidateStatus {
	all := make([]CandidateStatus, 0, len(d.Candidates))
	for _, c := range d.Candidates {
		card := &s.Cards[c.Card]
		status := CandidateStatus{
			GPU: card.UUID, Need: c.Need, Room: c.Room, Budget: card.Budget, Charged: card.Charged, Foreign: card.Foreign, Total: card.Total,
			Chosen: c.Chosen, Verdict: c.Verdict,
		}
		for n := range s.Instances {
			i := &s.Instances[n]
			if k := slices.Index(i.Cards, c.Card); k >= 0 {
				status.Holders = append(status.Holders, Holder{i.ID, i.Charges[k]})
			}
		}
		all = append(all, status)
	}
	return all
}

// explained records and logs a decision with what it saw of each card.
func (o *owner) explained(now time.Time, action string, i *Instance, s *scheduler.State, d scheduler.Decision) {
	var cards []string
	for _, c := range d.Cards {
		cards = append(cards, s.Cards[c].UUID)
	}
	o.noted(now, DecisionStatus{Action: action, Model: d.Model, GPUs: cards, Reason: d.Reason, Cards: o.candidates(s, d)}, i)
}

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (c CandidateStatus) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("gpu", c.GPU)
	e.AddInt64("need", c.Need)
	e.AddInt64("room", c.Room)
	e.AddInt64("budget", c.Budget)
	e.AddInt64("charged", c.Charged)
	e.AddInt64("foreign", c.Foreign)
	e.AddInt64("total", c.Total)
	e.AddBool("chosen", c.Chosen)
	e.AddString("verdict", c.Verdict)
	return nil
}

// seenCards is the field of a log line that says what a decision saw.
func seenCards(cards []CandidateStatus) zap.Field { return zap.Objects("cards", cards) }

// Interface guard
var _ zapcore.ObjectMarshaler = CandidateStatus{}
