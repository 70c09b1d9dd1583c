// POST /v1/chat/completions.

package vllmsim

import (
	"encoding/json"
	"net/http"
	"strings"
)

type chatRequest struct {
	sampling
	Messages []chatMessage `json:"messages"`
}

type chatMessage struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

// chatContent is a message's text: a string, or the text parts of a list.
type chatContent string

// UnmarshalJSON implements json.Unmarshaler.
func (c *chatContent) UnmarshalJSON(data []byte) error {
	var text *string
	if json.Unmarshal(data, &text) == nil {
		if text != nil {
			*c = chatContent(*text)
		}
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(data, &parts); err != nil {
		return badRequest("messages", "1 validation error:\n  {'type': 'type_error', 'loc': ('body', 'messages'), "+
			"'msg': 'content should be a string or a list of parts'}")
	}
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.Text)
	}
	*c = chatContent(strings.Join(texts, " "))
	return nil
}

// tokensPerMessage is what the chat template adds to each message.
const tokensPerMessage = 3

func (r *chatRequest) promptTokens() int {
	n := 0
	for _, m := range r.Messages {
		n += tokensPerMessage + countTokens(string(m.Content))
	}
	return n
}

func (s *Server) chat(w http.ResponseWriter, c *call) error {
	var req chatRequest
	if err := decode(c.request, &req); err != nil {
		return err
	}
	if len(req.Messages) == 0 {
		return badRequest("messages", "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}")
	}
	for _, m := range req.Messages {
		if m.Role == "" {
			return badRequest("messages", "1 validation error:\n  {'type': 'missing', 'loc': ('body', 'messages', 'role'), 'msg': 'Field required'}")
		}
	}
	last := string(req.Messages[len(req.Messages)-1].Content)
	return s.generate(w, c, &req.sampling, chatShape{}, req.promptTokens(), []string{last})
}

// chatShape is how chat answers look.
type chatShape struct{}

type chatReply struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatChoice struct {
	Index        int        `json:"index"`
	Message      *chatReply `json:"message,omitempty"`
	Delta        *chatDelta `json:"delta,omitempty"`
	Logprobs     *struct{}  `json:"logprobs"`
	FinishReason *string    `json:"finish_reason"`
}

func (chatShape) idPrefix() string { return "chatcmpl-" }

func (chatShape) object(streamed bool) string {
	if streamed {
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

func (chatShape) whole(index int, text, reason string) any {
	return chatChoice{Index: index, Message: &chatReply{Role: "assistant", Content: text}, FinishReason: &reason}
}

func (chatShape) opening(index int) any {
	empty := ""
	return chatChoice{Index: index, Delta: &chatDelta{Role: "assistant", Content: &empty}}
}

func (chatShape) part(index int, text string, reason *string) any {
	return chatChoice{Index: index, Delta: &chatDelta{Content: &text}, FinishReason: reason}
}
