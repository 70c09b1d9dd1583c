// This file owns the check of a request's headers that comes before its body is
// read: whether the body can be JSON at all.

package openai

import (
	"net/http"
	"strings"
)

// CheckContent refuses a request whose headers say that its body is compressed or
// not JSON. The server would refuse it too, but only once its model is loaded: the
// media type is what vLLM asks for (its validate_json_request), and nothing there
// decompresses. An error is an Error with status 400.
func CheckContent(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return Error{
			Status:  http.StatusBadRequest,
			Code:    CodeInvalidBody,
			Message: "compressed request bodies are not accepted; send the body without Content-Encoding",
		}
	}
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if !strings.EqualFold(media, "application/json") {
		return Error{
			Status:  http.StatusBadRequest,
			Code:    CodeInvalidBody,
			Message: "the request must have Content-Type: application/json",
		}
	}
	return nil
}
