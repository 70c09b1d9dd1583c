package vramman

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// This file is about what the world's engine says that runs: late, with gaps, and
// with what nobody knows of.

// worldEngine is an engine that can be asked what runs.
type worldEngine struct{ noEngine }

func (worldEngine) List(context.Context) ([]string, error) { return nil, nil }
func (worldEngine) Discard(context.Context, string) error  { return nil }

// register is what a world knows of its engine's lists.
type register struct {
	lister    bool                     // its engines can be asked
	lists     int                      // how many were asked for
	strays    map[string]*engineHandle // what runs and nobody knows
	listed    map[string]int           // of names that were unknown when a list was told: in how many in a row
	silent    []*process               // whose end nobody told of
	missed    map[*Instance]int        // of their instances: in how many lists, begun since, they were missing
	listedAt  time.Time                // when the last list was told
	discarded map[string]int           // how often each was to be removed
}

func (g *register) begin() {
	g.strays, g.listed = make(map[string]*engineHandle), make(map[string]int)
	g.missed, g.discarded = make(map[*Instance]int), make(map[string]int)
}

// list is the engine's word on what runs.
func (w *world) list(number uint64, h *engineHandle) {
	w.lists++
	n, began := w.lists, w.now
	looks := w.delay("a list is made", "", n, 0, 500*time.Millisecond)
	told := w.delay("a list is told", "", n, 0, 500*time.Millisecond)
	if w.happens("a late list", "", n, 20) {
		told *= 36
	}
	var e listedEvent
	w.later(looks, func() { e = listedEvent{handle: h, number: number, names: w.listedNames(h, n)} })
	w.later(looks+told, func() {
		w.listedAt = w.now
		if w.fault("a list fails", "", n, 25) {
			w.tell(listedEvent{handle: h, number: number, err: errors.New("the engine does not answer")})
			return
		}
		w.beforeList(e, began)
		w.tell(e)
		w.checkList()
	})
}

// listedNames are the names of an engine's n-th list.
func (w *world) listedNames(h *engineHandle, n int) (names []string) {
	for _, p := range w.processes {
		switch {
		case p.life != w.life || p.i.engine != h:
		case p.ended && !w.now.Before(p.endedAt.Add(w.delay("it is listed after its end", p.i.id, p.life, 0, 2*time.Second))):
		case p.missed == 0 && w.fault("a list misses it", p.i.id, n, 20):
			w.saw("missed once")
		case p.missed == 1 && w.sight == seen && !w.lies && p.worker != 0 && p.known() && p.used != nil && w.fault("two lists miss it", p.i.id, n, 6): // and are believed
			w.note("two lists miss %s", p.i.id)
			w.saw("missed twice")
		default:
			names = append(names, p.i.id)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.strays)) {
		if w.strays[name] == h {
			names = append(names, name)
		}
	}
	return names
}

// leavesStray has a start that fails leave something behind.
func (w *world) leavesStray(i *Instance) {
	if w.lister && w.fault("a failed start leaves something behind", i.id, w.life, 2) {
		w.note("the start of %s leaves something behind", i.id)
		w.strays[i.id] = i.engine
	}
}

// discard removes what nobody knows.
func (w *world) discard(h *engineHandle, name string) {
	w.must(w.owner.instance(name) == nil, 9, "%s is known, and is removed", name)
	w.must(w.listed[name] >= 2, 9, "%s is removed after it was listed %d times", name, w.listed[name])
	w.discarded[name]++
	n := w.discarded[name]
	w.later(w.delay("removing", name, n, 100*time.Millisecond, 3*time.Second), func() {
		if w.daemonDown() || w.fault("it cannot be removed", name, n, 5) {
			w.tell(discardedEvent{name: name, err: errDown})
			return
		}
		if w.strays[name] == h {
			w.saw("a stray removed")
			delete(w.strays, name)
		}
		w.tell(discardedEvent{name: name})
	})
}

// beforeList counts what a list shows and the owner does not know, and the other way
// round.
func (w *world) beforeList(e listedEvent, began time.Time) {
	before := w.listed
	w.listed = make(map[string]int)
	for _, name := range e.names {
		if w.owner.instance(name) == nil {
			w.listed[name] = before[name] + 1
		}
	}
	for _, p := range w.processes {
		switch {
		case p.life != w.life || p.i.engine != e.handle || p.ended:
		case slices.Contains(e.names, p.i.id):
			p.missed = 0
		case p.i.started.Before(began):
			p.missed++
		}
	}
	w.silent = slices.DeleteFunc(w.silent, func(p *process) bool { return p.i.ended || p.life != w.life })
	for _, p := range w.silent {
		if p.endedAt.Before(began) && p.i.engine == e.handle && !slices.Contains(e.names, p.i.id) {
			w.missed[p.i]++
		}
	}
}

// diesSilently says whether nobody is told of a server's end.
func (w *world) diesSilently(p *process) bool {
	if !w.lister || p.life != w.life || !w.fault("nobody tells of its end", p.i.id, p.life, 6) {
		return false
	}
	w.note("nobody tells of the end of %s", p.i.id)
	w.saw("died silently")
	w.silent = append(w.silent, p)
	return true
}

// checkList sees to it that the owner has believed what was listed twice.
func (w *world) checkList() {
	for name, n := range w.listed {
		w.must(n < 2 || w.discarded[name] > 0, 9, "%s was listed %d times, nobody knows it, and it is not removed", name, n)
	}
	for _, p := range w.silent {
		i, n := p.i, w.missed[p.i]
		w.must(n < 3 || i.ended, 9, "%s was missing from %d lists, and counts as running", i.id, n)
	}
}

// checkLists sees to it that the engine is asked often enough.
func (w *world) checkLists() {
	if !w.lister || !w.owner.lists() {
		w.listedAt = w.now
		return
	}
	const slow = 20 * time.Second // a list takes no longer
	w.must(!w.now.After(w.listedAt.Add(listInterval+slow)), 9, "the engine has not been asked what runs for %v", w.now.Sub(w.listedAt))
}
