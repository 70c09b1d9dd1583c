package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// This file tests models that sleep in the place of being stopped.

// sleepy are defaults of models of which one fits a card of 8 GiB awake and two do
// if one sleeps. Their weights are small, so that waking them is expected to take
// less than a load, and that a small host has the memory for it.
const sleepy = `
	vram 5GiB
	min_residency 0s
	env VLLM_SIM_WEIGHTS 268435456
	env VLLM_SIM_LOAD_TIME 300ms
`

// residual is what a stand-in keeps on each card asleep, in bytes, and asleep what
// its weights are counted with in the host's memory.
const (
	residual = (512 + 640) * mib
	inHost   = 2 * 256 * mib
)

// uses is what each server uses of a card, by its model.
func (a *apart) uses(t *testing.T, uuid string) map[string]simcard.Use {
	t.Helper()
	c, err := simcard.Read(a.cards, uuid)
	if err != nil {
		t.Fatal(err)
	}
	uses := make(map[string]simcard.Use)
	for _, u := range c.Uses {
		uses[u.Label] = u
	}
	return uses
}

func TestSleep(t *testing.T)       { t.Parallel(); sleep(t, simulated) }
func TestDockerSleep(t *testing.T) { t.Parallel(); sleep(t, docker) }

// sleep has two models take turns on one card: who makes room sleeps, and is woken
// when it is asked for.
func sleep(t *testing.T, engine string) {
	a := startApart(t, engine, "gpu GPU-1 8GiB", `
		defaults {
			sleep
			`+sleepy+`
		}
		model a {
			repo org/a
			env VLLM_SIM_REPLY_TOKENS 40
			env VLLM_SIM_TOKENS_PER_SECOND 100
		}
		model b {
			repo org/b
		}
		model large {
			repo org/large
			sleep off
			vram 7GiB
		}`)
	a.ask(t, "a")
	awake := a.uses(t, "GPU-1")["a"].Used
	if p := a.plan(t, "b"); p.Verdict != "start" || len(p.Victims) != 1 || p.Victims[0] != (vramman.VictimStatus{Instance: "a-1", Action: "sleep"}) {
		t.Errorf("the plan for b is %+v", p)
	}
	a.ask(t, "b")
	s, uses := a.status(t), a.uses(t, "GPU-1")
	i := a.instance(t, "a")
	if u := uses["a"]; u.Used != residual || u.Phase != simcard.Asleep || uses["b"].Phase != simcard.Serving || awake < 4*gib {
		t.Errorf("awake a used %d, and then the card is used as %+v", awake, uses)
	}
	if s.model("a").State != "asleep" || i.State != "asleep" || i.Charged != residual || s.Host.Asleep != inHost || s.Host.Room <= 0 {
		t.Errorf("a is %+v, the host's memory %+v", i, s.Host)
	}
	if s.GPUs[0].Charged != residual+a.instance(t, "b").Charged {
		t.Errorf("the card is %+v", s.GPUs[0])
	}
	if p := a.plan(t, "a"); p.Verdict != "wake" || len(p.Victims) != 1 || p.Victims[0].Action != "sleep" {
		t.Errorf("the plan for a is %+v", p)
	}

	unreachable(t, a, "b") // while b is awake, and a asleep
	if engine == docker {
		unreachableFromContainers(t, a)
	}

	for range 3 {
		for _, model := range []string{"a", "b"} {
			a.ask(t, model)
			uses := a.uses(t, "GPU-1")
			if u := uses[model]; u.Used < 4*gib || u.Phase != simcard.Serving {
				t.Errorf("%s serves, and the card is used as %+v", model, uses)
			}
		}
	}
	for _, model := range []string{"a", "b"} {
		if n := a.count(t, "start", model); n != 1 {
			t.Errorf("%s was started %d times: %q", model, n, a.actions(t, model))
		}
		if n := a.count(t, "wake", model); n != 3 {
			t.Errorf("%s was woken %d times: %q", model, n, a.actions(t, model))
		}
	}

	// A request under way is not disturbed by one that wants its room.
	began, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.stream(t.Context(), "a", func() { close(began) }) }()
	<-began
	a.ask(t, "b")
	if err := <-done; err != nil {
		t.Errorf("the stream ended with %v", err)
	}

	// Who does not fit beside what is left of a sleeping one has it stopped.
	a.ask(t, "large")
	if left := a.uses(t, "GPU-1"); len(left) != 1 || left["large"].Used == 0 {
		t.Errorf("the card is used as %+v", left)
	}
	if h := a.status(t).Host; h.Asleep != 0 {
		t.Errorf("the host's memory is %+v", h)
	}
	a.ask(t, "a")
}

