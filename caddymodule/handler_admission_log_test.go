package caddymodule

import (
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/vllm-gateway/vllm-gateway/vramman"
)

// lockingCore writes lines only while nobody holds the model's lock, or it hangs.
type lockingCore struct {
	zapcore.Core
	model *vramman.Model
}

func (c lockingCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

func (c lockingCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.model.Queue()
	return c.Core.Write(e, fields)
}

// What the log says of requests that left the queue, and of one that was refused,
// with no lock held.
func TestQueueInTheLog(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 1, 1 })
	model, err := app.generation.Find(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	a := admissionTo(app, lockingCore{core, model})
	done := make(chan struct{})
	serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
		go func() {
			defer close(done)
			serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error { return nil })
		}()
		waitForDepth(t, app, "tiny", 1)
		if w := serve(t, a, chat(`{"model":"tiny"}`), nil); w.Code != http.StatusTooManyRequests {
			t.Errorf("status %d", w.Code)
		}
		return nil
	})
	<-done
	left := logs.FilterMessage("left the queue").All()
	if len(left) != 2 {
		t.Fatalf("the log says %v", logs.All())
	}
	for n, line := range left {
		f := line.ContextMap()
		wait, _ := f["wait"].(time.Duration)
		if line.Level != zap.DebugLevel || f["model"] != "tiny" || f["max_queue"] != int64(1) || f["depth"] != int64(0) || (wait > 0) != (n == 1) {
			t.Errorf("line %d says %v", n, f)
		}
	}
	full := logs.FilterMessageSnippet("Queue full").All()
	if len(full) != 1 || full[0].Level != zap.WarnLevel || full[0].ContextMap()["depth"] != int64(1) || full[0].ContextMap()["max_queue"] != int64(1) {
		t.Errorf("the log says %v", full)
	}
}

// countingCore counts what it is given though its level is off.
type countingCore struct {
	zapcore.Core
	fields *int
}

func (c countingCore) With(f []zapcore.Field) zapcore.Core {
	*c.fields += len(f)
	return c
}

func (c countingCore) Write(_ zapcore.Entry, f []zapcore.Field) error {
	*c.fields += len(f)
	return nil
}

// A level that is off costs nothing: no field is made for a line that nobody reads.
func TestNothingIsFormattedForALevelThatIsOff(t *testing.T) {
	app := appWith(t, new(fakeEngine), func(m *vramman.ModelSpec) { m.MaxConcurrent, m.MaxQueue = 1, 0 })
	fields := 0
	a := admissionTo(app, countingCore{zapcore.NewNopCore(), &fields})
	serve(t, a, chat(`{"model":"tiny"}`), func(http.ResponseWriter, *http.Request) error {
		if w := serve(t, a, chat(`{"model":"tiny"}`), nil); w.Code != http.StatusTooManyRequests {
			t.Errorf("status %d", w.Code)
		}
		return nil
	})
	if fields != 0 {
		t.Errorf("%d fields were made", fields)
	}
	if _, told := a.full.models.Load("tiny"); told {
		t.Error("a refusal is counted that nobody will be told of")
	}
}
