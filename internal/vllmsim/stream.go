// Streams of server-sent events.

package vllmsim

import (
	"encoding/json"
	"errors"
	"net/http"
)

// stream answers with an event for each token. The header leaves at once, before
// the request's turn has come, as vLLM's does.
func (s *Server) stream(w http.ResponseWriter, c *call, j job, sh shape, a answer, includeUsage bool) error {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	events := eventWriter{w: w, control: http.NewResponseController(w)}
	if err := events.control.Flush(); err != nil {
		return err
	}
	send := func(choice any) error {
		a.Choices = []any{choice}
		return events.send(a)
	}
	done := make([]int, len(j.replies))
	total := 0
	err := s.run(c.ctx, j, func(sequence, token int) error {
		if opening := sh.opening(sequence); token == 0 && opening != nil {
			if err := send(opening); err != nil {
				return err
			}
		}
		r := j.replies[sequence]
		done[sequence]++
		total++
		var reason *string
		if done[sequence] == r.length {
			reason = &r.reason
		}
		if err := send(sh.part(sequence, r.token(token), reason)); err != nil {
			return err
		}
		if n := s.cfg.Faults.DieMidStream; n > 0 && int64(total) >= n {
			s.die("VLLM_SIM_DIE_MID_STREAM")
			return errDied
		}
		return nil
	})
	if err != nil && !errors.Is(err, errAborted) {
		return err
	}
	for i, r := range j.replies {
		if reason := "abort"; done[i] < r.length {
			if err := send(sh.part(i, "", &reason)); err != nil {
				return err
			}
		}
	}
	if includeUsage {
		a.Choices, a.Usage = []any{}, newUsage(j.prompt, total)
		if err := events.send(a); err != nil {
			return err
		}
	}
	return events.sendRaw([]byte("[DONE]"))
}

// eventWriter sends each event at once.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	line    []byte
}

func (e *eventWriter) send(value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return e.sendRaw(content)
}

func (e *eventWriter) sendRaw(content []byte) error {
	e.line = append(append(append(e.line[:0], "data: "...), content...), "\n\n"...)
	if _, err := e.w.Write(e.line); err != nil {
		return err
	}
	return e.control.Flush()
}
