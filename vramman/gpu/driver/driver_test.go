package driver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCallsAreMadeOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := NewCalls()
		now, most, made := 0, 0, 0
		for range 10 {
			go func() {
				err := calls.Do(t.Context(), func() {
					now++
					most = max(most, now)
					time.Sleep(time.Second) // a slow driver, in the bubble's time
					now--
					made++
				})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if most != 1 || made != 10 {
			t.Errorf("%d calls at once, %d in all", most, made)
		}
	})
}

// TestDriverHangs shows that nobody waits longer than they like, that nothing
// piles up, and that all is well once the driver is.
func TestDriverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := NewCalls()
		awake := make(chan struct{})
		for n := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := calls.Do(ctx, func() {
				if n > 0 {
					t.Error("another call was made")
				}
				<-awake
			})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("call %d: %v", n, err)
			} else if want := []string{"for 10s", "for 20s", "for 30s"}[n]; !strings.Contains(err.Error(), want) {
				t.Errorf("call %d: %v, want %q", n, err, want)
			}
		}
		close(awake)
		if err := calls.Do(t.Context(), func() {}); err != nil {
			t.Error(err)
		}
	})
}

func TestNoCallForNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewCalls().Do(ctx, func() { t.Error("called") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
