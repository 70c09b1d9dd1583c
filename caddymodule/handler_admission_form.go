// This file owns how the handler vllm_admission lets in requests whose body is a
// multipart form: those with audio.

package caddymodule

import (
	"errors"
	"net/http"

	"go.uber.org/zap"

	"github.com/vllm-gateway/vllm-gateway/internal/openai"
	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// prepareForm reads the request's form, finds its model and puts the model's own
// name there. The request defaults are JSON and have no place in a form.
func (a *Admission) prepareForm(w http.ResponseWriter, r *http.Request, x *exchange) (*vramman.Model, error) {
	boundary, err := openai.CheckForm(r.Header)
	if err != nil {
		return nil, err
	}
	body, form, err := a.limits.readForm(w, r, boundary)
	if err != nil {
		if _, told := errors.AsType[openai.Error](err); !told && !errors.Is(err, errClientLeft) {
			a.log.Error("a request's body could not be kept; make room where temporary files are (TMPDIR)", zap.Error(err))
		}
		return nil, err
	}
	x.body = body
	model, served, err := a.find(r.Context(), []byte(form.Model))
	if err == nil {
		x.model, x.served, x.stream = model.Name(), served, form.Stream && x.route.Streams
		err = body.rename(&form, served)
	}
	if err != nil {
		body.drop()
		return nil, err
	}
	return model, nil
}
