// The routes of sleep mode (vllm/entrypoints/serve/dev/sleep/api_router.py), which
// answer when the change is done.

package vllmsim

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

func (s *Server) sleepRoute(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	level, err := strconv.Atoi(cmp.Or(query.Get("level"), "1"))
	if err != nil || level < 0 || level > 2 {
		badRequest("level", fmt.Sprintf("level must be 0, 1 or 2, got %q.", query.Get("level"))).write(w)
		return
	}
	mode := cmp.Or(query.Get("mode"), "abort")
	if !slices.Contains([]string{"abort", "wait", "keep"}, mode) {
		badRequest("mode", fmt.Sprintf("mode must be abort, wait or keep, got %q.", mode)).write(w)
		return
	}
	s.change(w, func() error { return s.fallAsleep(level, mode) })
}

func (s *Server) wakeRoute(w http.ResponseWriter, r *http.Request) {
	tags := r.URL.Query()["tags"]
	for _, t := range tags {
		if !slices.Contains([]string{tagWeights, tagCache, tagScheduling}, t) {
			badRequest("tags", fmt.Sprintf("tags must be weights, kv_cache or scheduling, got %q.", t)).write(w)
			return
		}
	}
	s.change(w, func() error { return s.wakeUp(tags) })
}

// change does one change of the sleep state at a time, and answers. That the
// client leaves does not end it.
func (s *Server) change(w http.ResponseWriter, do func() error) {
	select {
	case s.sleep.turn <- struct{}{}:
	case <-s.life.Done():
		panic(http.ErrAbortHandler)
	}
	err := do()
	<-s.sleep.turn
	failure := (*engineError)(nil)
	switch {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.As(err, &failure):
		(&apiError{Message: failure.message, Type: "InternalServerError", Code: http.StatusInternalServerError}).write(w)
		if failure.fatal {
			_ = http.NewResponseController(w).Flush() // the process takes its connections with it
			s.die(failure.message)
		}
	case errors.Is(err, errDied), errors.Is(err, errAborted):
		s.conclude(w, err)
	default:
		(&apiError{Message: err.Error(), Type: "InternalServerError", Code: http.StatusInternalServerError}).write(w)
	}
}
