package vllmsim

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const hello = `{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hello big world"}]}`

func TestChat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "1s", "VLLM_SIM_TOKENS_PER_SECOND": "10"}, "serve", "org/m", "--served-model-name", "m")
		begin := time.Now()
		status, body := r.post("/v1/chat/completions", hello)
		if status != 200 {
			t.Fatalf("status %d: %s", status, body)
		}
		// Five tokens: the first after 1 s, four more at 10 a second.
		if took := time.Since(begin); took != 1400*time.Millisecond {
			t.Errorf("took %v", took)
		}
		a := parse[chatAnswer](t, body)
		c := a.Choices[0]
		if a.Object != "chat.completion" || a.Model != "m" || !strings.HasPrefix(a.ID, "chatcmpl-") ||
			c.Message.Role != "assistant" || c.Message.Content != "You said: hello big world" || c.Finish != "stop" {
			t.Errorf("answer %s", body)
		}
		if want := (usage{PromptTokens: 11, CompletionTokens: 5, TotalTokens: 16}); a.Usage == nil || *a.Usage != want {
			t.Errorf("usage %+v, want %+v", a.Usage, want)
		}
	})
}

func TestReplyLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TOKENS_PER_SECOND": "0"}, "m")
		for _, test := range []struct{ fields, text, finish string }{
			{``, "You said: hi", "stop"},
			{`,"max_tokens":3`, "You said: hi", "stop"},
			{`,"max_tokens":2`, "You said:", "length"},
			{`,"max_tokens":9,"max_completion_tokens":1`, "You", "length"},
			{`,"min_tokens":5`, "You said: hi word4 word5", "stop"},
			{`,"max_tokens":4,"ignore_eos":true`, "You said: hi word4", "length"},
			{`,"max_tokens":null,"n":null,"stream":null`, "You said: hi", "stop"},
		} {
			status, body := r.post("/v1/chat/completions",
				`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]`+test.fields+`}`)
			if status != 200 {
				t.Errorf("%s: status %d: %s", test.fields, status, body)
				continue
			}
			if c := parse[chatAnswer](t, body).Choices[0]; c.Message.Content != test.text || c.Finish != test.finish {
				t.Errorf("%s: %q, %s", test.fields, c.Message.Content, c.Finish)
			}
		}
	})
}

func TestFixedReplyLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_REPLY_TOKENS": "4"}, "m")
		_, body := r.post("/v1/chat/completions", hello)
		if got := parse[chatAnswer](t, body).Choices[0].Message.Content; got != "You said: hello big" {
			t.Errorf("reply %q", got)
		}
	})
}

func TestChatStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "1s", "VLLM_SIM_TOKENS_PER_SECOND": "10"}, "m")
		events, err := r.streamed(request(t, "POST", "/v1/chat/completions",
			strings.TrimSuffix(hello, "}")+`,"stream":true,"stream_options":{"include_usage":true}}`))
		if err != nil {
			t.Fatal(err)
		}
		want := []struct {
			at                    time.Duration
			role, content, finish string
		}{
			{1000, "assistant", "", ""},
			{1000, "", "You", ""},
			{1100, "", " said:", ""},
			{1200, "", " hello", ""},
			{1300, "", " big", ""},
			{1400, "", " world", "stop"},
		}
		if len(events) != len(want)+2 {
			t.Fatalf("%d events: %v", len(events), events)
		}
		for i, w := range want {
			a := parse[chatAnswer](t, events[i].data)
			c := a.Choices[0]
			if a.Object != "chat.completion.chunk" || a.Usage != nil || events[i].at != w.at*time.Millisecond ||
				c.Delta.Role != w.role || c.Delta.Content != w.content || c.Finish != w.finish {
				t.Errorf("event %d after %v: %s", i, events[i].at, events[i].data)
			}
		}
		last := parse[chatAnswer](t, events[len(want)].data)
		if len(last.Choices) != 0 || !strings.Contains(events[len(want)].data, `"choices":[]`) || last.Usage.CompletionTokens != 5 {
			t.Errorf("usage event %s", events[len(want)].data)
		}
		if events[len(events)-1].data != "[DONE]" {
			t.Errorf("last event %s", events[len(events)-1].data)
		}
	})
}

func TestStreamHeaderComesBeforeTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_TTFT": "1m"}, "m")
		begin := time.Now()
		res, err := r.client.Do(request(t, "POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("the header took %v", took)
		}
	})
}

