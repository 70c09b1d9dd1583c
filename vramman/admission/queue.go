// Package admission decides who is served next. It keeps the queue in front of
// one model: who is served, who waits, in which order, and how long that will
// take; and the order in which several queues get slots that they share. It is
// pure: no lock, no clock, no goroutine; the caller brings all three.
//
// Requests of a higher class go first. Within a class, clients share the service
// fairly (see [Queue]); the requests of one client are served as they came.
package admission

import (
	"slices"
	"time"
)

// Verdict is what becomes of a request that arrives.
type Verdict int

// The verdicts.
const (
	Admitted Verdict = iota // it has a slot
	Queued                  // it waits; the queue hands its Place back when its turn comes
	Full                    // it may not even wait
)

// Request is what a queue needs to know of a request. The zero Request is one of
// the client with no name, of class 0, and of the least cost.
type Request struct {
	// Client is who sends it. Clients of one class share the service fairly.
	Client string
	// Class is its priority: those of a higher class go first, however long
	// others have waited.
	Class int
	// Cost is the service that it takes at least, in units of one token of a
	// prompt. Less than 1 counts as 1.
	Cost int64
}

// Place is a request's place in a queue. The zero Place is in none.
type Place struct {
	// Turn is closed by the queue's owner when the place has become a slot, or
	// was lost to another (see [Place.Displaced]). It is made only for a place
	// that waits.
	Turn chan struct{}

	client     *client
	next, prev *Place
	cost       int64  // to be charged when its turn comes
	charged    int64  // since then
	arrival    uint64 // among all of its queue
	number     uint64 // among those of its client
	state      state
}

// state is where a place stands.
type state uint8

const (
	outside state = iota
	waiting
	serving
	displaced
)

// Displaced says whether the place was lost to a request of a client who has
// fewer waiting, or of a higher class.
func (p *Place) Displaced() bool { return p.state == displaced }

// Queue bounds how many requests are served at once and how many wait, and says
// whose turn is next: the highest class first, in a class the client who has
// received least, of a client what came first. The zero Queue admits nobody.
//
// Service is counted in units of a prompt's token: a request's cost when it is
// admitted, and whatever [Queue.Charge] adds to it or takes back. The count is a
// virtual time (Sheng et al., "Fairness in Serving Large Language Models", OSDI
// 2024; Goyal et al., "Start-time Fair Queueing", SIGCOMM 1996). Each class has a
// clock V: the count of the client whose turn came last, which was the smallest
// of all that waited; it never goes back. A client that begins to wait, or is
// served at once, is lifted to V: it makes no claim for the time when it wanted
// nothing.
//
// # The bound
//
// Let S be the most requests that are served at once, G the most that one request
// is charged, and R the most that is taken back from one. For any client i at any
// time
//
//	count(i) ≤ V + S·G
//
// since when i's turn came last, or it was lifted last, its count was at most V;
// what was added since was charged to requests being served at that moment, of
// which there are S at most. And for a client j that waits
//
//	count(j) ≥ V − S·R
//
// since when V was last set j's count was not smaller, or j was lifted to V since;
// what was taken back since was charged before, to one of S. So the counts of two
// clients of a class that wait differ by S·(G+R) at most, and the service that
// they receive in any time in which both wait all along, which is by how much
// their counts grow, by 2·S·(G+R) at most.
//
// A client that comes after a pause and waits with one request has, as long as
// nothing is taken back, at most one request of each other client of its class
// before it: the first of those that has not been charged beyond V.
//
// Counts of clients that neither wait nor are served are forgotten when there
// are many such, the oldest first. Such a client begins anew at V, and gains S·G
// at most by it.
type Queue struct {
	slots   int // served at once at most
	max     int // waiting at most
	serving int
	waiting int

	classes  []*class // the highest first
	latest   *client  // whose request came last
	idle     clients  // those who have nothing waiting or served; the oldest first
	arrivals uint64

	refused uint64
	service average
}

// Free says whether a request that comes now is admitted at once.
func (q *Queue) Free() bool { return q.serving < q.slots && q.waiting == 0 }

// Wants says whether somebody waits for whom there is a slot.
func (q *Queue) Wants() bool { return q.waiting > 0 && q.serving < q.slots }

// Enter lets a request in, or has it wait, or refuses it. If it waits in the place
// of another, that one is returned; see [Queue.Wait].
func (q *Queue) Enter(p *Place, r Request) (Verdict, *Place) {
	if !q.Free() {
		return q.Wait(p, r, true)
	}
	c := q.client(r)
	c.lift()
	q.enroll(p, c, r)
	q.serve(p)
	return Admitted, nil
}

