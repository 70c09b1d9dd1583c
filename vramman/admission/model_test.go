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
	serving    []*admission.Place // includes those whose turn came
	waiting    []*admission.Place
	refused    uint64
}

func (s *slowQueue) enter(p *admission.Place) admission.Verdict {
	if len(s.serving) < s.slots && len(s.waiting) == 0 {
		s.serving = append(s.serving, p)
		return admission.Admitted
	}
	if len(s.waiting) >= s.max {
		s.refused++
		return admission.Full
	}
	s.waiting = append(s.waiting, p)
	return admission.Queued
}

func (s *slowQueue) next() *admission.Place {
	if len(s.waiting) == 0 || len(s.serving) >= s.slots {
		return nil
	}
	p := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.serving = append(s.serving, p)
	return p
}

// play carries out one operation per two bytes, on a Queue and on the slow
// one, and fails at the first difference.
func play(t *testing.T, script []byte) {
	var (
		q    admission.Queue
		slow slowQueue
		all  []*admission.Place
	)
	for n := 0; n+1 < len(script); n += 2 {
		op, arg := script[n], int(script[n+1])
		switch op % 8 {
		case 0, 1, 2:
			p := new(admission.Place)
			all = append(all, p)
			if got, want := q.Enter(p), slow.enter(p); got != want {
				t.Fatalf("step %d: verdict %d, want %d", n/2, got, want)
			}
		case 3, 4:
			if len(slow.serving) == 0 {
				continue
			}
			i := arg % len(slow.serving)
			slow.serving = slices.Delete(slow.serving, i, i+1)
			if got, want := q.Leave(time.Duration(arg)*time.Millisecond), slow.next(); got != want {
				t.Fatalf("step %d: another's turn came", n/2)
			}
		case 5:
			if len(all) == 0 {
				continue
			}
			p := all[arg%len(all)]
			i := slices.Index(slow.waiting, p)
			if got := q.Remove(p); got != (i >= 0) {
				t.Fatalf("step %d: Remove said %v of a place that stands at %d", n/2, got, i)
			}
			if i >= 0 {
				slow.waiting = slices.Delete(slow.waiting, i, i+1)
			}
		case 6:
			slow.slots, slow.max = arg%5, arg/16
			q.SetLimits(slow.slots, slow.max)
			if q.Serving() != len(slow.serving) || q.Waiting() != len(slow.waiting) {
				t.Fatalf("step %d: new limits took somebody's slot or place", n/2)
			}
			if op < 128 { // sometimes nobody asks
				for {
					got, want := q.Next(), slow.next()
					if got != want {
						t.Fatalf("step %d: another's turn came", n/2)
					}
					if got == nil {
						break
					}
				}
			}
		case 7:
			if got, want := q.Next(), slow.next(); got != want {
				t.Fatalf("step %d: another's turn came", n/2)
			}
		}
		if q.Serving() != len(slow.serving) || q.Waiting() != len(slow.waiting) || q.Refused() != slow.refused || q.Slots() != slow.slots || q.Max() != slow.max {
			t.Fatalf("step %d: %d served, %d wait, %d refused; want %d, %d, %d", n/2,
				q.Serving(), q.Waiting(), q.Refused(), len(slow.serving), len(slow.waiting), slow.refused)
		}
		for _, p := range all {
			if got, want := q.Position(p), 1+slices.Index(slow.waiting, p); got != want {
				t.Fatalf("step %d: position %d, want %d", n/2, got, want)
			}
		}
		if d, known := q.TimeToEmpty(); d < 0 || known && len(slow.waiting) == 0 && d != 0 {
			t.Fatalf("step %d: time to empty is %v", n/2, d)
		}
	}
	// Whoever still waits gets a turn once there are slots for all.
	q.SetLimits(len(all), 0)
	slow.slots = len(all)
	for p := q.Next(); p != nil; p = q.Next() {
		if p != slow.next() {
			t.Fatal("at the end another's turn came")
		}
	}
	if len(slow.waiting) > 0 || q.Waiting() > 0 {
		t.Fatalf("%d places were lost", max(len(slow.waiting), q.Waiting()))
	}
}

func TestAgainstASlowQueue(t *testing.T) {
	for range 1500 {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		script := make([]byte, 2*rng.IntN(80))
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
	f.Fuzz(play)
}