func TestCompletions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, "m")
		texts := func(body string) (list []string) {
			t.Helper()
			status, answer := r.post("/v1/completions", body)
			if status != 200 {
				t.Fatalf("status %d: %s", status, answer)
			}
			for i, c := range parse[chatAnswer](t, answer).Choices {
				if c.Index != i {
					t.Errorf("choice %d has index %d", i, c.Index)
				}
				list = append(list, c.Text)
			}
			return list
		}
		for body, want := range map[string][]string{
			`{"prompt":"one two"}`:                          {"You said: one two"},
			`{"prompt":["one","two"]}`:                      {"You said: one", "You said: two"},
			`{"prompt":[7,8]}`:                              {"You said: 7 8"},
			`{"prompt":[[7],[8]],"n":2}`:                    {"You said: 7", "You said: 7", "You said: 8", "You said: 8"},
			`{"prompt":"` + strings.Repeat("w ", 40) + `"}`: {"You said:" + strings.Repeat(" w", 14)},
		} {
			if got := texts(body); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %q, want %q", body, got, want)
			}
		}
		events, err := r.streamed(request(t, "POST", "/v1/completions", `{"prompt":["a","b c"],"stream":true}`))
		if err != nil {
			t.Fatal(err)
		}
		got := map[int]string{}
		for _, e := range events[:len(events)-1] {
			c := parse[chatAnswer](t, e.data).Choices[0]
			got[c.Index] += c.Text + c.Finish
		}
		if got[0] != "You said: astop" || got[1] != "You said: b cstop" || len(events) != 8 {
			t.Errorf("streamed %v in %d events", got, len(events))
		}
	})
}

func TestEmbeddings(t *testing.T) {
	type result struct {
		Object string
		Data   []struct {
			Index     int
			Embedding any
		}
		Usage usage
	}
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, env{"VLLM_SIM_EMBEDDING_SIZE": "8"}, "m")
		ask := func(fields string) result {
			t.Helper()
			status, body := r.post("/v1/embeddings", `{"model":"m",`+fields+`}`)
			if status != 200 {
				t.Fatalf("status %d: %s", status, body)
			}
			return parse[result](t, body)
		}
		plain := ask(`"input":["a b","c","a b"]`)
		if plain.Object != "list" || len(plain.Data) != 3 || plain.Usage != (usage{PromptTokens: 5, TotalTokens: 5}) {
			t.Fatalf("answer %+v", plain)
		}
		if !reflect.DeepEqual(plain.Data[0].Embedding, plain.Data[2].Embedding) || reflect.DeepEqual(plain.Data[0].Embedding, plain.Data[1].Embedding) {
			t.Error("vectors do not follow the texts")
		}
		short := ask(`"input":"a b","dimensions":3`)
		for _, v := range []any{plain.Data[0].Embedding, short.Data[0].Embedding} {
			square := 0.0
			for _, x := range v.([]any) {
				square += x.(float64) * x.(float64)
			}
			if math.Abs(square-1) > 1e-5 {
				t.Errorf("length² %v of %v", square, v)
			}
		}
		if n := len(short.Data[0].Embedding.([]any)); n != 3 {
			t.Errorf("%d dimensions, want 3", n)
		}
		encoded := ask(`"input":"a b","encoding_format":"base64"`).Data[0].Embedding.(string)
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(raw) != 8*4 {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		first := math.Float32frombits(binary.LittleEndian.Uint32(raw))
		if want := plain.Data[0].Embedding.([]any)[0].(float64); math.Abs(float64(first)-want) > 1e-6 {
			t.Errorf("base64 begins with %v, want %v", first, want)
		}
	})
}

