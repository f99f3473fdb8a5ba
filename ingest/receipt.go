package ingest

import (
	"context"
	"errors"
	"fmt"
)

// Receipt stands for the records of one submit. It is a small value, and costs nothing
// unless it is asked.
type Receipt[R any] struct {
	c       waitable[R]
	dropped int // at once
	first   part[R]
	more    []part[R]
}

// waitable is the coordinator.
type waitable[R any] interface {
	lock()
	unlock()
	offer(t *tenant[R])
}

func (c *Coordinator[R]) lock()   { c.mu.Lock() }
func (c *Coordinator[R]) unlock() { c.mu.Unlock() }

// part is the records of a submit that went into one chunk.
type part[R any] struct {
	chunk    *chunk[R]
	from, to int
}

// Outcome says what became of the records of a submit. They add up to its length.
type Outcome struct {
	// Committed records are in the store: written, unchanged or superseded.
	Committed int64
	// DeadLettered records are refused by every write, and kept.
	DeadLettered int64
	// Dropped records are gone: newer ones took their room, or no write takes them and
	// there are no dead letters.
	Dropped int64
	// Unwritten records were in memory when the coordinator was stopped. Of those in a
	// write that was cut off it is not known whether they were stored.
	Unwritten int64
}

// LostError reports records of a submit that were not committed.
type LostError struct {
	Outcome
	// Err is why, of the first of them: it wraps [ErrDropped], [ErrDeadLettered] or
	// [ErrUnwritten], and the error that refused the record where there is one.
	Err error
}

func (e *LostError) Error() string {
	lost := e.DeadLettered + e.Dropped + e.Unwritten
	return fmt.Sprintf("%d of %d records were not committed: %v", lost, lost+e.Committed, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Wait waits until all records are settled, which takes until their batch is full or
// [Config.FlushInterval] old: keep several receipts open, Flush, or see [Receipt.Hurry]. The
// error is a [*LostError] where some were not committed, or the context's where it ended
// before.
//
// Records are settled when they are committed: an answer that is given to a producer
// after Wait returned nil is never taken back.
func (r *Receipt[R]) Wait(ctx context.Context) (Outcome, error) {
	for p := range r.parts {
		r.c.lock()
		settled := p.chunk.settled
		var done <-chan struct{}
		if !settled {
			done = p.chunk.wait()
		}
		r.c.unlock()
		if settled {
			continue
		}
		select {
		case <-done:
		case <-ctx.Done():
			return Outcome{}, ctx.Err()
		}
	}
	return r.outcome()
}

// Hurry has the records written as soon as a worker is free, however small their batch is
// by then: somebody waits for them.
func (r *Receipt[R]) Hurry() {
	if r.first.chunk == nil {
		return
	}
	r.c.lock()
	defer r.c.unlock()
	for p := range r.parts {
		p.chunk.due = true
	}
	r.c.offer(r.first.chunk.tenant)
}

// Settled returns the outcome if all records are settled, without waiting.
func (r *Receipt[R]) Settled() (o Outcome, settled bool) {
	for p := range r.parts {
		r.c.lock()
		settled := p.chunk.settled
		r.c.unlock()
		if !settled {
			return Outcome{}, false
		}
	}
	o, _ = r.outcome() // what became of them o says
	return o, true
}

// Refused is a record that no write takes, and why.
type Refused[R any] struct {
	Record R
	Err    error
}

// Refused returns the records that the store refused, of those that are settled: they are
// dead letters, or dropped where there are none. They are in no order.
func (r *Receipt[R]) Refused() (list []Refused[R]) {
	for p := range r.parts {
		r.c.lock()
		if p.chunk.settled {
			for i := range p.chunk.refused {
				if at := p.chunk.refused[i].at; at >= p.from && at < p.to {
					list = append(list, p.chunk.refused[i].Refused)
				}
			}
		}
		r.c.unlock()
	}
	return list
}

func (r *Receipt[R]) parts(yield func(*part[R]) bool) {
	if r.first.chunk == nil || !yield(&r.first) {
		return
	}
	for i := range r.more {
		if !yield(&r.more[i]) {
			return
		}
	}
}

// outcome adds up what became of the parts, which are settled.
func (r *Receipt[R]) outcome() (o Outcome, err error) {
	var first error
	if r.dropped > 0 {
		o.Dropped, first = int64(r.dropped), errOverflowed
	}
	for p := range r.parts {
		n := int64(p.to - p.from)
		for _, l := range p.chunk.lost {
			lost := int64(min(l.to, p.to) - max(l.from, p.from))
			if lost <= 0 {
				continue
			}
			n -= lost
			switch {
			case errors.Is(l.err, ErrDeadLettered):
				o.DeadLettered += lost
			case errors.Is(l.err, ErrUnwritten):
				o.Unwritten += lost
			default:
				o.Dropped += lost
			}
			if first == nil {
				first = l.err
			}
		}
		o.Committed += n
	}
	if first != nil {
		return o, &LostError{Outcome: o, Err: first}
	}
	return o, nil
}
