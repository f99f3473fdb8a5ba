package ingest

import "slices"

// fifo is a queue. Its zero value is empty.
type fifo[T comparable] struct {
	items []T
	head  int
}

func (q *fifo[T]) len() int { return len(q.items) - q.head }

func (q *fifo[T]) push(item T) {
	if q.head > 32 && q.head > len(q.items)/2 {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// first is the one that was pushed first. There must be one.
func (q *fifo[T]) first() T { return q.items[q.head] }

func (q *fifo[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	if q.head++; q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}

// remove takes out an item, and reports whether it was the first, and whether it was there.
func (q *fifo[T]) remove(item T) (first, found bool) {
	at := slices.Index(q.items[q.head:], item)
	if at < 0 {
		return false, false
	}
	q.items = slices.Delete(q.items, q.head+at, q.head+at+1)
	if q.len() == 0 {
		q.items, q.head = q.items[:0], 0
	}
	return at == 0, true
}