func TestModels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, "org/m", "--served-model-name", "a", "b", "--max-model-len", "1k")
		_, body := r.get("/v1/models")
		list := parse[struct {
			Data []struct {
				ID          string
				Root        string
				MaxModelLen int `json:"max_model_len"`
			}
		}](t, body)
		if got := fmt.Sprint(list.Data); got != "[{a org/m 1000} {b org/m 1000}]" {
			t.Errorf("models %s", got)
		}
		for _, name := range []string{"a", "b"} {
			_, body := r.post("/v1/completions", `{"model":"`+name+`","prompt":"x"}`)
			if got := parse[chatAnswer](t, body).Model; got != name {
				t.Errorf("asked for %s, answered by %q: %s", name, got, body)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	chat := func(fields string) string { return `{"messages":[{"role":"user","content":"a b"}]` + fields + `}` }
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, "m", "--max-model-len", "100")
		for _, test := range []struct {
			path, body string
			code       int
			kind, text string
		}{
			{"/v1/chat/completions", chat(`,"model":"x"`), 404, "NotFoundError", "The model `x` does not exist."},
			{"/v1/embeddings", `{"model":"x","input":"a"}`, 404, "NotFoundError", "The model `x` does not exist."},
			{"/v1/chat/completions", `{"messages":`, 400, "BadRequestError", "JSON decode error"},
			{"/v1/chat/completions", `{}`, 400, "BadRequestError", "Field required"},
			{"/v1/chat/completions", `{"messages":[{"content":"a"}]}`, 400, "BadRequestError", "Field required"},
			{"/v1/chat/completions", `{"messages":[{"role":"user","content":5}]}`, 400, "BadRequestError", "content"},
			{"/v1/chat/completions", chat(`,"max_tokens":"many"`), 400, "BadRequestError", "('body', 'max_tokens')"},
			{"/v1/chat/completions", chat(`,"max_tokens":0`), 400, "BadRequestError", "max_tokens must be at least 1"},
			{"/v1/chat/completions", chat(`,"max_tokens":96`), 400, "BadRequestError", "96 > 100 - 5"},
			{"/v1/chat/completions", chat(`,"n":0`), 400, "BadRequestError", "n must be"},
			{"/v1/chat/completions", chat(`,"temperature":-1`), 400, "BadRequestError", "temperature"},
			{"/v1/chat/completions", chat(`,"top_p":2`), 400, "BadRequestError", "top_p"},
			{"/v1/chat/completions", chat(`,"priority":1`), 400, "BadRequestError", "Priority scheduling is not enabled"},
			{"/v1/chat/completions", chat(`,"stream_options":{"include_usage":true}`), 400, "BadRequestError", "stream=True"},
			{"/v1/completions", `{"prompt":"` + strings.Repeat("w ", 100) + `"}`, 400, "BadRequestError", "maximum context length is 100 tokens"},
			{"/v1/completions", `{"prompt":{}}`, 400, "BadRequestError", "should be a string"},
			{"/v1/completions", `{}`, 400, "BadRequestError", "'prompt'"},
			{"/v1/embeddings", `{"input":"a","encoding_format":"hex"}`, 400, "BadRequestError", "encoding_format"},
			{"/v1/embeddings", `{"input":"a","dimensions":65}`, 400, "BadRequestError", "dimensions"},
			{"/v1/embeddings", `{"input":"` + strings.Repeat("w ", 101) + `"}`, 400, "BadRequestError", "maximum context length"},
			{"/v1/nothing", `{}`, 404, "Not Found", "Not Found"},
			{"/v1/models", `{}`, 405, "Method Not Allowed", "Method Not Allowed"},
		} {
			status, body := r.post(test.path, test.body)
			e := parse[struct {
				Error struct {
					Message, Type string
					Code          int
				}
			}](t, body).Error
			if status != test.code || e.Code != test.code || e.Type != test.kind || !strings.Contains(e.Message, test.text) {
				t.Errorf("%s %.60s: %d %s", test.path, test.body, status, body)
			}
		}
		req := request(t, "POST", "/v1/chat/completions", chat(``))
		req.Header.Set("Content-Type", "text/plain")
		if status, body := r.do(req); status != 400 || !strings.Contains(body, "Only 'application/json' is allowed") {
			t.Errorf("wrong content type: %d %s", status, body)
		}
		if got := r.metric("num_requests_running"); got != "0" {
			t.Errorf("%s requests still run", got)
		}
	})
}

func TestKeys(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *running{
		"flag":        func(t *testing.T) *running { return serve(t, nil, "m", "--api-key", "one", "two") },
		"environment": func(t *testing.T) *running { return serve(t, env{"VLLM_API_KEY": "two"}, "m") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t)
				for _, test := range []struct {
					path, header string
					want         int
				}{
					{"/v1/models", "Bearer two", 200},
					{"/v1/models", "bearer two", 200},
					{"/v1/models", "", 401},
					{"/v1/models", "Bearer twoo", 401},
					{"/v1/models", "Basic two", 401},
					{"/health", "", 200},
					{"/metrics", "", 200},
					{"/version", "", 200},
				} {
					req := request(t, "GET", test.path, "")
					req.Header.Set("Authorization", test.header)
					status, body := r.do(req)
					if status != test.want || status == 401 && body != `{"error":"Unauthorized"}` {
						t.Errorf("%s with %q: %d %s", test.path, test.header, status, body)
					}
				}
			})
		})
	}
}

func TestSmallRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := serve(t, nil, "m", "--enable-request-id-headers")
		for path, want := range map[string]string{"/health": "", "/ping": "", "/version": `{"version":"` + Version + `"}`} {
			if status, body := r.get(path); status != 200 || body != want {
				t.Errorf("%s: %d %q", path, status, body)
			}
		}
		req := request(t, "POST", "/v1/chat/completions", hello)
		req.Header.Set("X-Request-Id", "mine")
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("X-Request-Id"); got != "mine" {
			t.Errorf("X-Request-Id %q", got)
		}
		quiet := serve(t, nil, "m")
		res, err = quiet.client.Do(request(t, "GET", "/health", ""))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("X-Request-Id"); got != "" {
			t.Errorf("X-Request-Id %q without the flag", got)
		}
	})
}

func TestRunnerDecidesRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for runner, want := range map[string][2]int{"auto": {200, 200}, "generate": {200, 404}, "pooling": {404, 200}} {
			r := serve(t, nil, "m", "--runner", runner)
			chat, _ := r.post("/v1/completions", `{"prompt":"a"}`)
			embed, _ := r.post("/v1/embeddings", `{"input":"a"}`)
			if chat != want[0] || embed != want[1] {
				t.Errorf("--runner %s: completions %d, embeddings %d", runner, chat, embed)
			}
		}
	})
}
