// This file owns the list of models, GET /v1/models and GET /v1/models/{id}, as
// OpenAI's API has it, with the two fields that vLLM adds.

package openai

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ModelsPath is the path of the list of models. One model's path is this, a
// slash, and its name.
const ModelsPath = "/v1/models"

// Model is one entry of the list.
type Model struct {
	ID          string    // the name that requests use
	Created     time.Time // zero is told as 0
	OwnedBy     string
	Root        string // what the model really is, a repository; left out if empty
	Parent      string // the base of an adapter; left out if empty
	MaxModelLen int    // tokens; left out if 0
}

// ModelID takes the name out of the path of a request for one model, as it stood
// on the wire. SDKs send a slash in a name as %2F, people as it is; both are the
// name's.
func ModelID(escapedPath string) (string, bool) {
	rest, ok := strings.CutPrefix(escapedPath, ModelsPath+"/")
	if !ok || rest == "" {
		return "", false
	}
	id, err := url.PathUnescape(rest)
	return id, err == nil
}

// WriteModels answers with the list of models, in the order given.
func WriteModels(w http.ResponseWriter, models []Model) {
	b := []byte(`{"object":"list","data":[`)
	for i, m := range models {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendModel(b, m)
	}
	writeJSON(w, http.StatusOK, append(b, `]}`...))
}

// WriteModel answers with one model.
func WriteModel(w http.ResponseWriter, m Model) {
	writeJSON(w, http.StatusOK, appendModel(nil, m))
}

func appendModel(b []byte, m Model) []byte {
	created := int64(0)
	if !m.Created.IsZero() {
		created = m.Created.Unix()
	}
	b = append(b, `{"id":`...)
	b = appendString(b, m.ID)
	b = append(b, `,"object":"model","created":`...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"owned_by":`...)
	b = appendString(b, m.OwnedBy)
	if m.Root != "" {
		b = append(b, `,"root":`...)
		b = appendString(b, m.Root)
	}
	if m.Parent != "" {
		b = append(b, `,"parent":`...)
		b = appendString(b, m.Parent)
	}
	if m.MaxModelLen != 0 {
		b = append(b, `,"max_model_len":`...)
		b = strconv.AppendInt(b, int64(m.MaxModelLen), 10)
	}
	return append(b, '}')
}
