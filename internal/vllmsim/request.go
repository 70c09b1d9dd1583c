// Reading inference requests and refusing wrong ones as vLLM does.

package vllmsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// sampling is what chat and completion requests have in common.
type sampling struct {
	Model               *string        `json:"model"`
	MaxTokens           *int           `json:"max_tokens"`
	MaxCompletionTokens *int           `json:"max_completion_tokens"`
	MinTokens           int            `json:"min_tokens"`
	IgnoreEOS           bool           `json:"ignore_eos"`
	N                   *int           `json:"n"`
	Temperature         *float64       `json:"temperature"`
	TopP                *float64       `json:"top_p"`
	Priority            int            `json:"priority"`
	Stream              bool           `json:"stream"`
	StreamOptions       *streamOptions `json:"stream_options"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

func (p *sampling) samples() int {
	if p.N == nil {
		return 1
	}
	return *p.N
}

// includeUsage tells whether a stream ends with an event that gives the usage.
func (p *sampling) includeUsage() bool {
	return p.StreamOptions != nil && p.StreamOptions.IncludeUsage
}

// maxSamples bounds n (VLLM_MAX_N_SEQUENCES).
const maxSamples = 16384

// check refuses values out of range.
func (p *sampling) check(cfg *Config) error {
	switch {
	case p.N != nil && (*p.N < 1 || *p.N > maxSamples):
		return badRequest("n", fmt.Sprintf("n must be between 1 and %d, got %d.", maxSamples, *p.N))
	case p.MaxTokens != nil && *p.MaxTokens < 1:
		return badRequest("max_tokens", fmt.Sprintf("max_tokens must be at least 1, got %d.", *p.MaxTokens))
	case p.MaxCompletionTokens != nil && *p.MaxCompletionTokens < 1:
		return badRequest("max_completion_tokens", fmt.Sprintf("max_completion_tokens must be at least 1, got %d.", *p.MaxCompletionTokens))
	case p.MinTokens < 0:
		return badRequest("min_tokens", fmt.Sprintf("min_tokens must be greater than or equal to 0, got %d.", p.MinTokens))
	case p.Temperature != nil && *p.Temperature < 0:
		return badRequest("temperature", fmt.Sprintf("temperature must be non-negative, got %v.", *p.Temperature))
	case p.TopP != nil && (*p.TopP <= 0 || *p.TopP > 1):
		return badRequest("top_p", fmt.Sprintf("top_p must be in (0, 1], got %v.", *p.TopP))
	case p.StreamOptions != nil && !p.Stream:
		return badRequest("stream_options", "Stream options can only be defined when `stream=True`.")
	case p.Priority != 0 && !cfg.PriorityQueue:
		return badRequest("priority", fmt.Sprintf("Got priority %d but Priority scheduling is not enabled.", p.Priority))
	}
	return nil
}

// limit is the most tokens that a reply may have after a prompt of that many.
func (p *sampling) limit(prompt, modelLen int) (int, error) {
	if prompt >= modelLen {
		return 0, badRequest("input_tokens", fmt.Sprintf("This model's maximum context length is %d tokens. However, your request has "+
			"%d input tokens. Please reduce the length of the input messages.", modelLen, prompt))
	}
	wanted := p.MaxCompletionTokens
	if wanted == nil {
		wanted = p.MaxTokens
	}
	room := modelLen - prompt
	if wanted == nil {
		return room, nil
	}
	if *wanted > room {
		return 0, badRequest("max_tokens", fmt.Sprintf("'max_tokens' or 'max_completion_tokens' is too large: %d. This model's maximum "+
			"context length is %d tokens and your request has %d input tokens (%d > %d - %d).",
			*wanted, modelLen, prompt, *wanted, modelLen, prompt))
	}
	return *wanted, nil
}

// decode reads a request's JSON body.
func decode(r *http.Request, into any) error {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/json" {
		return badRequest("", "Unsupported Media Type: Only 'application/json' is allowed")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err // the client has gone
	}
	if err = json.Unmarshal(body, into); err == nil {
		return nil
	}
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	var bad *apiError
	switch {
	case errors.As(err, &bad):
		return bad
	case errors.As(err, &mismatch):
		field := strings.TrimPrefix(mismatch.Field, "sampling.") // the Go struct is no part of the request
		return badRequest(field, fmt.Sprintf("1 validation error:\n  {'type': 'type_error', 'loc': ('body', '%s'), "+
			"'msg': 'Input should not be of type %s'}", field, mismatch.Value))
	case errors.As(err, &syntax):
		return badRequest("", fmt.Sprintf("1 validation error:\n  {'type': 'json_invalid', 'loc': ('body', %d), 'msg': 'JSON decode error'}", syntax.Offset))
	}
	return badRequest("", err.Error())
}

// checkModel resolves the model that a request names; none means the served one.
func (s *Server) checkModel(model *string) (string, error) {
	switch {
	case model == nil || *model == "":
		return s.cfg.ServedNames[0], nil
	case slices.Contains(s.cfg.ServedNames, *model):
		return *model, nil
	}
	return "", modelNotFound(*model)
}

// inputs is a prompt field: a text, token numbers, or several of either.
type inputs []string

// UnmarshalJSON implements json.Unmarshaler. Token numbers become their digits.
func (in *inputs) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*in = inputs{one}
		return nil
	}
	var many []string
	if json.Unmarshal(data, &many) == nil {
		*in = many
		return nil
	}
	var tokens []int
	if json.Unmarshal(data, &tokens) == nil {
		*in = inputs{joinTokens(tokens)}
		return nil
	}
	var several [][]int
	if json.Unmarshal(data, &several) == nil {
		for _, tokens := range several {
			*in = append(*in, joinTokens(tokens))
		}
		return nil
	}
	return badRequest("", "1 validation error:\n  {'type': 'type_error', 'msg': 'Input should be a string, a list of strings, "+
		"a list of tokens or a list of lists of tokens'}")
}

func joinTokens(tokens []int) string { return strings.Trim(fmt.Sprint(tokens), "[]") }

// tokens is the length of all texts together.
func (in inputs) tokens() int {
	n := 0
	for _, text := range in {
		n += countTokens(text)
	}
	return n
}

// check refuses a missing or empty field.
func (in inputs) check(name string) error {
	if len(in) == 0 {
		return badRequest(name, fmt.Sprintf("1 validation error:\n  {'type': 'missing', 'loc': ('body', '%s'), 'msg': 'Field required'}", name))
	}
	return nil
}
