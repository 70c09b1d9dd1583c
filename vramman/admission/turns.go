package admission

// This file is about several queues that share slots: whose turn it is when one
// of those becomes free.

// Turns is the order in which queues get a slot that they share: first those
// whose next request is of the highest class; among these, one slot each in
// turn. The zero Turns is usable.
type Turns[T any] struct {
	waiting heap[*Turn[T]]
	last    uint64
}

// Turn is a queue's place in the order. The zero Turn is in none.
type Turn[T any] struct {
	// Of is what the turn is of.
	Of T

	class  int
	number uint64
	at     int
	waits  bool
}

// Wait puts a turn at the end of its class. One that waits already keeps its
// place, and moves only if its class is another now.
func (t *Turns[T]) Wait(x *Turn[T], class int) {
	if x.waits {
		if x.class != class {
			x.class = class
			t.waiting.fix(x.at)
		}
		return
	}
	t.last++
	x.class, x.number, x.waits = class, t.last, true
	t.waiting.push(x)
}

// Next takes out whose turn it is, or returns nil.
func (t *Turns[T]) Next() *Turn[T] {
	if len(t.waiting.items) == 0 {
		return nil
	}
	x := t.waiting.items[0]
	t.waiting.remove(0)
	x.waits = false
	return x
}

// Waiting is how many wait.
func (t *Turns[T]) Waiting() int { return len(t.waiting.items) }

func (x *Turn[T]) before(y *Turn[T]) bool {
	if x.class != y.class {
		return x.class > y.class
	}
	return x.number < y.number
}

func (x *Turn[T]) moved(at int) { x.at = at }
