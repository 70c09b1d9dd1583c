// Package admission keeps the queue in front of one model: who is served, who
// waits, in which order, and how long that will take. It is pure: no lock, no
// clock, no goroutine; the caller brings all three.
package admission

import "time"

// Verdict is what becomes of a request that arrives.
type Verdict int

// The verdicts.
const (
	Admitted Verdict = iota // it has a slot
	Queued                  // it waits; the queue hands its Place back when its turn comes
	Full                    // it may not even wait
)

// Place is a request's place in a queue. The zero Place is in none.
type Place struct {
	// Turn is closed by the queue's owner when the place has become a slot.
	// It is made only for a place that waits.
	Turn chan struct{}

	next, prev *Place
	waiting    bool
}

// Queue bounds how many requests are served at once and how many wait, and
// admits them first come, first served. The zero Queue admits nobody.
type Queue struct {
	slots   int // served at once at most
	max     int // waiting at most
	serving int
	waiting int
	first   *Place
	last    *Place

	refused uint64
	service average
}

// Enter lets a request in, or has it wait, or refuses it.
func (q *Queue) Enter(p *Place) Verdict {
	switch {
	case q.serving < q.slots && q.waiting == 0:
		q.serving++
		return Admitted
	case q.waiting >= q.max:
		q.refused++
		return Full
	}
	p.waiting, p.prev, p.next = true, q.last, nil
	if q.last == nil {
		q.first = p
	} else {
		q.last.next = p
	}
	q.last = p
	q.waiting++
	return Queued
}

// Leave gives a slot back. It returns the place whose turn has come, or nil.
// A positive held is how long the slot was used to serve, and is remembered.
func (q *Queue) Leave(held time.Duration) *Place {
	q.serving--
	if held > 0 {
		q.service.add(held)
	}
	return q.next()
}

// Remove takes a place that still waits out of the queue. False means that it
// does not wait: it has a slot, which must be given back by [Queue.Leave].
func (q *Queue) Remove(p *Place) bool {
	if !p.waiting {
		return false
	}
	q.unlink(p)
	return true
}

// SetLimits changes both limits. Nobody loses a slot or a place by it; places
// whose turn comes through it are got from [Queue.Next].
func (q *Queue) SetLimits(slots, waiting int) {
	q.slots, q.max = slots, waiting
}

// Next admits the first that waits, if a slot is free, and returns its place or nil.
func (q *Queue) Next() *Place { return q.next() }

func (q *Queue) next() *Place {
	p := q.first
	if p == nil || q.serving >= q.slots {
		return nil
	}
	q.unlink(p)
	q.serving++
	return p
}

func (q *Queue) unlink(p *Place) {
	if p.prev == nil {
		q.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		q.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.next, p.prev, p.waiting = nil, nil, false
	q.waiting--
}

// Position is how many wait before a place, itself included: 1 is next.
// It is 0 for a place that does not wait.
func (q *Queue) Position(p *Place) int {
	if !p.waiting {
		return 0
	}
	n := 0
	for o := q.first; o != nil; o = o.next {
		n++
		if o == p {
			break
		}
	}
	return n
}

// Waiting is how many requests wait.
func (q *Queue) Waiting() int { return q.waiting }

// Serving is how many requests have a slot.
func (q *Queue) Serving() int { return q.serving }

// Slots is how many requests may be served at once.
func (q *Queue) Slots() int { return q.slots }

// Max is how many requests may wait.
func (q *Queue) Max() int { return q.max }

// Refused is how many requests were not even let wait, since the beginning.
func (q *Queue) Refused() uint64 { return q.refused }

// Service is the mean time for which a slot is used, newer requests counting
// more; 0 while nothing has been measured.
func (q *Queue) Service() time.Duration { return q.service.value }

// TimeToEmpty is how long all that wait now take to get a slot: each slot
// serves its share of the queue, one request after the other. The second result
// is false while nothing has been measured.
func (q *Queue) TimeToEmpty() (time.Duration, bool) {
	if q.service.count == 0 || q.slots == 0 {
		return 0, false
	}
	return time.Duration(float64(q.service.value) * float64(q.waiting) / float64(q.slots)), true
}

// average is a mean in which newer values weigh more.
type average struct {
	value time.Duration
	count int
}

// averageOver is how many values have a say in the average: enough to be calm,
// few enough to follow a server that has become slower.
const averageOver = 32

func (a *average) add(d time.Duration) {
	a.count = min(a.count+1, averageOver)
	a.value += (d - a.value) / time.Duration(a.count)
}
