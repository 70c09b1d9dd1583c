package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// The official OpenAI SDK, through TLS with Caddy's own certificate authority.
func TestOpenAISDK(t *testing.T) {
	g := start(t, `
		model sdk/chat {
			repo org/sdk-chat
			alias gpt-4o-mini
			max_model_len 4096
		}
		model sdk-embed {
			repo org/sdk-embed
		}`)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			hc := g.trusting(t, protocol == "HTTP/2.0")
			seen := func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
				res, err := next(r)
				if err == nil && res.Proto != protocol {
					t.Errorf("%s %s went by %s", r.Method, r.URL.Path, res.Proto)
				}
				return res, err
			}
			client := openai.NewClient(option.WithBaseURL(g.secure+"/v1/"), option.WithAPIKey("sk-of-the-client"),
				option.WithHTTPClient(hc), option.WithMaxRetries(0), option.WithMiddleware(seen))
			t.Run("chat", func(t *testing.T) { sdkChat(t, client) })
			t.Run("stream", func(t *testing.T) { sdkStream(t, client) })
			t.Run("embeddings", func(t *testing.T) { sdkEmbeddings(t, client) })
			t.Run("models", func(t *testing.T) { sdkModels(t, client) })
			t.Run("errors", func(t *testing.T) { sdkErrors(t, client) })
		})
	}
}

const said = "the quick brown fox"

func ask(model string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(said)},
	}
}

func sdkChat(t *testing.T, client openai.Client) {
	for _, name := range []string{"sdk/chat", "gpt-4o-mini"} {
		answer, err := client.Chat.Completions.New(t.Context(), ask(name))
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Choices[0].Message.Content; !strings.Contains(got, "fox") {
			t.Errorf("%s answers %q", name, got)
		}
		if answer.Model != "sdk/chat" || answer.Usage.TotalTokens == 0 {
			t.Errorf("the model is %s, the usage %+v", answer.Model, answer.Usage)
		}
	}
}

func sdkStream(t *testing.T, client openai.Client) {
	p := ask("sdk/chat")
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(t.Context(), p)
	var whole openai.ChatCompletionAccumulator
	chunks := 0
	for stream.Next() {
		chunks++
		if !whole.AddChunk(stream.Current()) {
			t.Fatal("the chunks do not fit one another")
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if got := whole.Choices[0].Message.Content; !strings.Contains(got, "fox") || chunks < 3 || whole.Usage.TotalTokens == 0 {
		t.Errorf("%d chunks make %q with usage %+v", chunks, got, whole.Usage)
	}
}

func sdkEmbeddings(t *testing.T, client openai.Client) {
	answer, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: "sdk-embed",
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) != 2 || len(answer.Data[0].Embedding) == 0 {
		t.Errorf("the answer is %+v", answer)
	}
}

func sdkModels(t *testing.T, client openai.Client) {
	list, err := client.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	if got := strings.Join(names, " "); got != "sdk/chat gpt-4o-mini sdk-embed" {
		t.Errorf("the list is %s", got)
	}
	m, err := client.Models.Get(t.Context(), "sdk/chat")
	if err != nil || m.ID != "sdk/chat" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func sdkErrors(t *testing.T, client openai.Client) {
	fails := func(err error, status int, code string) {
		t.Helper()
		e, ok := errors.AsType[*openai.Error](err)
		if !ok || e.StatusCode != status || e.Code != code || e.Message == "" {
			t.Errorf("the error is %v, want %d %s", err, status, code)
		}
	}
	_, err := client.Chat.Completions.New(t.Context(), ask("none"))
	fails(err, 404, "model_not_found")
	_, err = client.Models.Get(t.Context(), "none")
	fails(err, 404, "model_not_found")
	_, err = client.Files.List(t.Context(), openai.FileListParams{})
	fails(err, 404, "route_not_found")
	_, err = client.Chat.Completions.New(t.Context(), ask(""))
	fails(err, 400, "model_required")

	stream := client.Chat.Completions.NewStreaming(t.Context(), ask("none"))
	if stream.Next() {
		t.Errorf("an unknown model streams %+v", stream.Current())
	}
	fails(stream.Err(), 404, "model_not_found")
}
