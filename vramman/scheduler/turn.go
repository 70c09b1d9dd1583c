package scheduler

import (
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
)

// This file is about those who must wait: for whom, for how long, and what is kept
// for them once their turn has come.

// outlook is how soon a demand may hope that an instance makes room for it.
type outlook int

// The outlooks, the best first. Whoever is starting comes after those who
// serve: to wait for it is to wait for its start, and then for its turn.
const (
	goingAnyway outlook = iota
	idle                // and lacks only a gate
	turnOver            // busy, and to be drained
	turnToCome          // busy, and not to be drained yet
	starting
	never
)

func (d *decider) outlook(a *aim, n int) outlook {
	i := &d.Instances[n]
	switch {
	case n == a.wakes, i.Phase == Unreleased:
		return never
	case n == a.spent, i.Phase == Stopping, i.Phase == Draining, i.Leaving:
		return goingAnyway
	case i.AlwaysOn:
		return never
	case i.Phase == Starting:
		return starting
	case !i.busy():
		return idle
	case !a.due, d.Now.Before(d.turn(a.Demand, i)):
		return turnToCome
	}
	return turnOver
}

// hopes returns all instances that may make room for a demand some day, those
// with the best outlook first, and their numbers.
func (d *decider) hopes(a *aim) ([]placement.Victim, []int) {
	d.outlooks = d.outlooks[:0]
	for _, n := range d.order {
		d.outlooks = append(d.outlooks, d.outlook(a, n))
	}
	d.offered, d.numbers = d.offered[:0], d.numbers[:0]
	for o := range never {
		for k, n := range d.order {
			if d.outlooks[k] == o && !d.taken[n] {
				d.offer(n)
			}
		}
	}
	return d.offered, d.numbers
}

// wakeForOutlook asks to be woken when time changes the order in which a
// waiting demand looks at instances: when a turn comes, or youth ends. Before its
// own turn has come, no other comes for it.
func (d *decider) wakeForOutlook(a *aim, numbers []int) {
	for _, n := range numbers {
		i := &d.Instances[n]
		if a.due && i.takesTurn() {
			if turn := d.turn(a.Demand, i); d.Now.Before(turn) {
				d.plan.wakeAt(turn)
			}
		}
		if d.young[n] {
			d.plan.wakeAt(i.ReadySince.Add(i.MinResidency))
		}
	}
}

// takesTurn says whether an instance that is in the way has a turn of its own: one
// that serves, or is asleep while requests wait for it.
func (i *Instance) takesTurn() bool {
	return i.Phase == Ready || i.Phase == Asleep && i.busy()
}

// due says whether a demand has waited for long enough for its turn to come.
func (d *decider) due(q *Demand) bool { return !d.Now.Before(q.Since.Add(d.MaxWaitForTurn)) }

// turn is when an instance must go for a demand: MaxWaitForTurn after the
// demand began. An instance that was asked for before the demand has its own
// turn of that length first, from when it was ready, so that two models that
// are always busy swap at that pace and no faster.
func (d *decider) turn(q *Demand, i *Instance) time.Time {
	since := q.Since
	if !i.DemandSince.After(q.Since) && i.ReadySince.After(since) {
		since = i.ReadySince
	}
	return since.Add(d.MaxWaitForTurn)
}

// wait has a demand wait for a choice that is not possible yet.
func (d *decider) wait(a *aim, p prospect) {
	var reason string
	if p.when == atGate {
		reason = fmt.Sprintf("room on %s, waiting for %s", d.names(p.choice.Cards), join(d.heldGates(p.choice.Cards)))
	} else {
		reason = d.waitsFor(a, p)
	}
	if !a.takesTurn() {
		d.stand(a, p, reason)
		return
	}
	candidates := d.explained(a, p)
	d.makeWay(a, p)
	if !a.due {
		d.plan.wakeAt(a.Since.Add(d.MaxWaitForTurn))
	} else {
		for _, card := range p.choice.Cards {
			d.kept[card] = a.Model
		}
	}
	d.plan.Decisions = append(d.plan.Decisions, Decision{Kind: Wait, Model: a.Model, Reason: reason + a.depth(), Candidates: candidates})
}

// stand has a demand wait without asking anything of others.
func (d *decider) stand(a *aim, p prospect, reason string) {
	d.plan.Decisions = append(d.plan.Decisions, Decision{Kind: Wait, Model: a.Model, Reason: reason + a.depth(), Candidates: d.explained(a, p)})
}

// makeWay drains what is in the way of a demand once its turn has come, all at the
// same time: none earlier, as nobody gains by it, and the idle as well as the busy,
// as they could be busy again by the time that the others are gone. One that is
// asleep while requests wait for it serves nobody, and is stopped.
func (d *decider) makeWay(a *aim, p prospect) {
	if !a.due {
		return
	}
	var out []int
	for _, n := range p.others {
		i := &d.Instances[n]
		switch {
		case i.Phase == Starting, i.takesTurn() && d.Now.Before(d.turn(a.Demand, i)):
			return
		case i.takesTurn():
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return
	}
	reason := fmt.Sprintf("%s has waited for %v for its turn%s", a.Model, d.Now.Sub(a.Since).Round(time.Second), a.depth())
	for _, n := range out {
		switch i := &d.Instances[n]; {
		case i.Phase == Ready:
			d.plan.Decisions = append(d.plan.Decisions, Decision{Kind: Drain, Model: a.Model, Instance: i.ID, Reason: reason})
		case d.unheld(i.Cards):
			d.stop(n, reason)
		}
	}
}

// others says which cards of an aim others have waited for.
func (d *decider) others(a *aim) string {
	if kept := d.keptFor(a.cards); len(kept) > 0 {
		return ": " + join(kept)
	}
	return ""
}

// concerned lists the cards of a choice and of those who are waited for.
func (d *decider) concerned(p prospect) []int {
	cards := slices.Clone(p.choice.Cards)
	for _, n := range p.others {
		for _, c := range d.Instances[n].Cards {
			if !slices.Contains(cards, c) {
				cards = append(cards, c)
			}
		}
	}
	return cards
}
