package vramman

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// refusal is an engine's error with a sentence for operators.
type refusal string

func (r refusal) Error() string       { return "/secret/path: " + string(r) }
func (r refusal) Explanation() string { return string(r) }

// What the engine refuses is a decision with the engine's own sentence. Clients are
// not told it; and what is refused before the start costs nobody its place.
func TestEngineRefusalIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(10*time.Second, 16*worldGiB)
		r.refuse = map[string]error{
			"fetch a": fmt.Errorf("engine: %w", refusal("make the folder")),
			"start b": fmt.Errorf("engine: %w", refusal("install the runtime")),
		}
		m, g := r.open(t, r.spec(rigModel("a", 8), rigModel("b", 8), rigModel("c", 16)))
		mustHold(t, g, "c")()
		for _, c := range []struct{ model, want string }{{"a", "make the folder"}, {"b", "install the runtime"}} {
			if c.model == "b" && r.count("running") != 1 {
				t.Error("a model was stopped for one that could not be fetched")
			}
			_, err := hold(t, t.Context(), g, c.model)
			if e := wantCode(t, err, CodeStartFailed); strings.Contains(e.Message, c.want) || strings.Contains(e.Message, "secret") {
				t.Errorf("a client is told: %s", e.Message)
			}
			decisions := mustStatus(t, m).Decisions
			if !slices.ContainsFunc(decisions, func(d DecisionStatus) bool {
				return d.Action == "failed" && d.Model == c.model && d.Reason == c.want
			}) {
				t.Errorf("no decision says %q: %+v", c.want, decisions)
			}
		}
	})
}
