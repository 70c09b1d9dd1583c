package admission

// This file is about heaps: lists of which the first is always known, and from
// which any can be taken, in a time that grows with the logarithm of their length.

// ranked is what can stand in a heap: it knows who goes first, and is told where
// it stands.
type ranked[T any] interface {
	before(T) bool
	moved(at int)
}

// heap is a heap. The first of items goes first.
type heap[T ranked[T]] struct{ items []T }

func (h *heap[T]) push(x T) {
	h.items = append(h.items, x)
	x.moved(len(h.items) - 1)
	h.up(len(h.items) - 1)
}

// remove takes out what stands at i.
func (h *heap[T]) remove(i int) {
	last := len(h.items) - 1
	if i != last {
		h.swap(i, last)
	}
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i != last {
		h.fix(i)
	}
}

// fix puts what stands at i where it belongs, after its rank has changed.
func (h *heap[T]) fix(i int) {
	if !h.up(i) {
		h.down(i)
	}
}

func (h *heap[T]) up(i int) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			break
		}
		h.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (h *heap[T]) down(i int) {
	for {
		first := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.items); child++ {
			if h.items[child].before(h.items[first]) {
				first = child
			}
		}
		if first == i {
			return
		}
		h.swap(i, first)
		i = first
	}
}

func (h *heap[T]) swap(i, k int) {
	h.items[i], h.items[k] = h.items[k], h.items[i]
	h.items[i].moved(i)
	h.items[k].moved(k)
}
