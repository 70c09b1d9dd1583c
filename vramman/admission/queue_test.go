package admission_test

import (
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

// door is a queue and those who have a slot of it, in the order of their turns.
type door struct {
	*admission.Queue
	served []*admission.Place
}

func newDoor(slots, waiting int) *door {
	q := new(admission.Queue)
	q.SetLimits(slots, waiting)
	return &door{Queue: q}
}

// enter lets a request in and fails unless it gets the verdict.
func (d *door) enter(t *testing.T, r admission.Request, want admission.Verdict) *admission.Place {
	t.Helper()
	p := new(admission.Place)
	got, lost := d.Enter(p, r)
	if got != want || lost != nil {
		t.Fatalf("verdict %d, want %d; lost %v", got, want, lost)
	}
	if got == admission.Admitted {
		d.served = append(d.served, p)
	}
	return p
}

// enterAll lets n requests of nobody in particular in.
func (d *door) enterAll(t *testing.T, n int, want admission.Verdict) []*admission.Place {
	t.Helper()
	places := make([]*admission.Place, n)
	for i := range places {
		places[i] = d.enter(t, admission.Request{}, want)
	}
	return places
}

// next returns whose turn it is.
func (d *door) next() *admission.Place {
	p := d.Next()
	if p != nil {
		d.served = append(d.served, p)
	}
	return p
}

// leave has whoever was served first leave, and returns whose turn came by it.
func (d *door) leave(held time.Duration) *admission.Place {
	d.Leave(d.served[0], held)
	d.served = d.served[1:]
	return d.next()
}

func (d *door) counts(t *testing.T, serving, waiting int, refused uint64) {
	t.Helper()
	if d.Serving() != serving || d.Waiting() != waiting || d.Refused() != refused {
		t.Fatalf("%d served, %d wait, %d refused; want %d, %d, %d", d.Serving(), d.Waiting(), d.Refused(), serving, waiting, refused)
	}
}

func TestZeroQueueAdmitsNobody(t *testing.T) {
	d := &door{Queue: new(admission.Queue)}
	d.enterAll(t, 3, admission.Full)
	d.counts(t, 0, 0, 3)
	if d.Next() != nil {
		t.Error("somebody's turn came")
	}
	if _, known := d.TimeToEmpty(); known {
		t.Error("the time to empty is known")
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	d := newDoor(2, 3)
	d.enterAll(t, 2, admission.Admitted)
	var waiting []*admission.Place
	for n := range 3 {
		if got := d.PositionFor(admission.Request{}); got != n+1 {
			t.Errorf("position %d is promised, want %d", got, n+1)
		}
		waiting = append(waiting, d.enter(t, admission.Request{}, admission.Queued))
	}
	d.enterAll(t, 1, admission.Full)
	d.counts(t, 2, 3, 1)
	for n, p := range waiting {
		if got := d.Position(p); got != n+1 {
			t.Errorf("position %d, want %d", got, n+1)
		}
	}
	for n, p := range waiting {
		if got := d.leave(0); got != p {
			t.Fatalf("turn %d is another's", n)
		}
		if d.Position(p) != 0 {
			t.Errorf("a served place has position %d", d.Position(p))
		}
	}
	d.counts(t, 2, 0, 1)
	for range 2 {
		if d.leave(0) != nil {
			t.Fatal("somebody's turn came who does not wait")
		}
	}
	d.counts(t, 0, 0, 1)
	if got := d.PositionFor(admission.Request{}); got != 0 {
		t.Errorf("position %d is promised where a slot is free", got)
	}
}

func TestNobodyOvertakesThroughARaisedLimit(t *testing.T) {
	d := newDoor(1, 5)
	d.enterAll(t, 1, admission.Admitted)
	waiting := d.enterAll(t, 2, admission.Queued)
	d.SetLimits(3, 5) // a slot is free, but others wait for it
	late := d.enterAll(t, 1, admission.Queued)[0]
	for n, want := range append(waiting, nil) {
		if got := d.next(); got != want {
			t.Fatalf("turn %d is another's", n)
		}
	}
	d.counts(t, 3, 1, 0)
	if d.leave(0) != late {
		t.Error("the last did not get its turn")
	}
}

func TestLoweredLimitsTakeNothingAway(t *testing.T) {
	d := newDoor(3, 3)
	d.enterAll(t, 3, admission.Admitted)
	waiting := d.enterAll(t, 3, admission.Queued)
	d.SetLimits(1, 1)
	d.counts(t, 3, 3, 0)
	d.enterAll(t, 1, admission.Full)
	for range 2 {
		if d.leave(0) != nil {
			t.Fatal("a turn came above the new limit")
		}
	}
	d.counts(t, 1, 3, 1)
	for _, want := range waiting {
		if d.leave(0) != want {
			t.Fatal("a place was lost")
		}
	}
	d.counts(t, 1, 0, 1)
}

// Limits of nothing, as of a model that is being removed, keep those who wait
// until they are raised again.
func TestNoSlotsAtAll(t *testing.T) {
	d := newDoor(0, 2)
	waiting := d.enterAll(t, 2, admission.Queued)
	d.enterAll(t, 1, admission.Full)
	if d.next() != nil {
		t.Fatal("a turn came without a slot")
	}
	d.SetLimits(1, 0)
	if d.next() != waiting[0] || d.next() != nil || d.leave(0) != waiting[1] {
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
			d := newDoor(1, 4)
			d.enterAll(t, 1, admission.Admitted)
			waiting := d.enterAll(t, 4, admission.Queued)
			for _, r := range c.remove {
				if !d.Remove(waiting[r]) {
					t.Fatalf("place %d does not wait", r)
				}
				if d.Remove(waiting[r]) {
					t.Fatalf("place %d was removed twice", r)
				}
			}
			for n, w := range c.want {
				if got := d.Position(waiting[w]); got < n+1 || got > len(c.want) {
					t.Errorf("place %d has position %d, want %d to %d", w, got, n+1, len(c.want))
				}
			}
			for _, w := range c.want {
				if d.leave(0) != waiting[w] {
					t.Fatalf("the turn of place %d did not come", w)
				}
			}
			if d.leave(0) != nil {
				t.Fatal("a removed place got a turn")
			}
			d.counts(t, 0, 0, 0)
			again := d.enterAll(t, 1, admission.Admitted)[0]
			if d.Remove(again) {
				t.Error("a place with a slot was removed from the queue")
			}
		})
	}
}

