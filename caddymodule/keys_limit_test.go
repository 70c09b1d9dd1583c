package caddymodule

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestCallerCounts(t *testing.T) {
	var c callerCounts
	for range 3 {
		if _, ok := c.enter("alice", 3); !ok {
			t.Fatal("refused under the limit")
		}
	}
	if again, ok := c.enter("alice", 3); ok || again != 0 {
		t.Errorf("let in over the limit: %t, again after %v", ok, again)
	}
	if _, ok := c.enter("bob", 1); !ok {
		t.Error("bob is refused for what alice does")
	}
	// A reload may have another limit.
	if _, ok := c.enter("alice", 2); ok {
		t.Error("let in over a limit that is lower now")
	}
	c.leave("alice", 9*time.Second)
	if _, ok := c.enter("alice", 3); !ok {
		t.Error("refused after one has left")
	}
	if again, ok := c.enter("alice", 3); ok || again != 3*time.Second {
		t.Errorf("let in: %t, again after %v, want 3s: three at a time that take 9 s each", ok, again)
	}
}

// TestCallerCountsAreBounded has more callers than are remembered, all at once, and
// shows that none ever has more than its limit, and that none leaks.
func TestCallerCountsAreBounded(t *testing.T) {
	var c callerCounts
	const callers, limit = 3 * keptCounts, 2
	var serving [callers]atomic.Int32
	var let atomic.Int32
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for n := range callers {
				n = (n*(worker+1) + worker) % callers
				name := fmt.Sprint(n)
				if _, ok := c.enter(name, limit); !ok {
					continue
				}
				let.Add(1)
				if serving[n].Add(1) > limit {
					t.Errorf("caller %d is over its limit", n)
				}
				serving[n].Add(-1)
				c.leave(name, time.Second)
			}
		})
	}
	wg.Wait()
	left := 0
	c.names.Range(func(_, v any) bool {
		left++
		if n := v.(*callerCount); n.serving != 0 || n.gone {
			t.Errorf("%+v is left over", n)
		}
		return true
	})
	if left > keptCounts || int64(left) != c.size.Load() || let.Load() == 0 {
		t.Errorf("%d callers are kept, %d are counted, %d requests were let in", left, c.size.Load(), let.Load())
	}
}
