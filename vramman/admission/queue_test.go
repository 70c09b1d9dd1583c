package admission_test

import (
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

func newQueue(slots, waiting int) *admission.Queue {
	q := new(admission.Queue)
	q.SetLimits(slots, waiting)
	return q
}

// enter lets n requests in and fails unless each gets the verdict.
func enter(t *testing.T, q *admission.Queue, n int, want admission.Verdict) []*admission.Place {
	t.Helper()
	places := make([]*admission.Place, n)
	for i := range places {
		places[i] = new(admission.Place)
		if got := q.Enter(places[i]); got != want {
			t.Fatalf("request %d: verdict %d, want %d", i, got, want)
		}
	}
	return places
}

func counts(t *testing.T, q *admission.Queue, serving, waiting int, refused uint64) {
	t.Helper()
	if q.Serving() != serving || q.Waiting() != waiting || q.Refused() != refused {
		t.Fatalf("%d served, %d wait, %d refused; want %d, %d, %d", q.Serving(), q.Waiting(), q.Refused(), serving, waiting, refused)
	}
}

func TestZeroQueueAdmitsNobody(t *testing.T) {
	var q admission.Queue
	enter(t, &q, 3, admission.Full)
	counts(t, &q, 0, 0, 3)
	if q.Next() != nil {
		t.Error("somebody's turn came")
	}
	if _, known := q.TimeToEmpty(); known {
		t.Error("the time to empty is known")
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	q := newQueue(2, 3)
	enter(t, q, 2, admission.Admitted)
	waiting := enter(t, q, 3, admission.Queued)
	enter(t, q, 1, admission.Full)
	counts(t, q, 2, 3, 1)
	for n, p := range waiting {
		if got := q.Position(p); got != n+1 {
			t.Errorf("position %d, want %d", got, n+1)
		}
	}
	for n, p := range waiting {
		if got := q.Leave(0); got != p {
			t.Fatalf("turn %d is another's", n)
		}
		if q.Position(p) != 0 {
			t.Errorf("a served place has position %d", q.Position(p))
		}
	}
	counts(t, q, 2, 0, 1)
	for range 2 {
		if q.Leave(0) != nil {
			t.Fatal("somebody's turn came who does not wait")
		}
	}
	counts(t, q, 0, 0, 1)
}

func TestNobodyOvertakesThroughARaisedLimit(t *testing.T) {
	q := newQueue(1, 5)
	enter(t, q, 1, admission.Admitted)
	waiting := enter(t, q, 2, admission.Queued)
	q.SetLimits(3, 5) // a slot is free, but others wait for it
	late := enter(t, q, 1, admission.Queued)[0]
	for n, want := range append(waiting, nil) {
		if got := q.Next(); got != want {
			t.Fatalf("turn %d is another's", n)
		}
	}
	counts(t, q, 3, 1, 0)
	if q.Leave(0) != late {
		t.Error("the last did not get its turn")
	}
}

func TestLoweredLimitsTakeNothingAway(t *testing.T) {
	q := newQueue(3, 3)
	enter(t, q, 3, admission.Admitted)
	waiting := enter(t, q, 3, admission.Queued)
	q.SetLimits(1, 1)
	counts(t, q, 3, 3, 0)
	enter(t, q, 1, admission.Full)
	for range 2 {
		if q.Leave(0) != nil {
			t.Fatal("a turn came above the new limit")
		}
	}
	counts(t, q, 1, 3, 1)
	for _, want := range waiting {
		if q.Leave(0) != want {
			t.Fatal("a place was lost")
		}
	}
	counts(t, q, 1, 0, 1)
}

// Limits of nothing, as of a model that is being removed, keep those who wait
// until they are raised again.
func TestNoSlotsAtAll(t *testing.T) {
	q := newQueue(0, 2)
	waiting := enter(t, q, 2, admission.Queued)
	enter(t, q, 1, admission.Full)
	if q.Next() != nil {
		t.Fatal("a turn came without a slot")
	}
	q.SetLimits(1, 0)
	if q.Next() != waiting[0] || q.Next() != nil || q.Leave(0) != waiting[1] {
		t.Error("those who waited did not get their turns in order")
	}
}

func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name   string
		remove []int
		want   []int // turns that follow
	}{
		{"the first", []int{0}, []int{1, 2, 3}},
		{"the last", []int{3}, []int{0, 1, 2}},
		{"one between", []int{1}, []int{0, 2, 3}},
		{"two beside each other", []int{2, 1}, []int{0, 3}},
		{"all, forwards", []int{0, 1, 2, 3}, nil},
		{"all, backwards", []int{3, 2, 1, 0}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := newQueue(1, 4)
			enter(t, q, 1, admission.Admitted)
			waiting := enter(t, q, 4, admission.Queued)
			for _, r := range c.remove {
				if !q.Remove(waiting[r]) {
					t.Fatalf("place %d does not wait", r)
				}
				if q.Remove(waiting[r]) {
					t.Fatalf("place %d was removed twice", r)
				}
			}
			for n, w := range c.want {
				if got := q.Position(waiting[w]); got != n+1 {
					t.Errorf("place %d has position %d, want %d", w, got, n+1)
				}
			}
			for _, w := range c.want {
				if q.Leave(0) != waiting[w] {
					t.Fatalf("the turn of place %d did not come", w)
				}
			}
			if q.Leave(0) != nil {
				t.Fatal("a removed place got a turn")
			}
			counts(t, q, 0, 0, 0)
			again := enter(t, q, 1, admission.Admitted)[0]
			if q.Remove(again) {
				t.Error("a place with a slot was removed from the queue")
			}
		})
	}
}

