package e2e

import (
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// slow is a model that takes half a second for an answer, and gives one at a time.
const slow = `
			env VLLM_SIM_REPLY_TOKENS 24
			env VLLM_SIM_TOKENS_PER_SECOND 40
			max_concurrent 1
`

// A reload under load, with a model that stays, one that changes, one that is new
// and one that is removed.
func TestReloadUnderLoad(t *testing.T) {
	stay := "model stay {\n repo org/stay\n" + slow + "}\n"
	g := start(t, stay+
		"model change {\n repo org/change\n max_model_len 2048\n"+slow+"}\n"+
		"model gone {\n repo org/gone\n"+slow+"}\n")
	for _, model := range []string{"stay", "change", "gone"} { // all are loaded
		if code, _, body := g.chat(t, model); code != 200 {
			t.Fatalf("%s: status %d: %s", model, code, body)
		}
	}
	before := g.status(t)

	var wg sync.WaitGroup
	var mu sync.Mutex
	var order []string // of first events at the model that stays
	stream := func(model, name string) (began <-chan struct{}) {
		first := make(chan struct{})
		wg.Go(func() {
			err := g.stream(t.Context(), model, func() {
				mu.Lock()
				defer mu.Unlock()
				if model == "stay" {
					order = append(order, name)
				}
				close(first)
			})
			if err != nil {
				t.Errorf("%s of %s: %v", name, model, err)
			}
		})
		return first
	}
	waiting := func(n int) {
		t.Helper()
		eventually(t, "requests wait", func() bool { return g.status(t).model("stay").Queue.Depth == n })
	}
	<-stream("stay", "first")
	stream("stay", "second")
	waiting(1)
	stream("stay", "third")
	waiting(2)
	<-stream("change", "first")
	<-stream("gone", "first")

	if err := g.load(stay +
		"model change {\n repo org/change\n max_model_len 4096\n" + slow + "}\n" +
		"model new {\n repo org/new\n}\n"); err != nil {
		t.Fatal(err)
	}
	stream("stay", "fourth")
	if code, _, body := g.chat(t, "new"); code != 200 {
		t.Errorf("the new model: status %d: %s", code, body)
	}
	// Connections of before are still served by the old configuration's handlers.
	eventually(t, "the removed model is unknown", func() bool {
		g.client.CloseIdleConnections()
		code, _, _ := g.chat(t, "gone")
		return code == http.StatusNotFound
	})
	if code, _, body := g.chat(t, "change"); code != 200 {
		t.Errorf("the changed model: status %d: %s", code, body)
	}
	wg.Wait()
	if want := []string{"first", "second", "third", "fourth"}; !slices.Equal(order, want) {
		t.Errorf("the model that stays served %v", order)
	}

	after := g.status(t)
	if a, b := before.instances("stay"), after.instances("stay"); len(a) != 1 || !slices.Equal(a, b) {
		t.Errorf("the model that stays ran as %v, and runs as %v", a, b)
	}
	if a, b := before.instances("change"), after.instances("change"); len(b) != 1 || slices.Equal(a, b) {
		t.Errorf("the changed model ran as %v, and runs as %v", a, b)
	}
	eventually(t, "the removed model's server is gone", func() bool {
		return !slices.ContainsFunc(g.status(t).Instances, func(i vramman.InstanceStatus) bool { return i.Model == "gone" })
	})
}

// A configuration that another app refuses changes nothing, whatever it says of
// models.
func TestReloadThatFailsElsewhere(t *testing.T) {
	g := start(t, "model keep {\n repo org/keep\n"+slow+"}\n")
	if code, _, body := g.chat(t, "keep"); code != 200 {
		t.Fatalf("status %d: %s", code, body)
	}
	before := g.status(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	began, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- g.stream(t.Context(), "keep", func() { close(began) }) }()
	<-began
	g.extra = "http://" + taken.Addr().String() + " {\n respond ok\n}\n"
	for _, models := range []string{
		"model other {\n repo org/other\n always_on\n}\n", // without the one that runs
		"model keep {\n repo org/changed\n}\n",            // with another in its place
	} {
		err := g.load(models)
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Fatalf("loading ended with %v", err)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("the stream: %v", err)
	}
	if code, _, body := g.chat(t, "keep"); code != 200 {
		t.Errorf("status %d: %s", code, body)
	}
	if code, _, _ := g.chat(t, "other"); code != 404 {
		t.Errorf("a model of the refused configuration: status %d", code)
	}
	after := g.status(t)
	if a, b := before.instances("keep"), after.instances("keep"); len(a) != 1 || !slices.Equal(a, b) {
		t.Errorf("the model ran as %v, and runs as %v", a, b)
	}
	if len(after.Models) != 1 {
		t.Errorf("the models are %+v", after.Models)
	}
}
