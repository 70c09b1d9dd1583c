// Error answers in vLLM's form (vllm/entrypoints/openai/engine/protocol.py).

package vllmsim

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// apiError is an error as clients get it.
type apiError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

func (e *apiError) Error() string { return e.Message }

func badRequest(param, message string) *apiError {
	e := &apiError{Message: message, Type: "BadRequestError", Code: http.StatusBadRequest}
	if param != "" {
		e.Param = &param
	}
	return e
}

func modelNotFound(model string) *apiError {
	param := "model"
	return &apiError{
		Message: "The model `" + model + "` does not exist.",
		Type:    "NotFoundError", Param: &param, Code: http.StatusNotFound,
	}
}

func unavailable(message string) *apiError {
	return &apiError{Message: message, Type: "ServiceUnavailableError", Code: http.StatusServiceUnavailable}
}

// plainError is what the HTTP layer itself answers: its type is the status in words.
func plainError(code int) *apiError {
	text := http.StatusText(code)
	return &apiError{Message: text, Type: text, Code: code}
}

func (e *apiError) body() map[string]*apiError { return map[string]*apiError{"error": e} }

func (e *apiError) write(w http.ResponseWriter) { writeJSON(w, e.Code, e.body()) }

// writeJSON answers with a value. A client that has gone is no concern here.
func writeJSON(w http.ResponseWriter, code int, value any) {
	content, err := json.Marshal(value)
	if err != nil { // only values that encode are passed
		code, content = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	// With its length an answer is whole once it is flushed, though the server dies then.
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(code)
	_, _ = w.Write(content)
}
