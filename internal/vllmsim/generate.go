// Answers that are generated token by token, whole or as a stream of events.

package vllmsim

import (
	"errors"
	"net/http"
)

// shape is how the answers of one route look.
type shape interface {
	idPrefix() string
	object(streamed bool) string
	whole(index int, text, reason string) any        // a choice, complete
	opening(index int) any                           // what a stream sends before the first token, or nil
	part(index int, text string, reason *string) any // one token
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

func newUsage(prompt, completion int) *usage {
	return &usage{PromptTokens: prompt, CompletionTokens: completion, TotalTokens: prompt + completion}
}

// answer is a whole answer or one event of a stream.
type answer struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"` // Unix seconds
	Model   string `json:"model"`
	Choices []any  `json:"choices"`
	Usage   *usage `json:"usage,omitempty"`
}

// generate answers a request for text: messages are what the replies answer.
func (s *Server) generate(w http.ResponseWriter, c *call, p *sampling, sh shape, prompt int, messages []string) error {
	model, err := s.checkModel(p.Model)
	if err != nil {
		return err
	}
	if err := p.check(&s.cfg); err != nil {
		return err
	}
	limit, err := p.limit(prompt, s.loaded.modelLen)
	if err != nil {
		return err
	}
	j := job{prompt: prompt, replies: replies(messages, limit, p, s.cfg.ReplyTokens), hangs: c.hangs}
	a := answer{ID: sh.idPrefix() + c.id, Object: sh.object(p.Stream), Created: c.arrival.Unix(), Model: model}
	if p.Stream {
		return s.stream(w, c, j, sh, a, p.includeUsage())
	}
	done := make([]int, len(j.replies))
	err = s.run(c.ctx, j, func(sequence, _ int) error { done[sequence]++; return nil })
	if err != nil && !errors.Is(err, errAborted) {
		return err
	}
	total := 0
	for i, r := range j.replies {
		a.Choices = append(a.Choices, sh.whole(i, r.text(done[i]), r.reasonAfter(done[i])))
		total += done[i]
	}
	a.Usage = newUsage(prompt, total)
	writeJSON(w, http.StatusOK, a)
	return nil
}

// reasonAfter is why a reply ended that has n tokens: before its length was
// reached, the server gave it up.
func (r reply) reasonAfter(n int) string {
	if n < r.length {
		return "abort"
	}
	return r.reason
}
