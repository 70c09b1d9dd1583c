package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// This file tests servers that sleep or wake badly: they are stopped and started
// anew, and no client notices more than the wait.

func TestSleepFaults(t *testing.T) {
	t.Parallel()
	sleepFaults(t, simulated, allSleepFaults)
}

// On Docker the ends of servers differ.
func TestDockerSleepFaults(t *testing.T) {
	t.Parallel()
	sleepFaults(t, docker, slices.DeleteFunc(slices.Clone(allSleepFaults), func(f sleepFault) bool { return !strings.HasSuffix(f.name, "-die") }))
}

// sleepFault is a pair of models on a card of their own. The first has the fault,
// the second needs its room.
type sleepFault struct {
	name, env string
	hangs     bool // until its server is killed
	wakes     bool // the fault is in waking
}

var allSleepFaults = []sleepFault{
	{name: "sleep-error", env: "VLLM_SIM_FAIL_SLEEP error"},
	{name: "sleep-keep", env: "VLLM_SIM_FAIL_SLEEP keep"},
	{name: "sleep-die", env: "VLLM_SIM_FAIL_SLEEP die"},
	{name: "sleep-hang", env: "VLLM_SIM_FAIL_SLEEP hang", hangs: true},
	{name: "wake-error", env: "VLLM_SIM_FAIL_WAKE error", wakes: true},
	{name: "wake-die", env: "VLLM_SIM_FAIL_WAKE die", wakes: true},
	{name: "wake-hang", env: "VLLM_SIM_FAIL_WAKE hang", hangs: true, wakes: true},
}

func sleepFaults(t *testing.T, engine string, faults []sleepFault) {
	var cards, options strings.Builder
	for n, f := range faults {
		card := fmt.Sprintf("GPU-%d", n)
		fmt.Fprintf(&cards, "gpu %s 8GiB\n", card)
		fmt.Fprintf(&options, `
			model %[1]s {
				repo org/%[1]s
				sleep
				pin_gpus %[2]s
				env %[3]s
			}
			model after-%[1]s {
				repo org/after-%[1]s
				pin_gpus %[2]s
			}`, f.name, card, f.env)
	}
	a := startApart(t, engine, cards.String(), "defaults {\n"+sleepy+"}\n"+options.String())
	for n, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			a.fails(t, f, fmt.Sprintf("GPU-%d", n))
		})
	}
}

// fails plays one fault.
func (a *apart) fails(t *testing.T, f sleepFault, card string) {
	first, second := f.name, "after-"+f.name
	a.ask(t, first)
	instance := a.instance(t, first).ID

	// request asks for a model. If the first hangs on the way there, it is killed.
	request := func(model, hangs string) {
		t.Helper()
		done := make(chan string, 1)
		go func() {
			code, _, body := a.chat(t, model)
			if code == http.StatusOK {
				body = ""
			}
			done <- fmt.Sprintf("%d %s", code, body)
		}()
		if hangs != "" {
			eventually(t, "it is "+hangs, func() bool { return a.instance(t, first).State == hangs })
			a.killServer(t, first)
		}
		if answer := <-done; answer != "200 " {
			t.Fatalf("%s: %s", model, answer)
		}
		eventually(t, model+" is idle", func() bool { return a.status(t).model(model).Queue.Serving == 0 })
	}
	switch {
	case f.wakes:
		request(second, "")
		if got := a.instance(t, first); got.ID != instance || got.State != "asleep" {
			t.Errorf("it is %+v: %q", got, a.actions(t, first))
		}
		hangs := ""
		if f.hangs {
			hangs = "waking"
		}
		request(first, hangs)
		if a.count(t, "wake", first) != 1 {
			t.Errorf("%q", a.actions(t, first))
		}
	default:
		hangs := ""
		if f.hangs {
			hangs = "sleeping"
		}
		request(second, hangs)
		if got := a.instance(t, first); got.ID != "" {
			t.Errorf("it is %+v: %q", got, a.actions(t, first))
		}
		request(first, "")
	}
	if got := a.instance(t, first); got.ID == instance || got.State != "ready" || a.count(t, "start", first) != 2 {
		t.Errorf("it is %+v: %q", got, a.actions(t, first))
	}
	uses := a.uses(t, card)
	if len(uses) != 1 || uses[first].Used == 0 {
		t.Errorf("its card is used as %+v", uses)
	}
	// What went wrong once is not tried again.
	request(second, "")
	if n := a.count(t, "sleep", first); n != 1 || a.instance(t, first).ID != "" {
		t.Errorf("it was put to sleep %d times: %q", n, a.actions(t, first))
	}
	if s := a.status(t); s.model(first).State != "stopped" || s.model(first).Failure != nil {
		t.Errorf("it is %+v", s.model(first))
	}
}
