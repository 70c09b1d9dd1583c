package vramman

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/gpu"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file is about the cards of a world: what they hold, what other programs
// take, and what a reading tells of it, which is not always the truth.

// gpus are a world's cards.
type gpus struct {
	cards        []*worldCard
	count        int       // how many there could be; a shrunk world has fewer
	readingBegan time.Time // of the reading that is being told
	blind        time.Time // until then all readings fail
	rigid        bool      // no other program takes memory
	sight        sight     // what can be seen of the cards
}

// sight is what an inventory can see of its cards.
type sight int

const (
	seen         sight = iota // all
	unattributed              // what is in use, but not by whom
	unmeasured                // nothing but their sizes
)

type worldCard struct {
	uuid    string
	kind    cardKind
	foreign int64
}

// cardKind is a kind of card by its name.
type cardKind struct {
	name string
	gib  int64
}

var cardKinds = []cardKind{
	{"NVIDIA GeForce GTX 1080", 8},
	{"Tesla T4", 16},
	{"NVIDIA L4", 24},
	{"NVIDIA GeForce RTX 5090", 32},
	{"NVIDIA A100 40GB", 40},
	{"NVIDIA L40S", 48},
	{"NVIDIA H100", 80},
	{"NVIDIA H200", 141},
	{"NVIDIA B200", 192},
}

func (c *worldCard) total() int64 { return c.kind.gib * worldGiB }

func (w *world) card(uuid string) *worldCard {
	for _, c := range w.cards {
		if c.uuid == uuid {
			return c
		}
	}
	return nil
}

// someCards makes the cards, of a few kinds.
func (w *world) someCards(count, kinds int) {
	for n := range count {
		uuid := fmt.Sprintf("GPU-%d", n)
		if !w.happens("a card", uuid, 0, 1) {
			continue
		}
		l := w.luck("which kind", uuid, 0)
		k := w.luck("kind", "", l.intN(kinds))
		w.cards = append(w.cards, &worldCard{uuid: uuid, kind: cardKinds[k.intN(len(cardKinds))]})
		w.foreignPrograms(uuid, 0)
	}
}

// free is how much of a card is free for a server beside what it uses already.
func (w *world) free(uuid string, p *process) int64 {
	c := w.card(uuid)
	free := c.total() - c.foreign
	for _, o := range w.processes {
		if o != p {
			free -= o.used[uuid]
		}
	}
	return free
}

// foreignPrograms take some of a card, and leave it, for ever.
func (w *world) foreignPrograms(uuid string, n int) {
	w.after(w.chanceBetween("when others change", uuid, n, time.Second, 5*time.Minute), func() {
		defer w.foreignPrograms(uuid, n+1)
		if w.rigid || !w.fault("others change", uuid, n, 2) {
			return
		}
		c, l := w.card(uuid), w.luck("how much others take", uuid, n)
		want := int64(0)
		switch l.intN(5) {
		case 0: // all that nobody uses, be it charged or not
			want = c.total()
		case 1, 2, 3:
			want = int64(l.intN(int(c.kind.gib*3/4)*4)) * worldGiB / 4
		}
		// Nobody takes what is not there.
		c.foreign = min(want, max(0, w.free(uuid, nil)+c.foreign))
		w.note("%s: other programs take %v", uuid, ledger.Size(c.foreign))
	})
}

// misreading is how a server's figures are wrong for a while.
type misreading struct {
	from, to time.Time
	factor   float64
}

// misreadingOf draws how a server's figures are wrong, if they are.
func (w *world) misreadingOf(i *Instance) misreading {
	if !w.lies || !w.fault("its figures are wrong", i.id, w.life, 4) {
		return misreading{}
	}
	l := w.luck("how its figures are wrong", i.id, w.life)
	m := misreading{from: w.now.Add(l.between(0, 2*time.Minute))}
	m.to = m.from.Add(l.between(time.Second, time.Minute))
	m.factor = []float64{0.1, 0.7, 1.1, 1.5}[l.intN(4)]
	w.note("%s: from %s to %s its figures are %.1f times the truth", i.id, w.clock(m.from), w.clock(m.to), m.factor)
	return m
}

