package admission_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vllm-gateway/vllm-gateway/vramman/admission"
)

// slowQueue is what a Queue does, as plainly as it can be said.
type slowQueue struct {
	slots, max int
	serving    []*slowRequest // includes those whose turn came
	waiting    []*slowRequest // as they came
	refused    uint64
	count      map[slowClient]int64
	clock      map[int]int64 // by class
}

type slowClient struct {
	name  string
	class int
}

type slowRequest struct {
	place   *admission.Place
	of      slowClient
	cost    int64
	charged int64
}

func newSlowQueue() *slowQueue {
	return &slowQueue{count: make(map[slowClient]int64), clock: make(map[int]int64)}
}

func (s *slowQueue) waits(of slowClient) (n int) {
	for _, w := range s.waiting {
		if w.of == of {
			n++
		}
	}
	return n
}

func (s *slowQueue) lift(of slowClient) { s.count[of] = max(s.count[of], s.clock[of.class]) }

func (s *slowQueue) serve(r *slowRequest) {
	s.clock[r.of.class] = max(s.clock[r.of.class], s.count[r.of])
	s.count[r.of] += r.cost
	r.charged = r.cost
	s.serving = append(s.serving, r)
}

func (s *slowQueue) enter(r *slowRequest) (v admission.Verdict, lost *slowRequest) {
	if len(s.serving) < s.slots && len(s.waiting) == 0 {
		s.lift(r.of)
		s.serve(r)
		return admission.Admitted, nil
	}
	if len(s.waiting) >= s.max {
		s.refused++
		if lost = s.rival(r); lost == nil {
			return admission.Full, nil
		}
		s.waiting = without(s.waiting, lost)
	}
	if s.waits(r.of) == 0 {
		s.lift(r.of)
	}
	s.waiting = append(s.waiting, r)
	return admission.Queued, lost
}

// rival is the last of whoever has most waiting in the lowest class.
func (s *slowQueue) rival(r *slowRequest) (best *slowRequest) {
	for _, w := range s.waiting {
		switch {
		case best == nil, w.of.class < best.of.class:
			best = w
		case w.of.class > best.of.class:
		case s.waits(w.of) >= s.waits(best.of):
			best = w // it came later
		}
	}
	if best == nil || best.of.class > r.of.class || best.of.class == r.of.class && s.waits(best.of) <= s.waits(r.of)+1 {
		return nil
	}
	return best
}

func without(list []*slowRequest, r *slowRequest) []*slowRequest {
	return slices.DeleteFunc(list, func(x *slowRequest) bool { return x == r })
}

func (s *slowQueue) next() *slowRequest {
	if len(s.serving) >= s.slots {
		return nil
	}
	var best *slowRequest
	for _, w := range s.waiting {
		if best == nil || w.of.class > best.of.class || w.of.class == best.of.class && s.count[w.of] < s.count[best.of] {
			best = w
		}
	}
	if best != nil {
		s.waiting = without(s.waiting, best)
		s.serve(best)
	}
	return best
}

func (s *slowQueue) charge(r *slowRequest, units int64) {
	units = max(units, -r.charged)
	r.charged += units
	s.count[r.of] += units
}