// A request that gives up at the moment its turn comes has a slot, and Remove
// says so.
func TestRemoveAfterTheTurn(t *testing.T) {
	q := newQueue(1, 2)
	enter(t, q, 1, admission.Admitted)
	waiting := enter(t, q, 2, admission.Queued)
	if q.Leave(0) != waiting[0] {
		t.Fatal("not the first")
	}
	if q.Remove(waiting[0]) {
		t.Fatal("Remove took a place out that has a slot")
	}
	counts(t, q, 1, 1, 0)
	if q.Leave(0) != waiting[1] {
		t.Fatal("the slot did not go on to the next")
	}
}

// A place may enter again once it is out: tickets are used anew.
func TestPlaceUsedAgain(t *testing.T) {
	q := newQueue(1, 2)
	enter(t, q, 1, admission.Admitted)
	a, b := new(admission.Place), new(admission.Place)
	q.Enter(a)
	q.Enter(b)
	q.Remove(a)
	if q.Enter(a) != admission.Queued || q.Position(b) != 1 || q.Position(a) != 2 {
		t.Fatalf("b is at %d, a at %d", q.Position(b), q.Position(a))
	}
	if q.Leave(0) != b || q.Leave(0) != a {
		t.Error("a place that entered again is not the last")
	}
}

func TestServiceAndTimeToEmpty(t *testing.T) {
	q := newQueue(4, 100)
	enter(t, q, 4, admission.Admitted)
	enter(t, q, 10, admission.Queued)
	if _, known := q.TimeToEmpty(); known || q.Service() != 0 {
		t.Fatal("something is known before anything was measured")
	}
	q.Leave(0)
	q.Leave(-time.Second)
	if _, known := q.TimeToEmpty(); known {
		t.Fatal("a slot that served nothing was measured")
	}
	q.Leave(2 * time.Second)
	counts(t, q, 4, 7, 0)
	// 7 wait, 4 at a time, 2 s each.
	if d, known := q.TimeToEmpty(); !known || d != 3500*time.Millisecond {
		t.Fatalf("time to empty %v, want 3.5s", d)
	}
	q.SetLimits(2, 100)
	if d, _ := q.TimeToEmpty(); d != 7*time.Second {
		t.Fatalf("time to empty %v with half the slots, want 7s", d)
	}
	q.SetLimits(0, 100)
	if _, known := q.TimeToEmpty(); known {
		t.Error("without slots the queue never empties")
	}
}

func TestServiceFollowsAServerThatHasBecomeSlower(t *testing.T) {
	q := newQueue(1, 0)
	serve := func(n int, d time.Duration) {
		for range n {
			enter(t, q, 1, admission.Admitted)
			q.Leave(d)
		}
	}
	serve(3, time.Second)
	serve(3, 3*time.Second)
	if got := q.Service(); got != 2*time.Second {
		t.Errorf("the mean of three 1 s and three 3 s is %v", got)
	}
	serve(1000, time.Second)
	if got := q.Service(); (got - time.Second).Abs() > time.Millisecond {
		t.Errorf("after a thousand of 1 s: %v", got)
	}
	serve(100, 10*time.Second)
	if got := q.Service(); got < 9*time.Second || got > 10*time.Second {
		t.Errorf("after a hundred of 10 s: %v", got)
	}
	serve(1, time.Hour)
	if got := q.Service(); got > 3*time.Minute {
		t.Errorf("one long stream alone made it %v", got)
	}
}

func TestEnterAndLeaveDoNotAllocate(t *testing.T) {
	q := newQueue(1, 1)
	served, waits := new(admission.Place), new(admission.Place)
	if n := testing.AllocsPerRun(1000, func() {
		q.Enter(served)
		q.Enter(waits)
		if q.Leave(time.Second) != waits || q.Leave(time.Second) != nil {
			t.Fatal("not the order of arrival")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	q := newQueue(50, 200)
	var p admission.Place
	b.ReportAllocs()
	for b.Loop() {
		q.Enter(&p)
		q.Leave(time.Second)
	}
}
