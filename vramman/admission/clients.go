package admission

import "slices"

// This file is about clients: what each has received, what it has waiting, and
// for how long it is remembered.

// maxIdle is how many clients are remembered that have nothing waiting or served.
const maxIdle = 256

// class is one priority class of a queue.
type class struct {
	rank    int
	clock   int64 // the virtual time V
	waiting int
	clients map[string]*client
	least   heap[least]   // the clients that wait: who has received least
	longest heap[longest] // the same: who has most waiting
}

// client is one client of one class.
type client struct {
	name  string
	class *class
	count int64 // units of service received; see Queue

	first, last *Place // that wait
	waiting     int
	serving     int
	requests    uint64

	inLeast, inLongest int

	older, newer *client // in the list of the idle
	idle         bool
}

// client finds whose a request is, or makes a new one.
func (q *Queue) client(r Request) *client {
	c := q.latest // most have few clients, and one alone is often the same again
	if c == nil || c.name != r.Client || c.class.rank != r.Class {
		c = q.lookUp(r)
		q.latest = c
	}
	if c.idle {
		q.idle.cut(c)
	}
	return c
}

// lookUp finds whose a request is by name, or makes a new record.
func (q *Queue) lookUp(r Request) *client {
	k := q.class(r.Class)
	c, ok := k.clients[r.Client]
	if ok {
		return c
	}
	if q.idle.count >= maxIdle {
		c = q.idle.oldest
		q.idle.cut(c)
		delete(c.class.clients, c.name)
		*c = client{}
	} else {
		c = new(client)
	}
	c.name, c.class = r.Client, k
	k.clients[r.Client] = c
	return c
}

// class finds the class of a rank, or makes it.
func (q *Queue) class(rank int) *class {
	n := 0
	for ; n < len(q.classes) && q.classes[n].rank >= rank; n++ {
		if q.classes[n].rank == rank {
			return q.classes[n]
		}
	}
	k := &class{rank: rank, clients: make(map[string]*client)}
	q.classes = slices.Insert(q.classes, n, k)
	return k
}

// settle notes that a client has one request less; without any it is idle.
func (q *Queue) settle(c *client) {
	if c.waiting == 0 && c.serving == 0 {
		q.idle.add(c)
	}
}

// lift brings a client that waited for nothing up to the time of its class.
func (c *client) lift() { c.count = max(c.count, c.class.clock) }

// append puts a place at the end of the client's line.
func (c *client) append(p *Place) {
	p.prev, p.next = c.last, nil
	if c.last == nil {
		c.first = p
	} else {
		c.last.next = p
	}
	c.last = p
	c.waiting++
}

// cut takes a place out of the client's line.
func (c *client) cut(p *Place) {
	if p.prev == nil {
		c.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		c.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.next, p.prev = nil, nil
	c.waiting--
}

// join notes that a client waits.
func (k *class) join(c *client) {
	k.least.push(least{c})
	k.longest.push(longest{c})
}

// leave notes that a client waits no longer.
func (k *class) leave(c *client) {
	k.least.remove(c.inLeast)
	k.longest.remove(c.inLongest)
}

// least orders clients by what they have received, then by who came first.
type least struct{ *client }

func (a least) before(b least) bool {
	if a.count != b.count {
		return a.count < b.count
	}
	return a.first.arrival < b.first.arrival
}

func (a least) moved(at int) { a.inLeast = at }

// longest orders clients by what they have waiting, the most first, then by whose
// last came last.
type longest struct{ *client }

func (a longest) before(b longest) bool {
	if a.waiting != b.waiting {
		return a.waiting > b.waiting
	}
	return a.last.arrival > b.last.arrival
}

func (a longest) moved(at int) { a.inLongest = at }

// clients is a list of clients in the order in which they became idle.
type clients struct {
	oldest, newest *client
	count          int
}

func (l *clients) add(c *client) {
	c.idle, c.older, c.newer = true, l.newest, nil
	if l.newest == nil {
		l.oldest = c
	} else {
		l.newest.newer = c
	}
	l.newest = c
	l.count++
}

func (l *clients) cut(c *client) {
	if c.older == nil {
		l.oldest = c.newer
	} else {
		c.older.newer = c.newer
	}
	if c.newer == nil {
		l.newest = c.older
	} else {
		c.newer.older = c.older
	}
	c.idle, c.older, c.newer = false, nil, nil
	l.count--
}
