package admission

import "time"

// This file is about how long things take: where a request stands, and when its
// turn will come.

// Position is at which turn a place that waits is served if nobody else comes and
// all requests cost alike: 1 is next. It is an upper bound, exact while one
// client waits and takes none out. It is 0 for a place that does not wait.
func (q *Queue) Position(p *Place) int {
	if p.state != waiting {
		return 0
	}
	c := p.client
	nth := min(int(p.number-c.first.number)+1, c.waiting)
	return q.position(c.class.rank, nth, len(c.class.least.items), c.class.waiting)
}

// PositionFor is the position that a request would get which comes now; 0: it would
// be admitted.
func (q *Queue) PositionFor(r Request) int {
	if q.Free() {
		return 0
	}
	nth, clients, waiting := 1, 1, 1
	for _, k := range q.classes {
		if k.rank != r.Class {
			continue
		}
		clients, waiting = len(k.least.items), k.waiting+1
		if c := k.clients[r.Client]; c != nil && c.waiting > 0 {
			nth += c.waiting
		} else {
			clients++
		}
	}
	return q.position(r.Class, nth, clients, waiting)
}

// position is the position of the nth request of a client among so many clients
// that have so many waiting together.
func (q *Queue) position(rank, nth, clients, waiting int) int {
	n := min(waiting, nth*clients)
	for _, k := range q.classes {
		if k.rank <= rank {
			break
		}
		n += k.waiting
	}
	return n
}

// Service is the mean time for which a slot is used, newer requests counting
// more; 0 while nothing has been measured.
func (q *Queue) Service() time.Duration { return q.service.value }

// TimeTo is how long the one at a position waits for a slot: each slot serves its
// share of those before, one request after the other. The second result is false
// while nothing has been measured.
func (q *Queue) TimeTo(position int) (time.Duration, bool) {
	if q.service.count == 0 || q.slots == 0 {
		return 0, false
	}
	return time.Duration(float64(q.service.value) * float64(position) / float64(q.slots)), true
}

// TimeToEmpty is how long all that wait now take to get a slot. The second result
// is false while nothing has been measured.
func (q *Queue) TimeToEmpty() (time.Duration, bool) { return q.TimeTo(q.waiting) }

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