// unreachable looks for a way for clients to the routes by which servers are put
// to sleep and woken.
func unreachable(t *testing.T, a *apart, model string) {
	t.Helper()
	s := a.server(t, model)
	if code, body := s.get(t, "/is_sleeping"); code != http.StatusOK || !strings.Contains(body, "false") {
		t.Errorf("the server itself answers %d: %s", code, body)
	}
	transport := new(http.Transport) // follows nobody anywhere else
	defer transport.CloseIdleConnections()
	for _, path := range []string{
		"/sleep", "/sleep/", "//sleep", "/./sleep", "/SLEEP", "/%73leep", "/sl%65ep", "/%2fsleep", "/sleep%3flevel=1", "/sleep;level=1", "/sleep%00",
		"/sleep%20", `/\sleep`, "/v1/../sleep", "/v1/%2e%2e/sleep", "/v1/..%2fsleep", "/v1/chat/completions/../../../sleep",
		"/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/sleep", "/v1/chat/completions/..%2f..%2f..%2fsleep", "/v1/sleep", "/health/../sleep", "/v1/models/../../sleep",
		"/wake_up", "/wake_up/", "//wake_up", "/wake%5fup", "/v1/../wake_up", "/is_sleeping", "//is_sleeping", "/%69s_sleeping", "/v1/../is_sleeping",
		"/collective_rpc", "//collective_rpc", "/server_info", "/reset_prefix_cache",
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodPut, "sleep"} {
			r, err := http.NewRequestWithContext(t.Context(), method, a.plain, strings.NewReader(`{"model":"`+model+`","messages":[]}`))
			if err != nil {
				t.Fatal(err)
			}
			r.URL = &url.URL{Scheme: "http", Host: r.URL.Host, Opaque: "//" + r.URL.Host + path, RawQuery: "level=1"}
			r.Header.Set("Content-Type", "application/json")
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			// Of /v1/models/{name} the gateway itself takes GET only.
			own := strings.HasPrefix(path, "/v1/models/") && method != http.MethodGet && res.StatusCode == http.StatusMethodNotAllowed
			if res.StatusCode != http.StatusNotFound && !own {
				t.Errorf("%s %s: status %d: %s", method, path, res.StatusCode, body)
			}
		}
	}
	if code, body := s.get(t, "/is_sleeping"); code != http.StatusOK || !strings.Contains(body, "false") {
		t.Errorf("now the server answers %d: %s", code, body)
	}
}

