package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

func TestResponseID(t *testing.T) {
	for _, tt := range []struct {
		head   string
		events bool
		want   string
	}{
		{`{"id":"resp_1","object":"response"}`, false, "resp_1"},
		{`{"object":"response","tools":[{"id":"resp_0"}],"id" : "resp_1"`, false, "resp_1"},
		{"event: response.created\ndata: {\"response\":{\"id\":\"resp_1\",\"out\":[]},\"sequence_number\":0}\n\n", true, "resp_1"},
		{"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"", true, "resp_1"},
		{`{"metadata":{"id":"resp_0"},"id":"resp_1"}`, false, "resp_1"},
		{`{"instructions":"{\"id\":\"resp_0\"}","id":"resp_1"}`, false, "resp_1"},
		{`{"id":"resp_1`, false, ""},
		{`{"id":"resp_1/cancel"}`, false, ""},
		{`{"id":"resp_../x"}`, false, ""},
		{`{"id":7}`, false, ""},
		{`["id","resp_1"]`, false, ""},
		{"event: response.created\n", true, ""},
		{"", false, ""},
	} {
		if got := responseID([]byte(tt.head), tt.events); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.head, got, tt.want)
		}
	}
}

func FuzzResponseID(f *testing.F) {
	f.Add([]byte(`{"id":"resp_1"}`), false)
	f.Add([]byte("data: {\"response\":{\"id\":\"resp_1\"}}\n"), true)
	f.Add([]byte("data:{\"response\":[{\"id\""), true)
	f.Fuzz(func(t *testing.T, head []byte, events bool) {
		id := responseID(head, events)
		if id != "" && (!strings.HasPrefix(id, "resp_") || strings.ContainsAny(id, "/.%?#")) {
			t.Errorf("%q has the ID %q", head, id)
		}
		var whole struct{ ID string }
		if !events && id != "" && json.Unmarshal(head, &whole) == nil && whole.ID == "" {
			t.Errorf("%q has the ID %q", head, id)
		}
	})
}

// The oldest responses are forgotten, and nobody can take an ID over.
func TestStoredResponsesAreBounded(t *testing.T) {
	var s storedResponses
	id := func(i int) string { return fmt.Sprintf("resp_%d", i) }
	for i := range maxStoredResponses + 10 {
		s.note(id(i), storedResponse{model: "tiny"})
		s.note(id(i), storedResponse{model: "other"})
	}
	if len(s.of) != maxStoredResponses || len(s.ring) != maxStoredResponses {
		t.Errorf("%d responses are remembered", len(s.of))
	}
	for i, want := range map[int]bool{0: false, 9: false, 10: true, maxStoredResponses + 9: true} {
		if r, ok := s.find(id(i)); ok != want || ok && r.model != "tiny" {
			t.Errorf("response %d: %v, %t", i, r, ok)
		}
	}
}

// A response is asked of the instance that gave it, for those who got it.
func TestStoredResponse(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream %t", stream), func(t *testing.T) {
			id := fmt.Sprintf("resp_of-%t", stream)
			a := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPost && r.URL.Path == "/v1/responses" && stream:
					w.Header().Set("Content-Type", "text/event-stream")
					for _, part := range []string{"event: response.created\nda", `ta: {"response":{"id":"` + id + `"}}` + "\n\n", "data: {}\n\n"} {
						_, _ = io.WriteString(w, part)
						_ = http.NewResponseController(w).Flush()
					}
				case r.Method == http.MethodPost && r.URL.Path == "/v1/responses":
					fmt.Fprintf(w, `{"id":%q}`, id)
				default:
					b, _ := io.ReadAll(r.Body)
					fmt.Fprintf(w, "%s %s %q", r.Method, r.URL.RequestURI(), b)
				}
			})}, nil)
			srv := gatewayOf(t, a)
			ask := func(method, path, body string) (int, string) {
				r, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				res, err := srv.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				return res.StatusCode, text(t, res)
			}
			if code, answer := ask(http.MethodGet, "/v1/responses/"+id, ""); code != http.StatusNotFound {
				t.Errorf("before there is one: %d %s", code, answer)
			}
			if code, answer := ask(http.MethodPost, "/v1/responses", fmt.Sprintf(`{"model":"tiny","stream":%t}`, stream)); code != http.StatusOK {
				t.Fatalf("%d %s", code, answer)
			}
			if code, answer := ask(http.MethodGet, "/v1/responses/"+id+"?stream=true&key=secret&starting_after=3", ""); code != http.StatusOK ||
				answer != "GET /v1/responses/"+id+`?starting_after=3&stream=true ""` {
				t.Errorf("%d %s", code, answer)
			}
			if code, answer := ask(http.MethodPost, "/v1/responses/"+id+"/cancel", "{}"); code != http.StatusOK ||
				answer != "POST /v1/responses/"+id+`/cancel ""` {
				t.Errorf("%d %s", code, answer)
			}
			// Its instance is gone, and another has taken its place.
			kept, _ := responses.find(id)
			kept.instance += "-gone"
			responses.of[id] = kept
			if code, answer := ask(http.MethodGet, "/v1/responses/"+id, ""); code != http.StatusNotFound || !strings.Contains(answer, `"code":"response_not_found"`) {
				t.Errorf("%d %s", code, answer)
			}
			if n := leases(t, a); n != 0 {
				t.Errorf("%d leases are held", n)
			}
		})
	}
}

// Whose key did not get a response cannot ask for it.
func TestStoredResponseOfAnotherKey(t *testing.T) {
	a := appWith(t, &fakeEngine{handler: healthy(func(w http.ResponseWriter, r *http.Request) {})}, nil)
	responses.note("resp_of-alice", storedResponse{model: "tiny", instance: "tiny-1", caller: "alice"})
	h := admissionTo(a, zapcore.NewNopCore())
	for name, want := range map[string]bool{"alice": true, "bob": false, "": false} {
		r := socketTo("/v1/responses/resp_of-alice")
		if name != "" {
			r = withCaller(r, &Caller{Name: name})
		}
		x := new(exchange)
		x.route.Path, x.route.Streams = "/v1/responses/resp_of-alice", true
		_, err := h.prepareStored(r, x)
		if (err == nil) != want || want && x.keeper != "tiny-1" {
			t.Errorf("key %q: %v, kept by %q", name, err, x.keeper)
		}
	}
}
