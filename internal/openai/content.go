// This file owns the check of a request's headers that comes before its body is
// read: whether the body can be JSON, or a form, at all.

package openai

import (
	"net/http"
	"strings"
)

// CheckContent refuses a request whose headers say that its body is compressed or
// not JSON. The server would refuse it too, but only once its model is loaded: the
// media type is what vLLM asks for (its validate_json_request), and nothing there
// decompresses. It also refuses a header that names a model. An error is an Error with status 400.
func CheckContent(h http.Header) error {
	if err := checkCoding(h); err != nil {
		return err
	}
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if !strings.EqualFold(media, "application/json") {
		return invalidBody("", "the request must have Content-Type: application/json")
	}
	if _, ok := h[adapterHeader]; ok {
		return invalidBody("model", "models are named by the key model alone; remove the header X-Amzn-SageMaker-Adapter-Identifier")
	}
	return nil
}

// adapterHeader is, as net/http spells it, the header that vLLM's /invocations
// puts in the place of the body's model: it would name a model that nobody here has
// looked at.
const adapterHeader = "X-Amzn-Sagemaker-Adapter-Identifier"

// CheckForm refuses a request whose headers say that its body is compressed or not
// a multipart form, and returns the form's boundary. Servers differ in how they
// read odd headers, so only plain ones pass: one Content-Type, no parameter twice
// or in pieces (RFC 2231), no charset but UTF-8, a boundary as RFC 2046 has it,
// without spaces. An error is an Error with status 400.
func CheckForm(h http.Header) (boundary string, err error) {
	if err := checkCoding(h); err != nil {
		return "", err
	}
	values := h["Content-Type"]
	if len(values) != 1 {
		return "", invalidBody("", "the request must have one Content-Type: multipart/form-data, with a boundary")
	}
	media, parameters, ok := parseParameters(values[0])
	if !ok || !strings.EqualFold(media, "multipart/form-data") {
		return "", invalidBody("", "the request must have Content-Type: multipart/form-data, with a boundary")
	}
	for _, p := range parameters {
		switch {
		case strings.Contains(p.key, "*"):
			return "", invalidBody("", "the Content-Type has a parameter in parts, which is not accepted")
		case p.key == "boundary":
			boundary = p.value
		case p.key == "charset" && !strings.EqualFold(p.value, "utf-8"):
			return "", invalidBody("", "forms must be in UTF-8")
		}
	}
	if !validBoundary(boundary) {
		return "", invalidBody("", "the Content-Type must have a boundary of 1 to 70 letters, digits and '()+_,-./:=?")
	}
	return boundary, nil
}

// checkCoding refuses compressed bodies.
func checkCoding(h http.Header) error {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return invalidBody("", "compressed request bodies are not accepted; send the body without Content-Encoding")
	}
	return nil
}

// validBoundary says whether b is a boundary as RFC 2046 has it, without spaces.
func validBoundary(b string) bool {
	if b == "" || len(b) > 70 {
		return false
	}
	for i := range len(b) {
		if !isAlphanumeric(b[i]) && strings.IndexByte("'()+_,-./:=?", b[i]) < 0 {
			return false
		}
	}
	return true
}