// Wait has a request wait, or refuses it. In a full queue it gets the place of the
// newest request of a lower class, else of the client of its own class that has
// most waiting, if that is more than its own client would have: nobody can keep
// others out by filling the queue. That place is returned; its Turn has not come.
//
// A queue that must not grow, though it is not full, is treated as full.
func (q *Queue) Wait(p *Place, r Request, grow bool) (Verdict, *Place) {
	var lost *Place
	if q.waiting >= q.max || !grow {
		if lost = q.rival(r); lost == nil {
			q.refused++
			return Full, nil
		}
		q.unlink(lost)
		q.settle(lost.client)
		lost.client, lost.state = nil, displaced
		q.refused++
	}
	c := q.client(r)
	q.enroll(p, c, r)
	p.state = waiting
	c.append(p)
	q.waiting++
	c.class.waiting++
	if c.waiting == 1 {
		c.lift()
		c.class.join(c)
	} else {
		c.class.longest.fix(c.inLongest)
	}
	return Queued, lost
}

// rival is who would make room for a request in a full queue, or nil.
func (q *Queue) rival(r Request) *Place {
	for _, k := range slices.Backward(q.classes) {
		if k.waiting == 0 {
			continue
		}
		hog := k.longest.items[0].client
		switch {
		case k.rank < r.Class:
			return hog.last
		case k.rank > r.Class:
			return nil
		}
		own := 0
		if c := k.clients[r.Client]; c != nil {
			own = c.waiting
		}
		if hog.waiting <= own+1 {
			return nil
		}
		return hog.last
	}
	return nil
}

// Leave gives the slot of a place back; whose turn is next is got from
// [Queue.Next]. A positive held is how long the slot was used to serve, and is
// remembered.
func (q *Queue) Leave(p *Place, held time.Duration) {
	q.serving--
	if held > 0 {
		q.service.add(held)
	}
	c := p.client
	c.serving--
	p.client, p.state = nil, outside
	q.settle(c)
}

// Charge counts service that a place with a slot has received beyond what it was
// charged so far, or takes some back: never more than it was charged.
func (q *Queue) Charge(p *Place, units int64) {
	units = max(units, -p.charged)
	p.charged += units
	c := p.client
	c.count += units
	if c.waiting > 0 {
		c.class.least.fix(c.inLeast)
	}
}

// Remove takes a place that still waits out of the queue. False means that it
// does not wait: it has a slot, which must be given back by [Queue.Leave], or it
// was displaced and has none.
func (q *Queue) Remove(p *Place) bool {
	if p.state != waiting {
		return false
	}
	c := p.client
	q.unlink(p)
	p.client, p.state = nil, outside
	q.settle(c)
	return true
}

// SetLimits changes both limits. Nobody loses a slot or a place by it; places
// whose turn comes through it are got from [Queue.Next].
func (q *Queue) SetLimits(slots, waiting int) {
	q.slots, q.max = slots, waiting
}

// Next admits whose turn it is, if a slot is free, and returns its place or nil.
func (q *Queue) Next() *Place {
	if !q.Wants() {
		return nil
	}
	p := q.first().least.items[0].first
	q.unlink(p)
	q.serve(p)
	return p
}

// Class is the class of the request whose turn is next. Somebody must wait.
func (q *Queue) Class() int { return q.first().rank }

// first is the highest class of which somebody waits.
func (q *Queue) first() *class {
	for _, k := range q.classes {
		if k.waiting > 0 {
			return k
		}
	}
	return nil
}

// enroll notes whose a place is.
func (q *Queue) enroll(p *Place, c *client, r Request) {
	q.arrivals++
	c.requests++
	p.client, p.cost, p.charged = c, max(1, r.Cost), 0
	p.arrival, p.number = q.arrivals, c.requests
}

// serve gives a place a slot and charges its cost.
func (q *Queue) serve(p *Place) {
	c := p.client
	c.class.clock = max(c.class.clock, c.count)
	q.serving++
	c.serving++
	p.state, p.charged = serving, 0
	q.Charge(p, p.cost)
}

// unlink takes a place out of the line of those that wait.
func (q *Queue) unlink(p *Place) {
	c := p.client
	c.cut(p)
	q.waiting--
	c.class.waiting--
	if c.waiting == 0 {
		c.class.leave(c)
		return
	}
	c.class.least.fix(c.inLeast) // another may be first
	c.class.longest.fix(c.inLongest)
}

// Waiting is how many requests wait.
func (q *Queue) Waiting() int { return q.waiting }

// Serving is how many requests have a slot.
func (q *Queue) Serving() int { return q.serving }

// Slots is how many requests may be served at once.
func (q *Queue) Slots() int { return q.slots }

// Max is how many requests may wait.
func (q *Queue) Max() int { return q.max }

// Refused is how many requests were not let wait, or lost their place to others,
// since the beginning.
func (q *Queue) Refused() uint64 { return q.refused }