// play carries out one operation per two bytes, on a Queue and on the slow
// one, and fails at the first difference.
func play(t *testing.T, script []byte) {
	var (
		q    admission.Queue
		slow = newSlowQueue()
		all  []*slowRequest
	)
	same := func(step int, got *admission.Place, want *slowRequest) {
		t.Helper()
		if want == nil && got != nil || want != nil && got != want.place {
			t.Fatalf("step %d: another's turn came", step)
		}
	}
	for n := 0; n+1 < len(script); n += 2 {
		op, arg, step := script[n], int(script[n+1]), n/2
		switch op % 8 {
		case 0, 1, 2:
			r := &slowRequest{
				place: new(admission.Place),
				of:    slowClient{clientNames[arg%4], arg / 4 % 3},
				cost:  1 + int64(arg/8),
			}
			all = append(all, r)
			got, lost := q.Enter(r.place, admission.Request{Client: r.of.name, Class: r.of.class, Cost: r.cost})
			want, wantLost := slow.enter(r)
			if got != want || (lost != nil) != (wantLost != nil) || lost != nil && lost != wantLost.place {
				t.Fatalf("step %d: verdict %d, want %d", step, got, want)
			}
		case 3, 4:
			if len(slow.serving) == 0 {
				continue
			}
			r := slow.serving[arg%len(slow.serving)]
			slow.serving = without(slow.serving, r)
			q.Leave(r.place, time.Duration(arg)*time.Millisecond)
			same(step, q.Next(), slow.next())
		case 5:
			if len(all) == 0 {
				continue
			}
			r := all[arg%len(all)]
			waits := slices.Contains(slow.waiting, r)
			if got := q.Remove(r.place); got != waits {
				t.Fatalf("step %d: Remove said %v", step, got)
			}
			slow.waiting = without(slow.waiting, r)
		case 6:
			slow.slots, slow.max = arg%5, arg/16
			q.SetLimits(slow.slots, slow.max)
			if q.Serving() != len(slow.serving) || q.Waiting() != len(slow.waiting) {
				t.Fatalf("step %d: new limits took somebody's slot or place", step)
			}
			for op < 128 { // sometimes nobody asks
				got, want := q.Next(), slow.next()
				same(step, got, want)
				if got == nil {
					break
				}
			}
		case 7:
			if len(slow.serving) > 0 {
				r := slow.serving[arg%len(slow.serving)]
				units := int64(arg) - 100
				q.Charge(r.place, units)
				slow.charge(r, units)
			}
			same(step, q.Next(), slow.next())
		}
		compare(t, step, &q, slow)
	}
	// Whoever still waits gets a turn once there are slots for all.
	q.SetLimits(len(all), 0)
	slow.slots = len(all)
	for p := q.Next(); p != nil; p = q.Next() {
		same(len(script), p, slow.next())
	}
	if len(slow.waiting) > 0 || q.Waiting() > 0 {
		t.Fatalf("%d places were lost", max(len(slow.waiting), q.Waiting()))
	}
}

// compare looks for differences between a Queue and the slow one.
func compare(t *testing.T, step int, q *admission.Queue, slow *slowQueue) {
	t.Helper()
	if q.Serving() != len(slow.serving) || q.Waiting() != len(slow.waiting) || q.Refused() != slow.refused || q.Slots() != slow.slots || q.Max() != slow.max {
		t.Fatalf("step %d: %d served, %d wait, %d refused; want %d, %d, %d", step,
			q.Serving(), q.Waiting(), q.Refused(), len(slow.serving), len(slow.waiting), slow.refused)
	}
	for _, w := range slow.waiting {
		// Those of higher classes, and of its own client before it, go first for certain.
		least := 1
		for _, o := range slow.waiting {
			if o == w {
				break
			}
			if o.of == w.of {
				least++
			}
		}
		for _, o := range slow.waiting {
			if o.of.class > w.of.class {
				least++
			}
		}
		if got := q.Position(w.place); got < least || got > len(slow.waiting) {
			t.Fatalf("step %d: position %d of %d, want at least %d", step, got, len(slow.waiting), least)
		}
	}
	for _, r := range slow.serving {
		if q.Position(r.place) != 0 {
			t.Fatalf("step %d: a place with a slot has a position", step)
		}
	}
	if d, known := q.TimeToEmpty(); d < 0 || known && len(slow.waiting) == 0 && d != 0 {
		t.Fatalf("step %d: time to empty is %v", step, d)
	}
}

func TestAgainstASlowQueue(t *testing.T) {
	for range 3000 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 2*rng.IntN(120))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			play(t, script)
		}()
	}
}

func FuzzQueue(f *testing.F) {
	f.Add([]byte{6, 18, 0, 0, 0, 0, 0, 0, 3, 0, 5, 1, 3, 0})
	f.Add([]byte{6, 83, 0, 0, 1, 0, 2, 0, 0, 0, 134, 32, 3, 1, 7, 0, 3, 0})
	f.Add([]byte{6, 64, 0, 0, 0, 0, 5, 0, 0, 0, 6, 81, 3, 9})
	f.Add([]byte{6, 33, 0, 1, 0, 1, 0, 2, 1, 9, 7, 200, 3, 0, 0, 5, 3, 1, 7, 3})
	f.Fuzz(play)
}
