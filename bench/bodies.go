// This file owns what is sent and answered: the bodies of requests, and the
// stand-in's answer.

package main

import (
	"fmt"
	"strings"
)

// benchModel is the model that all requests name.
const benchModel = "bench-model"

// chatAnswer is what the stand-in answers to a request that asks for no stream: of
// the shape and size of a short chat answer of vLLM.
var chatAnswer = []byte(`{"id":"chatcmpl-0123456789abcdef","object":"chat.completion","created":1790000000,"model":"` + benchModel +
	`","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("The quick brown fox jumps over the lazy dog. ", 14) +
	`","refusal":null,"tool_calls":[]},"logprobs":null,"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":250,"total_tokens":390,"completion_tokens":140,"prompt_tokens_details":null}}`)

// chatEvent is one event of the stand-in's streams.
var chatEvent = []byte(`data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,"model":"` + benchModel +
	`","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}` + "\n\n")

// lastEvent ends them.
var lastEvent = []byte("data: [DONE]\n\n")

// chatBody is a chat request of about so many bytes.
func chatBody(size int, stream bool) []byte {
	const sentence = "The quick brown fox jumps over the lazy dog, and then it sleeps. "
	head := fmt.Sprintf(`{"model":%q,"stream":%t,"temperature":0.7,"max_tokens":256,"messages":[`, benchModel, stream)
	var b strings.Builder
	b.WriteString(head)
	b.WriteString(`{"role":"system","content":"You are helpful."}`)
	for b.Len() < size-4 {
		// A conversation: messages of 4 KB at most.
		text := strings.Repeat(sentence, 60)
		room := max(0, size-b.Len()-len(`,{"role":"user","content":""}`)-len(`]}`))
		fmt.Fprintf(&b, `,{"role":"user","content":"%s"}`, text[:min(len(text), room)])
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

// tokenBody is a request of about so many bytes whose prompt is token IDs, which is
// the slowest kind of body to look through.
func tokenBody(size int) []byte {
	var b strings.Builder
	b.WriteString(`{"prompt":[0`)
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, ",%d", i*7919%128000)
	}
	fmt.Fprintf(&b, `],"model":%q}`, benchModel)
	return []byte(b.String())
}
