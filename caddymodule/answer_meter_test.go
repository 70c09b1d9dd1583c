package caddymodule

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// metered is an answer that is watched, and what its ticket was told.
func metered(t *testing.T, header, body string, oneByte bool) (served string, m *answerMeter) {
	t.Helper()
	r := io.Reader(strings.NewReader(body))
	if oneByte {
		r = iotest.OneByteReader(r)
	}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "/", nil)
	res := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {header}}, Body: io.NopCloser(r), ContentLength: -1, Request: req}
	watch(res, &exchange{route: openai.Route{}})
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := res.Body.(*eventStream); ok {
		m, _ = e.ReadCloser.(*answerMeter)
	} else {
		m, _ = res.Body.(*answerMeter)
	}
	_ = res.Body.Close()
	return string(b), m
}

func TestAnswersPassTheMeterUnchanged(t *testing.T) {
	long := strings.Repeat("data: {\"x\":1}\n\n", 1000)
	for _, oneByte := range []bool{false, true} {
		for _, body := range []string{"", "x", long, long + "data: {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n"} {
			for _, kind := range []string{"text/event-stream", "application/json"} {
				if got, _ := metered(t, kind, body, oneByte); got != body {
					t.Errorf("%s, byte by byte %t: %d bytes became %d", kind, oneByte, len(body), len(got))
				}
			}
		}
	}
}

// Who gets long answers has fewer turns: what passes is charged.
func TestAnswersAreCharged(t *testing.T) {
	const usage = `data: {"usage":{"prompt_tokens":10,"completion_tokens":1000}}` + "\n\n"
	for name, body := range map[string]string{
		"events": strings.Repeat("data: x\n\n", 1000),
		"usage":  usage + "data: [DONE]\n\n",
		"both":   strings.Repeat("data: x\n\n", 5000) + usage,
	} {
		for _, oneByte := range []bool{false, true} {
			_, m := metered(t, "text/event-stream", body, oneByte)
			if !m.told || m.tail != nil {
				t.Errorf("%s: the ticket was not told", name)
			}
		}
	}
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 2, 10 })
	model, err := app.generation.Find(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	greedy, modest := &vramman.Ticket{Request: vramman.Request{Client: "greedy"}}, &vramman.Ticket{Request: vramman.Request{Client: "modest"}}
	for _, ticket := range []*vramman.Ticket{greedy, modest} {
		if err := model.Admit(t.Context(), time.Now(), ticket); err != nil {
			t.Fatal(err)
		}
	}
	order := make(chan string, 2)
	for n, client := range []string{"greedy", "modest"} {
		go func() {
			ticket := &vramman.Ticket{Request: vramman.Request{Client: client}}
			if err := model.Admit(t.Context(), time.Now(), ticket); err != nil {
				t.Error(err)
			}
			order <- client
			ticket.Return(time.Now())
		}()
		waitForDepth(t, app, "tiny", n+1)
	}
	m := &answerMeter{ReadCloser: io.NopCloser(strings.NewReader(`{"usage":{"prompt_tokens":10,"completion_tokens":1000}}`)), ticket: greedy}
	_, _ = io.Copy(io.Discard, m)
	greedy.Return(time.Now())
	if first := <-order; first != "modest" {
		t.Errorf("%s goes first", first)
	}
	modest.Return(time.Now())
	<-order
}

func BenchmarkMeteredEvent(b *testing.B) {
	event := []byte("data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}],\"model\":\"tiny\"}\n\n")
	m := &answerMeter{ticket: new(vramman.Ticket), events: true}
	b.ReportAllocs()
	for b.Loop() {
		m.note(event)
	}
}
