// This file owns the allow-list: which paths of a model server a client may
// reach, where each names its model, and in whose words its errors are told.

package openai

import "net/http"

// Dialect is the shape in which a route's errors are written.
type Dialect uint8

// The dialects.
const (
	DialectOpenAI    Dialect = iota // {"error":{"message","type","param","code"}}
	DialectAnthropic                // {"type":"error","error":{"type","message"}}
)

// ModelIn tells where a route's requests name their model.
type ModelIn uint8

// The places of a model's name. A JSON body is the only one so far; a
// multipart field and a WebSocket's query come with the routes that use them.
const (
	ModelInJSON ModelIn = iota // the top-level key "model" of a JSON object
)

// Route is one inference route of the servers behind the gateway.
type Route struct {
	// Path is the only spelling that matches, and the path to send upstream.
	Path string
	// Method is the only method that the route takes.
	Method string
	// ModelIn is where a request names its model.
	ModelIn ModelIn
	// Dialect is the shape of the route's errors.
	Dialect Dialect
	// Generates is true where a request makes the model produce tokens one after
	// another; false where one pass, or none, answers it.
	Generates bool
	// Streams is true where "stream": true turns the answer into server-sent
	// events. On the others the key has another meaning or none: the derender
	// routes take it and answer plain JSON.
	Streams bool
	// Stores is true where the server may keep state beyond the answer, so that
	// a request sent twice is not the same as a request sent once.
	Stores bool
}

// routes are the JSON inference routes of vLLM's API server (its routers under
// vllm/entrypoints), without those for development and control.
//
// Known, but not yet routable, because their model does not stand in a JSON
// body: POST /v1/audio/transcriptions and /v1/audio/translations (a multipart
// field, possibly after the file), GET /v1/realtime (a WebSocket), and GET
// /v1/responses/{id} and POST /v1/responses/{id}/cancel (no model at all: the
// instance that keeps the response).
var routes = index([]Route{
	{Path: "/v1/chat/completions", Generates: true, Streams: true},
	{Path: "/v1/chat/completions/batch", Generates: true},
	{Path: "/v1/chat/completions/render"},
	{Path: "/v1/chat/completions/derender"},
	{Path: "/v1/completions", Generates: true, Streams: true},
	{Path: "/v1/completions/render"},
	{Path: "/v1/completions/derender"},
	{Path: "/v1/responses", Generates: true, Streams: true, Stores: true},
	{Path: "/v1/messages", Generates: true, Streams: true, Dialect: DialectAnthropic},
	{Path: "/v1/messages/count_tokens", Dialect: DialectAnthropic},
	{Path: "/cohere/v2/chat", Generates: true, Streams: true},
	{Path: "/inference/v1/generate", Generates: true, Streams: true},
	{Path: "/invocations", Generates: true, Streams: true},
	{Path: "/generative_scoring"},
	{Path: "/v1/embeddings"},
	{Path: "/v2/embed"},
	{Path: "/pooling"},
	{Path: "/classify"},
	{Path: "/score"},
	{Path: "/v1/score"},
	{Path: "/rerank"},
	{Path: "/v1/rerank"},
	{Path: "/v2/rerank"},
	{Path: "/tokenize"},
	{Path: "/detokenize"},
})

func index(list []Route) map[string]Route {
	m := make(map[string]Route, len(list))
	for _, r := range list {
		r.Method = http.MethodPost
		m[r.Path] = r
	}
	return m
}

// Find returns the route at path, which is the path as it stood on the wire:
// (*url.URL).EscapedPath, not URL.Path. It must match byte for byte. Nothing is
// folded, cleaned or decoded, so a path that a server might read as one of its
// development or control routes is never found, however it is spelt.
//
// A found route whose Method is not the request's calls for MethodNotAllowed.
func Find(path string) (Route, bool) {
	r, ok := routes[path]
	return r, ok
}
