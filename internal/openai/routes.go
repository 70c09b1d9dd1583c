// This file owns the allow-list: which paths of a model server a client may
// reach, where each names its model, and in whose words its errors are told.

package openai

import (
	"net/http"
	"net/url"
	"strings"
)

// Dialect is the shape in which a route's errors are written.
type Dialect uint8

// The dialects.
const (
	DialectOpenAI    Dialect = iota // {"error":{"message","type","param","code"}}
	DialectAnthropic                // {"type":"error","error":{"type","message"}}
)

// ModelIn tells where a route's requests name their model.
type ModelIn uint8

// The places of a model's name.
const (
	// ModelInJSON is the top-level key "model" of a JSON object: Scan finds it.
	ModelInJSON ModelIn = iota
	// ModelInForm is the field "model" of a multipart form, before or after the
	// file: ScanForm finds it.
	ModelInForm
	// ModelInQuery is the parameter "model" of the URL: QueryModel finds it. It is
	// OpenAI's convention for WebSockets. vLLM itself ignores it and reads the model
	// from an event, which is too late to choose a server.
	ModelInQuery
	// ModelInStore is nowhere: the path names a response, and only the server that
	// keeps it can tell of it.
	ModelInStore
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
	// Streams is true where the client can ask for server-sent events. It does so
	// beside the model's name: by "stream": true in JSON, or a field of that name in
	// a form; for stored responses by the parameter stream of the URL. On other
	// routes the key has another meaning or none: the derender routes take it and
	// answer plain JSON.
	Streams bool
	// Stores is true where the server may keep state beyond the answer, so that
	// a request sent twice is not the same as a request sent once: it may be tried
	// again only if it certainly was not sent, after a refused connection. Requests
	// of the other routes may be tried again until the first byte of an answer has
	// gone to the client.
	Stores bool
	// Socket is true where the request opens a WebSocket.
	Socket bool
}

// routes are the inference routes of vLLM's API server (its routers under
// vllm/entrypoints), without those for development and control. Find knows those
// of stored responses, whose paths are not constant.
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
	{Path: "/v1/audio/transcriptions", ModelIn: ModelInForm, Generates: true, Streams: true},
	{Path: "/v1/audio/translations", ModelIn: ModelInForm, Generates: true, Streams: true},
	{Path: "/v1/realtime", Method: http.MethodGet, ModelIn: ModelInQuery, Generates: true, Socket: true},
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
		if r.Method == "" {
			r.Method = http.MethodPost
		}
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
	if r, ok := routes[path]; ok {
		return r, true
	}
	return findStored(path)
}

const (
	// storedPrefix is what the paths of stored responses begin with; the second half
	// is what vLLM's ids do.
	storedPrefix = "/v1/responses/" + "resp_"
	// maxStoredID is how long the rest of an id may be; vLLM's have 32 characters.
	maxStoredID = 128
)

// findStored finds the routes of a stored response: GET /v1/responses/{id} and
// POST /v1/responses/{id}/cancel. The id is made of letters, digits, "_" and "-",
// so a path that is found has one reading only.
func findStored(path string) (Route, bool) {
	id, ok := strings.CutPrefix(path, storedPrefix)
	if !ok {
		return Route{}, false
	}
	id, cancel := strings.CutSuffix(id, "/cancel")
	if id == "" || len(id) > maxStoredID {
		return Route{}, false
	}
	for i := range len(id) {
		if c := id[i]; !isAlphanumeric(c) && c != '_' && c != '-' {
			return Route{}, false
		}
	}
	r := Route{Path: path, Method: http.MethodGet, ModelIn: ModelInStore, Streams: true}
	if cancel {
		r.Method, r.Streams = http.MethodPost, false
	}
	return r, true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// QueryModel finds the model in the query of a URL, as it stood on the wire. It is
// empty if there is none. An error is an Error with status 400: the query cannot
// be read, or model stands there twice.
func QueryModel(rawQuery string) (string, error) {
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return "", invalidQuery("", "the query of the URL cannot be read; check its percent-encoding")
	}
	switch models := query["model"]; len(models) {
	case 0:
		return "", nil
	case 1:
		return models[0], nil
	}
	return "", invalidQuery("model", "model occurs twice in the query of the URL")
}

func invalidQuery(param, message string) Error {
	return Error{Status: http.StatusBadRequest, Code: CodeInvalidQuery, Param: param, Message: message}
}
