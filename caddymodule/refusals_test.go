package caddymodule

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// However many requests are refused, there is one line a second and model, and
// the lines' counts are all of them.
func TestRefusalsAreToldOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		log := zap.New(core)
		var r refusals
		for range 100 {
			r.note(log, "a", 200, 200)
		}
		r.note(log, "b", 5, 5)
		time.Sleep(1500 * time.Millisecond)
		r.note(log, "a", 199, 200)
		time.Sleep(10 * time.Second)
		r.note(log, "a", 198, 200)
		time.Sleep(10 * time.Second)

		var counts []int64
		for _, line := range logs.FilterField(zap.String("model", "a")).All() {
			counts = append(counts, line.ContextMap()["count"].(int64))
		}
		if want := []int64{1, 99, 1, 1}; !slices.Equal(counts, want) {
			t.Errorf("the lines count %v, want %v", counts, want)
		}
		if n := logs.FilterField(zap.String("model", "b")).Len(); n != 1 {
			t.Errorf("%d lines for the other model", n)
		}
		if n := logs.FilterMessageSnippet("Queue full").Len(); n != logs.Len() {
			t.Errorf("%d of %d lines say 'Queue full'", n, logs.Len())
		}
	})
}

func TestRefusalsAreNotCountedWithoutALog(t *testing.T) {
	var r refusals
	r.note(zap.NewNop(), "a", 1, 1)
	if _, ok := r.models.Load("a"); ok {
		t.Error("a refusal is remembered that nobody will be told of")
	}
}
