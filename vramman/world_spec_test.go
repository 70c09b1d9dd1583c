package vramman

import (
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/vramman/placement"
	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// This file draws a world's size and its configurations.

// config is what the world's gateway is configured with.
type config struct {
	names     []string // of all models that there are
	models    int      // how many there could be; a shrunk world has fewer
	spec      *Spec    // in force, or about to be
	version   int      // of the configuration
	changes   map[string]int
	absent    map[string]bool // models that a reload took out
	current   []*Generation   // applied
	reloading bool
	brief     bool // turns and drains are short
}

// populate fills the world. False means that there is nothing in it.
func (w *world) populate() bool {
	size := w.luck("size", "", 0)
	var cards, models int
	switch n := size.intN(40); {
	case n < 22: // a small world finds most, and soonest
		cards, models = 1+size.intN(2), 2+size.intN(3)
	case n < 35:
		cards, models = 1+size.intN(4), 2+size.intN(8)
	case n < 39:
		cards, models = 4+size.intN(7), 8+size.intN(16)
	default:
		cards, models = 16, 30+size.intN(21)
	}
	w.busy = size.intN(6) == 0
	w.brief = size.intN(2) == 0
	w.rigid = size.intN(3) == 0
	if w.happens("the cards tell little", "", 0, 16) {
		w.sight = unattributed + sight(size.intN(2))
	}
	w.changes, w.absent = make(map[string]int), make(map[string]bool)
	w.models, w.count = models, cards
	for n := range models {
		if name := fmt.Sprintf("m%d", n); w.happens("a model", name, 0, 1) {
			w.names = append(w.names, name)
		}
	}
	for _, name := range w.names {
		w.absent[name] = w.happens("absent at first", name, 0, 6)
	}
	w.someCards(cards, 1+size.intN(3))
	if len(w.cards) == 0 || len(w.names) == 0 {
		return false
	}
	w.drawHost()
	w.drawStore()
	w.lister = w.drawLister()
	s := w.draw()
	w.describe(s)
	w.reloadTo(s, true)
	for _, name := range w.names {
		w.requests(&traffic{name: name})
	}
	w.reloads(1)
	w.engineTroubles(1)
	w.cardTroubles(1)
	if size.intN(4) == 0 {
		w.gatewayTroubles(1)
	}
	return true
}

// draw makes a configuration. Each part of it follows from its own luck: to
// take one model or card away changes no other.
func (w *world) draw() *Spec {
	l := w.luck("spec", "", w.version)
	s := &Spec{
		Name: "world", Engine: engineKey(fmt.Sprintf("engine-%d", w.changes["engine"])), GPUs: gpuKey(fmt.Sprintf("cards-%d", w.changes["cards"])),
		Eviction: scheduler.LRU{}, Log: zap.NewNop(),
		MaxWaitForTurn: l.between(10*time.Second, 3*time.Minute), DrainTimeout: l.between(time.Minute, 10*time.Minute),
	}
	if w.brief {
		s.MaxWaitForTurn, s.DrainTimeout = s.MaxWaitForTurn/6, s.DrainTimeout/10
	}
	if l.intN(2) == 0 {
		s.Eviction = scheduler.Cost{}
	}
	if w.stores {
		s.Store = worldStore{}
	}
	if k := w.luck("memory for sleep", "", w.version); k.intN(3) == 0 && !w.sleepy {
		s.SleepMemory = int64(1+k.intN(16)) * 8 * worldGiB
	}
	s.Pools = w.drawPools(&l)
	for _, name := range w.names {
		if w.absent[name] {
			continue
		}
		s.Models = append(s.Models, w.drawModel(name, s.Pools))
	}
	return s
}

func (w *world) drawPools(l *luck) (pools []Pool) {
	all := Pool{Name: "all", Budget: 0.5 + l.float()/2}
	count := 1 + l.intN(3)
	if count == 1 || w.count == 1 {
		return []Pool{all}
	}
	parts := make([][]string, count)
	for _, c := range w.cards {
		k := w.luck("which pool", c.uuid, w.version)
		n := k.intN(count)
		parts[n] = append(parts[n], c.uuid)
	}
	for n, part := range parts {
		k := w.luck("pool", "", w.version<<8+n)
		if len(part) > 0 {
			pools = append(pools, Pool{Name: fmt.Sprintf("pool-%d", n), GPUs: part, Budget: 0.5 + k.float()/2, WholeCard: k.intN(6) == 0})
		}
	}
	return pools
}

func (w *world) drawModel(name string, pools []Pool) ModelSpec {
	l := w.luck("how a model is", name, w.version)
	p := pools[0]
	for n, which := 0, l.intN(6); n < len(pools); n++ { // of three, one may be empty
		if pools[n].Name == fmt.Sprintf("pool-%d", which%3) {
			p = pools[n]
		}
	}
	m := ModelSpec{
		Name: name, Pool: p.Name, Server: noServer{}, Launch: server.Model{TensorParallel: 1},
		IdleTimeout: []time.Duration{0, time.Minute, 30 * time.Minute}[l.intN(3)], MinResidency: l.between(0, time.Minute) * time.Duration(l.intN(2)),
		StartTimeout: 2 * time.Minute, StopGrace: 10 * time.Second,
		MaxConcurrent: 1 + l.intN(8), MaxQueue: l.intN(20), MaxWait: l.between(time.Minute, 15*time.Minute),
	}
	cards := p.GPUs
	if len(cards) == 0 {
		for _, c := range w.cards {
			cards = append(cards, c.uuid)
		}
	}
	degree, share, gib, kind, always := 1+l.intN(8), p.Budget*(0.1+0.8*l.float()), l.float(), l.intN(5), l.intN(max(10, w.models))
	if l.intN(4) == 0 {
		m.Launch.TensorParallel = min(degree, len(cards))
	}
	least := w.card(cards[0]).kind.gib
	for _, c := range cards {
		least = min(least, w.card(c).kind.gib)
	}
	switch kind {
	case 0: // the whole budget
	case 1:
		m.Need = placement.Need{Share: share}
	default: // a few do not fit on the smallest card
		m.Need = placement.Need{Bytes: max(1, int64((0.1+0.95*gib)*p.Budget*float64(least*4))) * worldGiB / 4}
	}
	if always == 0 {
		m.AlwaysOn, m.Need = true, placement.Need{Bytes: worldGiB}
	}
	m.Launch.MaxModelLen = w.changes[name]
	if c := w.changes[name]; c > 0 {
		k := w.luck("limits", name, c)
		m.MaxConcurrent, m.MaxQueue = 1+k.intN(8), k.intN(20)
	}
	w.drawMore(&m, &p, cards)
	return m
}

// changed is the configuration in force with one model that is not quite the same.
func (w *world) changed(name string, how func(*ModelSpec)) *Spec {
	s := *w.spec
	s.Models = slices.Clone(s.Models)
	for n := range s.Models {
		if s.Models[n].Name == name {
			how(&s.Models[n])
		}
	}
	return &s
}
