package vramman

import (
	"errors"
	"maps"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/engine"
	"github.com/vllm-gateway/vllm-gateway/vramman/host"
	"github.com/vllm-gateway/vllm-gateway/vramman/ledger"
)

// This file is about servers that sleep: how they fall asleep and wake, how they
// fail to, what they hold meanwhile, and the host's memory that it takes.

// dormitory is what a world knows of those who sleep.
type dormitory struct {
	sleepy        bool  // every model can sleep
	hostTotal     int64 // 0: nobody ever knows
	naps, wakings map[*Instance]int
	hostTold      host.Memory // by the last reading that the owner was told
}

func (d *dormitory) begin() {
	d.naps, d.wakings = make(map[*Instance]int), make(map[*Instance]int)
}

// worldNap is the longest that a server takes to fall asleep and free its VRAM, or to
// wake, in a world without faults.
const worldNap = 6 * time.Second

// drawHost draws how much memory the machine has beside its cards.
func (w *world) drawHost() {
	all := int64(0)
	for _, c := range w.cards {
		all += c.total()
	}
	l := w.luck("the host's memory", "", 0)
	k := w.luck("all sleep", "", 0)
	switch w.sleepy = k.intN(2) == 0; {
	case w.sleepy:
		w.hostTotal = 8*worldGiB + all*int64(4+l.intN(16))
	case l.intN(12) > 0:
		w.hostTotal = 8*worldGiB + int64(float64(all)*[...]float64{0.5, 2, 4, 8}[l.intN(4)])
	}
}

// hostNow is the host's memory as a reading tells it.
func (w *world) hostNow(reading int) host.Memory {
	left := w.hostLeft()
	if w.calm {
		w.must(left >= 0, 7, "those who sleep take %d bytes more of the host's memory than there are", -left)
	}
	if w.hostTotal == 0 || w.fault("the host's memory is not known", "", reading, 60) {
		return host.Memory{}
	}
	return host.Memory{Total: w.hostTotal, Available: max(0, left)}
}

// hostLeft is what others and those who sleep leave of the host's memory.
func (w *world) hostLeft() int64 {
	epoch := 0
	if w.faults {
		epoch = int(w.now.Sub(worldBegin) / (2 * time.Minute))
	}
	l := w.luck("what others take of the host", "", epoch)
	left := w.hostTotal - int64(float64(w.hostTotal)*0.8*l.float()*l.float())
	for _, p := range w.processes {
		left -= p.pinned
	}
	return left
}

// sleepServer tells a server to sleep.
func (w *world) sleepServer(i *Instance) {
	w.checkSleep(i)
	w.naps[i]++
	p, n := w.started[i], w.naps[i]
	d := w.delay("falls asleep", i.id, n, 100*time.Millisecond, 4*time.Second)
	answer := func(err error) func() {
		return func() {
			if p.ended && err == nil {
				err = errDead
			}
			if err == nil {
				p.sleptAt = w.now
			}
			w.tell(sleptEvent{i, err})
		}
	}
	switch {
	case w.daemonDown():
		w.later(d, answer(errDown))
	case w.fault("it does not fall asleep", i.id, n, 9):
		w.note("%s does not fall asleep", i.id)
		w.saw("a sleep that failed")
		w.later(d, answer(errors.New("it cannot sleep")))
	case w.fault("it never answers that it sleeps", i.id, n, 15):
		w.note("%s never answers that it sleeps", i.id)
		w.saw("a sleep without an answer")
		if l := w.luck("its worker gives up", i.id, n); l.intN(2) == 0 {
			w.later(sleepTimeout, answer(errors.New("no answer in time")))
		}
	default:
		late := w.delay("its memory is freed asleep", i.id, n, -d/2, 1500*time.Millisecond)
		if w.fault("its memory is freed late asleep", i.id, n, 10) {
			late = w.delay("its memory is freed asleep", i.id, n, 5*time.Second, 15*time.Second)
			w.saw("a sleep that frees late")
		}
		w.after(d+late, func() { w.rests(p, n) })
		w.later(d, answer(nil))
	}
}

