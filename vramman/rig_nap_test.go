package vramman

import (
	"context"
	"net/http"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/server"
)

// rigNap is how the rig's servers sleep.
type rigNap struct {
	residual  int64         // what a sleeping server holds of each card
	takes     time.Duration // to fall asleep, and to wake
	failSleep bool
	failWake  bool
}

// uses is what the instance uses of each of its cards.
func (i *rigInstance) uses() int64 {
	if i.naps {
		return i.rig.nap.residual
	}
	if i.takes > 0 {
		return i.takes + i.more
	}
	return i.l.Charge + i.more
}

// answer is the instance's server.
func (i *rigInstance) answer(w http.ResponseWriter, r *http.Request) {
	sleeps := r.URL.Path == "/sleep"
	if !sleeps && r.URL.Path != "/wake_up" {
		return
	}
	i.rig.mu.Lock()
	i.rig.counted[r.URL.Path[1:]+" "+i.l.Model]++
	takes := i.rig.nap.takes
	i.rig.mu.Unlock()
	select {
	case <-time.After(takes): // of the bubble's time
	case <-i.done:
		return
	}
	i.rig.mu.Lock()
	defer i.rig.mu.Unlock()
	if sleeps && i.rig.nap.failSleep || !sleeps && i.rig.nap.failWake {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	i.naps = sleeps
}

// rigSleeper is a server that can be put to sleep.
type rigSleeper struct{ rigServer }

func (rigSleeper) SleepRequest() *http.Request { return rigRequest("/sleep") }
func (rigSleeper) WakeRequest() *http.Request  { return rigRequest("/wake_up") }

func rigRequest(path string) *http.Request {
	r, err := http.NewRequest(http.MethodPost, "http://instance"+path, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// List and Discard are the engine's.

func (r rigEngine) List(context.Context) (names []string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hidden {
		return nil, nil
	}
	for _, i := range r.running {
		names = append(names, i.l.ID)
	}
	return append(names, r.strays...), nil
}

func (r rigEngine) Discard(_ context.Context, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counted["discard "+name]++
	r.strays = nil
	return nil
}

// Interface guard
var _ server.Sleeper = rigSleeper{}