// A request that gives up at the moment its turn comes has a slot, and Remove
// says so.
func TestRemoveAfterTheTurn(t *testing.T) {
	d := newDoor(1, 2)
	d.enterAll(t, 1, admission.Admitted)
	waiting := d.enterAll(t, 2, admission.Queued)
	if d.leave(0) != waiting[0] {
		t.Fatal("not the first")
	}
	if d.Remove(waiting[0]) {
		t.Fatal("Remove took a place out that has a slot")
	}
	d.counts(t, 1, 1, 0)
	if d.leave(0) != waiting[1] {
		t.Fatal("the slot did not go on to the next")
	}
}

// A place may enter again once it is out: tickets are used anew.
func TestPlaceUsedAgain(t *testing.T) {
	d := newDoor(1, 2)
	d.enterAll(t, 1, admission.Admitted)
	waiting := d.enterAll(t, 2, admission.Queued)
	a, b := waiting[0], waiting[1]
	d.Remove(a)
	if v, _ := d.Enter(a, admission.Request{}); v != admission.Queued || d.Position(b) != 1 || d.Position(a) != 2 {
		t.Fatalf("verdict %d, b is at %d, a at %d", v, d.Position(b), d.Position(a))
	}
	if d.leave(0) != b || d.leave(0) != a {
		t.Error("a place that entered again is not the last")
	}
}

func TestHigherClassesGoFirst(t *testing.T) {
	d := newDoor(1, 10)
	d.enterAll(t, 1, admission.Admitted)
	var want []*admission.Place
	for _, class := range []int{0, 5, -1, 5, 0} {
		want = append(want, d.enter(t, admission.Request{Client: "a", Class: class}, admission.Queued))
	}
	want = []*admission.Place{want[1], want[3], want[0], want[4], want[2]}
	for n, p := range want {
		if d.Position(p) != n+1 {
			t.Errorf("position %d, want %d", d.Position(p), n+1)
		}
	}
	if got := d.PositionFor(admission.Request{Class: 5, Client: "b"}); got != 2 {
		t.Errorf("a new client of the highest class would stand at %d, want 2", got)
	}
	for n, p := range want {
		if d.leave(0) != p {
			t.Fatalf("turn %d is another's", n)
		}
	}
}

