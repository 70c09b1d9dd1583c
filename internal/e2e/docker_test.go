package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/vllm-gateway/vllm-gateway/internal/dockertest"
	"github.com/vllm-gateway/vllm-gateway/internal/simcard"
)

// dockerHouse is a gateway whose servers are containers on a real Docker, with
// simulated cards that they share through a mount.
type dockerHouse struct {
	*gateway
	api   *client.Client
	name  string // the gateway's
	cards string // their folder
	began time.Time
}

// startOnDocker runs such a gateway until the test ends, and has the test fail if
// anything is left then.
func startOnDocker(t *testing.T, gpus, models string) *dockerHouse {
	t.Helper()
	h := &dockerHouse{api: dockertest.Connect(t), name: "e2e-" + strings.ToLower(rand.Text()[:10]), cards: t.TempDir(), began: time.Now()}
	image := dockertest.Image(t, h.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim")
	// Caddy's end lets the servers finish first, and then the engine.
	t.Cleanup(func() {
		eventually(t, "nothing is left on Docker", func() bool {
			left, err := dockertest.Leftovers(context.Background(), h.api, h.name)
			return err == nil && len(left) == 0
		})
	})
	h.gateway = startIn(t, fmt.Sprintf(`
		name %[1]s
		engine docker {
			image %[2]s
			network %[1]s
			cache off
			compile_cache off
			gpu_access none
			mount %[3]q %[3]q
			env VLLM_SIM_LOAD_TIME 300ms
			env VLLM_SIM_STOP_TIME 200ms
			stop_on_exit
		}
		gpus simulated {
			folder %[3]q
			%[4]s
		}
		defaults {
			vram 10GiB
			min_residency 0s
		}`, h.name, image, h.cards, gpus), models)
	t.Cleanup(func() {
		if overlaps, err := simcard.Overlaps(h.cards); err != nil || len(overlaps) > 0 {
			t.Errorf("servers were at one card's memory together: %v, %v", overlaps, err)
		}
	})
	return h
}

// ask sends a chat request that must be answered.
func (h *dockerHouse) ask(t *testing.T, model string) {
	t.Helper()
	if code, _, body := h.chat(t, model); code != 200 {
		t.Errorf("%s: status %d: %s", model, code, body)
	}
}

// containers are the gateway's own, by model.
func (h *dockerHouse) containers(t *testing.T) map[string]string {
	t.Helper()
	r, err := h.api.ContainerList(t.Context(), client.ContainerListOptions{
		Filters: make(client.Filters).Add("label", "vllm-gateway.gateway="+h.name),
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]string)
	for _, c := range r.Items {
		ids[c.Labels["vllm-gateway.model"]] = c.ID
	}
	return ids
}

// actions are the decisions of this test so far, such as "start a".
func (h *dockerHouse) actions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, d := range h.status(t).Decisions {
		if !d.Time.Before(h.began) {
			all = append(all, d.Action+" "+d.Model)
		}
	}
	return all
}

// Of three models two fit on the card: the one that was used least recently makes
// room, its memory is charged until it is free, and no two servers are at the
// card's memory together. A foreign container stays.
func TestDockerSwaps(t *testing.T) {
	h := startOnDocker(t, "gpu GPU-1 24GiB", `
		model a {
			repo org/a
		}
		model b {
			repo org/b
		}
		model c {
			repo org/c
		}`)
	foreign := h.name + "-foreign"
	made, err := h.api.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: foreign, Image: dockertest.Image(t, h.api, "github.com/vllm-gateway/vllm-gateway/cmd/vllm-sim"),
	})
	if err == nil {
		_, err = h.api.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	// It is left alone while the gateway lives, and is ended before anybody looks
	// for what is left.
	defer func() {
		s, err := h.api.ContainerInspect(context.Background(), made.ID, client.ContainerInspectOptions{})
		if err != nil || !s.Container.State.Running {
			t.Errorf("the foreign container does not run: %v", err)
		}
		if _, err := h.api.ContainerRemove(context.Background(), made.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}()

	watched, stop := make(chan int), make(chan struct{})
	go func() { watched <- h.watchCharge(t, stop) }()
	var wg sync.WaitGroup
	for _, model := range []string{"a", "b"} { // their starts overlap
		wg.Go(func() { h.ask(t, model) })
	}
	wg.Wait()
	h.ask(t, "a")
	h.ask(t, "c") // b makes room
	if got := h.containers(t); len(got) != 2 || got["a"] == "" || got["c"] == "" {
		t.Errorf("the containers are %v, want those of a and c", got)
	}
	h.ask(t, "b") // a does
	close(stop)
	if n := <-watched; n == 0 {
		t.Error("nobody looked at the card while it was in use")
	}
	evicted := slices.DeleteFunc(h.actions(t), func(a string) bool { return !strings.HasPrefix(a, "evict ") })
	if want := []string{"evict b", "evict a"}; !slices.Equal(evicted, want) {
		t.Errorf("made room: %q, want %q", evicted, want)
	}
}

// watchCharge looks until it is stopped whether the card is charged with all that
// is used of it, and returns how often it could tell.
func (h *dockerHouse) watchCharge(t *testing.T, stop <-chan struct{}) (looks int) {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-stop:
			return looks
		case <-again.C:
		}
		before, err := simcard.Read(h.cards, "GPU-1")
		if err != nil {
			t.Error(err)
			return looks
		}
		charged := h.status(t).GPUs[0].Charged
		after, err := simcard.Read(h.cards, "GPU-1")
		if err != nil {
			t.Error(err)
			return looks
		}
		if used := before.Used(); used > 0 && used == after.Used() {
			looks++
			if charged < used {
				t.Errorf("%d bytes of the card are in use and only %d charged", used, charged)
			}
		}
	}
}

// On two cards starts go on together.
func TestDockerStartsOnTwoCards(t *testing.T) {
	h := startOnDocker(t, "gpu GPU-1 12GiB\ngpu GPU-2 12GiB", `
		model a {
			repo org/a
		}
		model b {
			repo org/b
		}`)
	var wg sync.WaitGroup
	for _, model := range []string{"a", "b"} {
		wg.Go(func() { h.ask(t, model) })
	}
	wg.Wait()
	actions := h.actions(t)
	last := max(slices.Index(actions, "start a"), slices.Index(actions, "start b"))
	first := min(slices.Index(actions, "ready a"), slices.Index(actions, "ready b"))
	if first < last {
		t.Errorf("one waited for the other: %q", actions)
	}
}

// A container that somebody kills is noticed, and the next request starts another.
func TestDockerKilledFromOutside(t *testing.T) {
	h := startOnDocker(t, "gpu GPU-1 24GiB", `
		model a {
			repo org/a
		}`)
	h.ask(t, "a")
	killed := h.containers(t)["a"]
	if _, err := h.api.ContainerKill(t.Context(), killed, client.ContainerKillOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the death is noticed", func() bool { return slices.Contains(h.actions(t), "failed a") })
	eventually(t, "another serves", func() bool {
		code, _, _ := h.chat(t, "a")
		return code == 200
	})
	if now := h.containers(t)["a"]; now == "" || now == killed {
		t.Errorf("the container is %q and was %q", now, killed)
	}
}