// figure is what a reading tells of a server's use of a card.
func (w *world) figure(p *process, uuid string, reading int) int64 {
	used := p.used[uuid]
	switch {
	case used == 0:
	case w.lies && w.fault("a reading misses it", p.i.id, reading, 60):
		w.note("%s: a reading misses it", p.i.id)
		return 0
	case !w.now.Before(p.misread.from) && w.now.Before(p.misread.to):
		return int64(float64(used) * p.misread.factor)
	}
	return used
}

// sample is what the cards show now.
func (w *world) sample(reading int) (cards []gpu.Card) {
	for _, c := range w.cards {
		card := gpu.Card{UUID: c.uuid, Name: c.kind.name, Total: c.total(), Used: c.foreign}
		for _, p := range w.processes {
			card.Used += p.used[c.uuid]
			if w.sight != seen {
				continue
			}
			if f := w.figure(p, c.uuid, reading); f > 0 {
				card.Processes = append(card.Processes, gpu.Process{PID: p.holder(), Used: f})
			}
		}
		switch w.sight {
		case unattributed:
			card.Unattributed = true
		case unmeasured:
			card.Unmeasured, card.Used = true, 0
		}
		cards = append(cards, card)
	}
	return cards
}

// readCards samples the cards after a while, and asks for the processes later
// still, as the workers do.
func (w *world) readCards(number uint64, h *inventoryHandle, of []*Instance) {
	of = slices.Clone(of)
	n := w.life<<24 + int(number)
	e := readEvent{number: number, handle: h, pids: make(map[*Instance][]int)}
	began := w.now
	sampled := w.delay("reading", "", n, time.Millisecond, 25*time.Millisecond)
	told := w.delay("told", "", n, 0, 25*time.Millisecond)
	if w.happens("a slow reading", "", n, 80) {
		sampled *= 200
	}
	if w.happens("a late reading", "", n, 80) {
		told *= 200
	}
	w.later(sampled, func() { e.cards, e.host = w.sample(n), w.hostNow(n) })
	w.later(sampled+told, func() {
		if w.now.Before(w.blind) || w.fault("a reading fails", "", n, 30) {
			e.cards, e.host, e.err = nil, host.Memory{}, errors.New("the driver is busy")
			w.tell(e)
			return
		}
		for _, i := range of {
			if p := w.started[i]; p != nil && !p.ended && !w.daemonDown() {
				e.pids[i] = p.all()
			}
		}
		w.readingBegan, w.hostTold = began, e.host
		before := w.beforeReading(e)
		w.tell(e)
		w.checkReading(before)
	})
}

func (w *world) openInventory(h *inventoryHandle) {
	w.opened++
	n := w.opened
	w.later(w.delay("inventory opens", "", n, time.Millisecond, time.Second), func() {
		if w.fault("the inventory does not open", "", n, 10) {
			w.tell(inventoryEvent{handle: h, err: errors.New("no driver today")})
			return
		}
		w.tell(inventoryEvent{handle: h, inventory: noInventory{}})
	})
}

func (*world) closeInventory(*inventoryHandle) {}

// cardTroubles has no reading come for a while, now and then.
func (w *world) cardTroubles(n int) {
	w.after(w.chanceBetween("blind", "", n, time.Minute, 20*time.Minute), func() {
		defer w.cardTroubles(n + 1)
		if w.fault("the cards cannot be read", "", n, 1) {
			w.blind = w.now.Add(w.chanceBetween("how long blind", "", n, time.Second, time.Minute))
			w.note("the cards cannot be read for %v", w.blind.Sub(w.now).Round(time.Second))
		}
	})
}