var errDead = errors.New("the server is gone")

// rests has a server let go of its VRAM, but for some.
func (w *world) rests(p *process, n int) {
	// It may have been told to wake, or to stop, meanwhile.
	if p.ended || p.asleep || p.used == nil || p.i.word.state() != StateSleeping && p.i.word.state() != StateStopping && p.life == w.life {
		return
	}
	l := w.luck("what it holds asleep", p.i.model.name, 0)
	holds := int64(worldGiB/4) + int64(l.float()*1.5*worldGiB)
	if w.fault("it holds more asleep", p.i.id, n, 6) {
		k := w.luck("how much more it holds asleep", p.i.id, n)
		holds += int64(k.intN(4)) * 2 * worldGiB
		if k.intN(3) == 0 {
			holds = 1 << 60
			w.saw("a sleep that frees nothing")
		}
		w.note("%s holds more asleep than it should", p.i.id)
	}
	p.asleep, p.awake = true, maps.Clone(p.used)
	for c, used := range p.used {
		p.used[c] = min(used, holds)
	}
	k := w.luck("the host's memory that it takes", p.i.id, n)
	p.pinned = int64((0.9 + k.float()) * float64(w.weightsOf(p)))
}

// weightsOf is what a server's weights really take, on all its cards.
func (w *world) weightsOf(p *process) (all int64) {
	if isSized(p.i) {
		return w.truthOf(p.i.spec, len(p.i.cards)).weights * int64(len(p.i.cards))
	}
	for _, used := range p.awake {
		all += used * 4 / 5
	}
	return all
}

// wakeServer tells a server to wake.
func (w *world) wakeServer(i *Instance) {
	w.checkWake(i)
	w.wakings[i]++
	p, n := w.started[i], w.wakings[i]
	d := w.delay("wakes", i.id, n, 200*time.Millisecond, 5*time.Second)
	answer := func(err error) func() {
		return func() {
			if p.ended && err == nil {
				err = errDead
			}
			if err == nil {
				err = w.wakesUp(p)
			}
			if err != nil {
				w.saw("a waking that failed")
			}
			w.tell(wokenEvent{i, err})
		}
	}
	if c := w.card(i.cards[0]); w.fault("others come as it wakes", i.id, n, 6) && !w.rigid {
		w.after(d/2, func() {
			c.foreign += max(0, w.free(c.uuid, nil))
			w.note("%s: other programs take %v", c.uuid, ledger.Size(c.foreign))
		})
	}
	switch {
	case w.daemonDown():
		w.later(d, answer(errDown))
	case w.fault("it does not wake", i.id, n, 8):
		w.note("%s does not wake", i.id)
		w.later(d, answer(errors.New("it cannot wake")))
	case w.fault("it never answers that it is awake", i.id, n, 12):
		w.note("%s never answers that it is awake", i.id)
		w.saw("a waking without an answer")
		if l := w.luck("its worker gives up waking it", i.id, n); l.intN(2) == 0 {
			w.later(wakeTimeout, answer(errors.New("no answer in time")))
		}
	default:
		w.later(d, answer(nil))
	}
}

// wakesUp has a server take its VRAM again. The error says that there is too little.
func (w *world) wakesUp(p *process) error {
	if !p.asleep {
		return nil
	}
	for c, want := range p.awake {
		if free := w.free(c, p); want > free {
			w.must(!w.calm, 1, "%s wakes, wants %d on %s, and %d are free there", p.i.id, want, c, free)
			w.note("%s finds no room on %s to wake", p.i.id, c)
			w.saw("no room to wake")
			if l := w.luck("it dies for want of room", p.i.id, w.wakings[p.i]); l.intN(2) == 0 {
				w.end(p, engine.Exit{Code: 1})
			}
			return errors.New("out of memory")
		}
	}
	p.asleep, p.used, p.pinned = false, p.awake, 0
	return nil
}
