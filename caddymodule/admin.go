// This file owns the gateway's part of Caddy's admin API.

package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

func init() { caddy.RegisterModule(new(adminAPI)) }

// Where the admin API answers.
const (
	adminPrefix = "/vramman/"
	adminStatus = adminPrefix + "status"
	adminPlan   = adminPrefix + "plan"
)

// adminAPI answers in Caddy's admin API: GET /vramman/status with the gateway's
// status, and GET /vramman/plan?model=NAME with what would happen if that model were
// asked for now.
//
// Caddy provisions it with each configuration, also with one that then fails, and
// goes on asking the one of that. So it holds nothing of a configuration, and asks
// the process's manager, which knows what is in force.
type adminAPI struct{}

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.vramman",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Routes implements caddy.AdminRouter.
func (*adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: adminPrefix, Handler: caddy.AdminHandlerFunc(answerAdmin)}}
}

func answerAdmin(w http.ResponseWriter, r *http.Request) error {
	var ask func(*vramman.Manager, *http.Request) (any, error)
	switch r.URL.Path {
	case adminStatus:
		ask = askStatus
	case adminPlan:
		ask = askPlan
	default:
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("there is nothing here: try %s or %s", adminStatus, adminPlan)}
	}
	if !reads(r) {
		w.Header().Set("Allow", http.MethodGet)
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("only GET is answered here")}
	}
	answer, err := ask(theManager(), r)
	switch {
	case gone(r.Context()):
		w.WriteHeader(statusClientGone)
		return nil
	case err != nil:
		return adminError(err)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return adminError(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n'))
	return nil
}

func askStatus(m *vramman.Manager, r *http.Request) (any, error) {
	status, err := m.Status(r.Context())
	if err != nil {
		return nil, err
	}
	return statusAnswer{gatewayVersions(), caddy.Log().Level().String(), status}, nil
}

func askPlan(m *vramman.Manager, r *http.Request) (any, error) {
	model := r.URL.Query().Get("model")
	if model == "" {
		return nil, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("name a model: %s?model=NAME", adminPlan)}
	}
	return m.Plan(r.Context(), model)
}

// adminError gives an error its status. Unlike clients, who asks here is told
// everything.
func adminError(err error) error {
	if _, ok := errors.AsType[caddy.APIError](err); ok {
		return err
	}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[*vramman.Error](err); ok {
		status = refusal(e).Status
	}
	return caddy.APIError{HTTPStatus: status, Err: err}
}

// Interface guards
var _ caddy.AdminRouter = (*adminAPI)(nil)