// unreachableFromContainers has another container on the servers' bridge try to
// reach one.
func unreachableFromContainers(t *testing.T, a *apart) {
	t.Helper()
	const port = "9000"
	made, err := a.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:             a.name + "-probe",
		Image:            dockertest.Image(t, a.api, "github.com/vllm-gateway/vllm-gateway/vramman/engine/docker/testdata/probe"),
		Config:           &container.Config{Cmd: []string{"-port", port}},
		NetworkingConfig: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{a.name: {}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := a.api.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}()
	if _, err := a.api.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	i, err := a.api.ContainerInspect(t.Context(), made.ID, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	probe := server{address: i.Container.NetworkSettings.Networks[a.name].IPAddress.String() + ":" + port}
	eventually(t, "the probe answers", func() bool {
		res, err := http.Get("http://" + probe.address + "/dial?address=127.0.0.1:" + port) // itself
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	for _, model := range []string{"a", "b"} {
		s := a.server(t, model)
		if code, _ := s.get(t, "/is_sleeping"); code != http.StatusOK {
			t.Errorf("from the host the server of %s answers %d", model, code)
		}
		if code, body := probe.get(t, "/dial?address="+s.address); code != http.StatusBadGateway {
			t.Errorf("from another container, the server of %s: %d: %s", model, code, body)
		}
	}
}

func TestIdleSleep(t *testing.T) {
	t.Parallel()
	const options = `
		defaults {
			` + sleepy + `
			idle_timeout 2s
		}
		model idle {
			repo org/idle
			%s
		}
		model changed {
			repo org/changed
			sleep
			max_model_len %d
			idle_timeout 1h
		}
		model other {
			repo org/other
			idle_timeout 0s
		}`
	a := startApart(t, simulated, "gpu GPU-1 8GiB\ngpu GPU-2 8GiB", fmt.Sprintf(options, "sleep", 1024))

	// Who is idle for long enough sleeps, and for twice as long is stopped.
	a.ask(t, "idle")
	eventually(t, "it sleeps", func() bool { return a.status(t).model("idle").State == "asleep" })
	eventually(t, "it is stopped", func() bool { return len(a.uses(t, "GPU-1")) == 0 })
	if got := a.actions(t, "idle"); !slices.Equal(got, []string{"start", "ready", "sleep", "asleep", "stop", "gone"}) {
		eventually(t, "that is told", func() bool {
			got = a.actions(t, "idle")
			return slices.Equal(got, []string{"start", "ready", "sleep", "asleep", "stop", "gone"})
		})
	}

	// One that sleeps is not woken for another configuration, but started anew.
	a.ask(t, "other")
	a.ask(t, "changed")
	if !slices.Equal(a.instance(t, "changed").GPUs, []string{"GPU-2"}) {
		t.Fatalf("they are %+v", a.status(t).Instances)
	}
	a.reload(t, fmt.Sprintf(options, "pin_gpus GPU-2\n", 1024))
	a.ask(t, "idle") // on the card of the one that is to change
	eventually(t, "it makes room asleep", func() bool { return a.status(t).model("changed").State == "asleep" })
	a.reload(t, fmt.Sprintf(options, "pin_gpus GPU-2\n", 2048))
	eventually(t, "what sleeps goes", func() bool { return a.instance(t, "changed").ID == "" })
	a.ask(t, "changed")
	if a.count(t, "start", "changed") != 2 || a.count(t, "wake", "changed") != 0 {
		t.Errorf("%q", a.actions(t, "changed"))
	}
}

// A model on two cards sleeps on both, also where one of them is needed only; and
// not at all where the host's memory is for others.
func TestSleepOnTwoCards(t *testing.T) {
	t.Parallel()
	options := func(further string) string {
		return further + `
		defaults {
			` + sleepy + `
		}
		model wide {
			repo org/wide
			tensor_parallel 2
			sleep
		}
		model small {
			repo org/small
			pin_gpus GPU-2
		}`
	}
	a := startApart(t, simulated, "gpu GPU-1 8GiB\ngpu GPU-2 8GiB", options(""))
	a.ask(t, "wide")
	a.ask(t, "small")
	for _, uuid := range []string{"GPU-1", "GPU-2"} {
		if u := a.uses(t, uuid)["wide"]; u.Used != residual || u.Phase != simcard.Asleep {
			t.Errorf("on %s it uses %+v", uuid, u)
		}
	}
	s := a.status(t)
	if s.Host.Asleep != 2*inHost || s.GPUs[0].Charged != residual || s.GPUs[1].Charged != residual+a.instance(t, "small").Charged {
		t.Errorf("the host's memory is %+v, the cards are %+v", s.Host, s.GPUs)
	}
	a.ask(t, "wide")
	if a.count(t, "start", "wide") != 1 || a.count(t, "evict", "small") != 1 {
		t.Errorf("%q", a.actions(t, ""))
	}
	for _, uuid := range []string{"GPU-1", "GPU-2"} {
		if u := a.uses(t, uuid)["wide"]; u.Used < 4*gib || u.Phase != simcard.Serving {
			t.Errorf("awake it uses %+v of %s", u, uuid)
		}
	}

	a.reload(t, options("sleep_memory 768MiB")) // its weights are counted with 1 GiB
	a.ask(t, "small")
	if a.count(t, "evict", "wide") != 1 || len(a.uses(t, "GPU-1")) != 0 {
		t.Errorf("%q", a.actions(t, ""))
	}
}
