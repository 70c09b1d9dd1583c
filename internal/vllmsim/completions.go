// POST /v1/completions.

package vllmsim

import "net/http"

type completionRequest struct {
	sampling
	Prompt inputs `json:"prompt"`
}

// defaultCompletionTokens is how long a completion may be that sets no limit.
const defaultCompletionTokens = 16

func (s *Server) completion(w http.ResponseWriter, c *call) error {
	var req completionRequest
	if err := decode(c.request, &req); err != nil {
		return err
	}
	if err := req.Prompt.check("prompt"); err != nil {
		return err
	}
	if req.MaxTokens == nil && req.MaxCompletionTokens == nil {
		n := defaultCompletionTokens
		req.MaxTokens = &n
	}
	return s.generate(w, c, &req.sampling, completionShape{}, req.Prompt.tokens(), req.Prompt)
}

// completionShape is how completion answers look, streamed or not.
type completionShape struct{}

type completionChoice struct {
	Index        int       `json:"index"`
	Text         string    `json:"text"`
	Logprobs     *struct{} `json:"logprobs"`
	FinishReason *string   `json:"finish_reason"`
	StopReason   *string   `json:"stop_reason"`
}

func (completionShape) idPrefix() string { return "cmpl-" }

func (completionShape) object(bool) string { return "text_completion" }

func (completionShape) whole(index int, text, reason string) any {
	return completionChoice{Index: index, Text: text, FinishReason: &reason}
}

func (completionShape) opening(int) any { return nil }

func (completionShape) part(index int, text string, reason *string) any {
	return completionChoice{Index: index, Text: text, FinishReason: reason}
}
