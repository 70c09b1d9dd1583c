package caddymodule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttemptTimer(t *testing.T) {
	slow, silent := errors.New("slow"), errors.New("silent")
	tests := []struct {
		name string
		run  func(w *attemptTimer)
		ends time.Duration // 0: it does not
		why  error
	}{
		{"nothing comes", func(w *attemptTimer) { w.wait(time.Second, slow) }, time.Second, slow},
		{"it comes", func(w *attemptTimer) { w.wait(time.Second, slow); w.rest() }, 0, nil},
		{"as long as it takes", func(w *attemptTimer) { w.wait(0, slow) }, 0, nil},
		{"a longer wait follows", func(w *attemptTimer) { w.wait(time.Second, slow); w.wait(time.Minute, silent) }, time.Minute, silent},
		{"a shorter wait follows", func(w *attemptTimer) { w.wait(time.Minute, slow); w.wait(time.Second, silent) }, time.Second, silent},
		{"each event puts it off", func(w *attemptTimer) {
			for range 10 {
				w.wait(time.Second, silent)
				time.Sleep(900 * time.Millisecond) // of the bubble's clock
				w.rest()
			}
			w.wait(time.Second, silent)
		}, 10 * time.Second, silent},
		{"a client that is slow to take an event", func(w *attemptTimer) {
			w.wait(time.Second, silent)
			w.rest()
			time.Sleep(time.Hour)
			w.wait(time.Second, silent)
		}, time.Hour + time.Second, silent},
		{"the attempt ends", func(w *attemptTimer) { w.wait(time.Second, slow); w.end() }, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, w := timed(t.Context(), began)
				defer w.end()
				tt.run(w)
				select {
				case <-ctx.Done():
				case <-time.After(48 * time.Hour):
				}
				ended := ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled)
				if ended != (tt.ends != 0) || ended && (time.Since(began) != tt.ends || !errors.Is(context.Cause(ctx), tt.why)) {
					t.Errorf("after %v: %v, want %v after %v", time.Since(began), context.Cause(ctx), tt.why, tt.ends)
				}
			})
		})
	}
}
