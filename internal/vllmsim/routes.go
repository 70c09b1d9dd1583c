// The routes, and what happens to every request before its route's own work.

package vllmsim

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// routes is the server's whole HTTP surface.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, handle http.HandlerFunc) {
		allowed, path, _ := strings.Cut(pattern, " ")
		methods := strings.Split(allowed, ",")
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if !slices.Contains(methods, r.Method) {
				w.Header().Set("Allow", strings.Join(methods, ", "))
				plainError(http.StatusMethodNotAllowed).write(w)
				return
			}
			handle(w, r)
		})
	}
	ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	route("GET /health", ok)
	route("GET,POST /ping", ok)
	route("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"version": Version})
	})
	route("GET /metrics", s.serveMetrics)
	route("GET /v1/models", s.models)
	if s.cfg.Tasks != "pooling" {
		route("POST /v1/chat/completions", s.inference(s.chat))
		route("POST /v1/completions", s.inference(s.completion))
	}
	if s.cfg.Tasks == "pooling" || s.cfg.Tasks == "auto" {
		route("POST /v1/embeddings", s.inference(s.embeddings))
	}
	if s.cfg.SleepMode {
		route("POST /sleep", s.sleepRoute)
		route("POST /wake_up", s.wakeRoute)
		route("GET /is_sleeping", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, map[string]bool{"is_sleeping": s.sleep.sleeping()})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { plainError(http.StatusNotFound).write(w) })
	return s.identify(s.authorize(mux))
}

// identify names the program in each answer, and the request if that is wanted.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "uvicorn")
		if r.Header.Get("X-Request-Id") == "" {
			r.Header.Set("X-Request-Id", strings.ToLower(rand.Text()))
		}
		if s.cfg.RequestIDHeader {
			w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		}
		next.ServeHTTP(w, r)
	})
}

// authorize refuses requests without the key, on guarded paths only, as vLLM does
// (vllm/entrypoints/openai/server_utils.py, AuthenticationMiddleware).
func (s *Server) authorize(next http.Handler) http.Handler {
	if len(s.cfg.APIKeys) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodOptions && guarded(r.URL.Path) && !s.knowsKey(r.Header.Get("Authorization")) {
			writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func guarded(path string) bool {
	for _, prefix := range []string{"/v1", "/v2", "/inference", "/cohere"} {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func (s *Server) knowsKey(header string) bool {
	scheme, key, _ := strings.Cut(header, " ")
	known := 0
	for _, k := range s.cfg.APIKeys {
		known |= subtle.ConstantTimeCompare([]byte(key), []byte(k))
	}
	return known == 1 && strings.EqualFold(scheme, "bearer")
}

// call is one inference request.
type call struct {
	request *http.Request
	ctx     context.Context // ends with the client's leaving or the server's life
	id      string
	arrival time.Time
	hangs   bool
}

// inference wraps the work of a route that runs the model.
func (s *Server) inference(handle func(http.ResponseWriter, *call) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requests.enter() {
			w.Header().Set("Connection", "close")
			unavailable("The server is shutting down.").write(w)
			return
		}
		defer s.requests.leave()
		fate := s.cfg.Faults.fate(s.arrivals.Add(1))
		switch fate {
		case fateKills:
			s.die("VLLM_SIM_DIE_AFTER")
			panic(http.ErrAbortHandler)
		case fateUnavailable:
			unavailable("The server is overloaded.").write(w)
			return
		}
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		defer context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })()
		batch := s.sleep.batch(s.life)
		defer context.AfterFunc(batch, func() { cancel(context.Cause(batch)) })()
		c := &call{
			request: r, ctx: ctx, id: r.Header.Get("X-Request-Id"),
			arrival: time.Now(), hangs: fate == fateHangs,
		}
		s.conclude(w, handle(w, c))
	}
}

// conclude answers a request that failed.
func (s *Server) conclude(w http.ResponseWriter, err error) {
	var refused *apiError
	switch {
	case errors.As(err, &refused):
		refused.write(w)
	case errors.Is(err, errSlept):
		unavailable("The request was aborted: the engine was put to sleep.").write(w)
	case errors.Is(err, errAborted):
		unavailable("The server is shutting down.").write(w)
	case errors.Is(err, errDied):
		panic(http.ErrAbortHandler) // cuts the connection
	}
	// Any other error is the client's leaving.
}

// models lists the names under which the model is served.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	type model struct {
		ID          string  `json:"id"`
		Object      string  `json:"object"`
		Created     int64   `json:"created"`
		OwnedBy     string  `json:"owned_by"`
		Root        string  `json:"root"`
		Parent      *string `json:"parent"`
		MaxModelLen int     `json:"max_model_len"`
	}
	list := []model{}
	for _, name := range s.cfg.ServedNames {
		list = append(list, model{
			ID: name, Object: "model", Created: time.Now().Unix(), OwnedBy: "vllm",
			Root: s.cfg.Model, MaxModelLen: s.loaded.modelLen,
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
}