// Whoever fills the queue does not keep others out: they take the places of its
// newest requests, until it has no more than they.
func TestFullQueueMakesRoomForClientsWithFewer(t *testing.T) {
	d := newDoor(1, 4)
	d.enterAll(t, 1, admission.Admitted)
	var hog []*admission.Place
	for range 4 {
		hog = append(hog, d.enter(t, admission.Request{Client: "hog"}, admission.Queued))
	}
	d.enter(t, admission.Request{Client: "hog"}, admission.Full)
	for n, want := range []*admission.Place{hog[3], hog[2], nil} {
		v, lost := d.Enter(new(admission.Place), admission.Request{Client: "b"})
		if lost != want || (v == admission.Full) != (want == nil) {
			t.Fatalf("request %d: verdict %d, %v was lost, want %v", n, v, lost, want)
		}
		if want != nil && (!want.Displaced() || d.Remove(want)) {
			t.Errorf("request %d: the place that was lost does not say so", n)
		}
	}
	d.enter(t, admission.Request{Client: "c", Class: -1}, admission.Full)
	if v, lost := d.Enter(new(admission.Place), admission.Request{Client: "hog", Class: 1}); v != admission.Queued || lost == nil {
		t.Errorf("verdict %d for a higher class", v)
	}
	d.counts(t, 1, 4, 6)
	for d.Waiting() > 0 {
		if p := d.leave(0); p.Displaced() {
			t.Error("a place that was lost got a turn")
		}
	}
}

// There are no more records than there are clients that wait or are served, and
// some that were here lately.
func TestClientsAreForgotten(t *testing.T) {
	d := newDoor(1, 0)
	var p admission.Place
	if n := testing.AllocsPerRun(5, func() {
		for i := range 1000 {
			d.Enter(&p, admission.Request{Client: clientNames[i]})
			d.Leave(&p, 0)
		}
	}); n > 300 { // a new record each would make a thousand
		t.Errorf("%v allocations for a thousand clients that come again and again", n)
	}
}

var clientNames = func() []string {
	names := make([]string, 1000)
	for i := range names {
		names[i] = string(rune('a'+i%26)) + string(rune('0'+i/26))
	}
	slices.Sort(names)
	return names
}()

func TestServiceAndTimeToEmpty(t *testing.T) {
	d := newDoor(4, 100)
	d.enterAll(t, 4, admission.Admitted)
	d.enterAll(t, 10, admission.Queued)
	if _, known := d.TimeToEmpty(); known || d.Service() != 0 {
		t.Fatal("something is known before anything was measured")
	}
	d.leave(0)
	d.leave(-time.Second)
	if _, known := d.TimeToEmpty(); known {
		t.Fatal("a slot that served nothing was measured")
	}
	d.leave(2 * time.Second)
	d.counts(t, 4, 7, 0)
	// 7 wait, 4 at a time, 2 s each.
	if got, known := d.TimeToEmpty(); !known || got != 3500*time.Millisecond {
		t.Fatalf("time to empty %v, want 3.5s", got)
	}
	d.SetLimits(2, 100)
	if got, _ := d.TimeToEmpty(); got != 7*time.Second {
		t.Fatalf("time to empty %v with half the slots, want 7s", got)
	}
	if got, _ := d.TimeTo(2); got != 2*time.Second {
		t.Fatalf("the second waits %v, want 2s", got)
	}
	d.SetLimits(0, 100)
	if _, known := d.TimeToEmpty(); known {
		t.Error("without slots the queue never empties")
	}
}

func TestServiceFollowsAServerThatHasBecomeSlower(t *testing.T) {
	d := newDoor(1, 0)
	serve := func(n int, held time.Duration) {
		for range n {
			d.enterAll(t, 1, admission.Admitted)
			d.leave(held)
		}
	}
	serve(3, time.Second)
	serve(3, 3*time.Second)
	if got := d.Service(); got != 2*time.Second {
		t.Errorf("the mean of three 1 s and three 3 s is %v", got)
	}
	serve(1000, time.Second)
	if got := d.Service(); (got - time.Second).Abs() > time.Millisecond {
		t.Errorf("after a thousand of 1 s: %v", got)
	}
	serve(100, 10*time.Second)
	if got := d.Service(); got < 9*time.Second || got > 10*time.Second {
		t.Errorf("after a hundred of 10 s: %v", got)
	}
	serve(1, time.Hour)
	if got := d.Service(); got > 3*time.Minute {
		t.Errorf("one long stream alone made it %v", got)
	}
}

func TestEnterAndLeaveDoNotAllocate(t *testing.T) {
	d := newDoor(1, 1)
	served, waits := new(admission.Place), new(admission.Place)
	if n := testing.AllocsPerRun(1000, func() {
		d.Enter(served, admission.Request{Client: "a", Cost: 100})
		d.Enter(waits, admission.Request{Client: "b", Cost: 100})
		d.Charge(served, 50)
		d.Leave(served, time.Second)
		if d.Next() != waits {
			t.Fatal("not the order of arrival")
		}
		d.Leave(waits, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkEnterLeave(b *testing.B) {
	d := newDoor(50, 200)
	var p admission.Place
	b.ReportAllocs()
	for b.Loop() {
		d.Enter(&p, admission.Request{Client: "a"})
		d.Leave(&p, time.Second)
	}
}
