package scheduler_test

import (
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/scheduler"
)

// This file is about those of the small world who sleep.

// hostRoom is the memory that is left for more of them. Who is being woken still
// has its own.
func (w *toyWorld) hostRoom() int64 {
	left := w.host
	for _, i := range w.instances {
		if i.Phase == scheduler.Asleep || i.Phase == scheduler.Starting && i.load.wakes != nil {
			left -= i.HostBytes
		}
	}
	if left < 0 {
		w.t.Fatalf("%v: the host is short of %d bytes", w.now.Sub(start), -left)
	}
	return left
}

// sleep sends an idle instance to sleep: it is charged what it will be, and holds
// gates until it is.
func (w *toyWorld) sleep(i *toyInstance) {
	if i.Phase != scheduler.Ready || i.Leases > 0 || i.Resting == nil {
		w.t.Fatalf("%v: %s is put to sleep", w.now.Sub(start), i.ID)
	}
	i.Phase, i.goneAt, i.Awake = scheduler.Asleep, w.now.Add(w.stopping), i.Charges
	w.charge(i, i.Resting)
	i.model.serves, i.model.sleeps = nil, i
	w.hostRoom()
}

// charge replaces what an instance is charged.
func (w *toyWorld) charge(i *toyInstance, bytes []int64) {
	for k, c := range i.Cards {
		w.cards[c].Charged += bytes[k] - i.Charges[k]
	}
	i.Charges = bytes
}

func (w *toyWorld) fellAsleep(i *toyInstance) {
	i.goneAt = time.Time{}
	if i.gates {
		w.freeGates(i.Cards)
		i.gates = false
	}
	if i.load != nil {
		i.load.victims--
		i.load = nil
	}
	w.changed = true
}

// wakeServer charges what a sleeping instance takes awake; its cards must have the
// room.
func (w *toyWorld) wakeServer(l *toyLoad) {
	i := l.wakes
	w.charge(i, i.Awake)
	for _, c := range i.Cards {
		if w.cards[c].Room(w.cards[c].Charged) < 0 {
			w.t.Fatalf("%v: %s is woken on card %d, which has no room", w.now.Sub(start), i.ID, c)
		}
	}
	i.Phase, i.load, i.DemandSince, i.Awake, i.Tickets = scheduler.Starting, l, l.since, nil, 0
	i.model.sleeps = nil
	l.ready = w.now.Add(i.model.waking)
	w.changed = true
}
