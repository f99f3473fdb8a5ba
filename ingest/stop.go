package ingest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Flush writes what was submitted before it, however small, and waits until all of that
// is settled, or ctx ends. What becomes of it the receipts tell.
func (c *Coordinator[R]) Flush(ctx context.Context) error {
	c.mu.Lock()
	var open []*chunk[R]
	for _, t := range c.tenants {
		open = c.hurried(t, open)
	}
	c.mu.Unlock()
	return waitFor(ctx, open)
}

// stopGrace is how long Stop waits for writes that it has given up: most tell at once
// what became of them.
const stopGrace = time.Second

// Stop refuses new records, has all that were accepted written, and ends the workers: for
// as long as it takes, if ctx has no end. Stop before the store is closed.
// Circuits that are open are probed at once. When ctx ends before, it gives up the writes
// under way, begins no other, and returns an [*UnwrittenError] with all records that are
// not known to be settled; for a write that does not heed its context it waits no longer
// than a second.
//
// It may be called again, by others, too: each waits for the same end, and the first
// context to end gives up for all. Once it has returned the same comes at once.
func (c *Coordinator[R]) Stop(ctx context.Context) error {
	c.mu.Lock()
	if c.over {
		defer c.mu.Unlock()
		return c.result
	}
	if !c.stopping {
		c.stopping = true
		close(c.refuses)
	}
	c.refuse(ErrStopped)
	for _, t := range c.tenants {
		c.offer(t)
	}
	c.hurry()
	c.work.Broadcast()
	c.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.giveUp()
		c.mu.Lock()
		c.work.Broadcast()
		c.mu.Unlock()
		select {
		case <-c.done:
		case <-time.After(stopGrace):
		}
	}
	c.giveUp()
	return c.unwritten()
}

// Hurry has circuits that are open probed at once, rather than after their time: somebody
// knows that the backend is well again, or has no time to wait.
func (c *Coordinator[R]) Hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurry()
	c.work.Broadcast()
}

// Unwritten are records of one tenant that were accepted and are not known to be settled.
type Unwritten[R any] struct {
	Tenant  mds.Tenant
	Records []R
	// InDoubt tells that a write of them was cut off, or had not ended: they may be stored.
	// Of others some may be, too, where the writer failed after it had stored a part.
	InDoubt bool
}

// UnwrittenError names the records that Stop left no time for. They may be submitted
// again, to another coordinator, in the order in which they stand here: nothing of a
// series was written after them.
type UnwrittenError[R any] struct {
	Coordinator string
	Unwritten   []Unwritten[R]
	// Err is why they could not be written until then, nil where there was just no time.
	Err error
}

// Records counts them.
func (e *UnwrittenError[R]) Records() int {
	n := 0
	for _, u := range e.Unwritten {
		n += len(u.Records)
	}
	return n
}

func (e *UnwrittenError[R]) Error() string {
	var parts []string
	for _, u := range e.Unwritten {
		doubt := ""
		if u.InDoubt {
			doubt = ", which may be stored"
		}
		parts = append(parts, fmt.Sprintf("%d of tenant %s%s", len(u.Records), u.Tenant.Slug, doubt))
	}
	text := fmt.Sprintf("coordinator %s was stopped with %d records unwritten: %s", e.Coordinator, e.Records(), strings.Join(parts, "; "))
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

func (e *UnwrittenError[R]) Unwrap() error { return e.Err }

// unwritten names what is left, once and for all.
func (c *Coordinator[R]) unwritten() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return c.result
	}
	for _, timer := range []*time.Timer{c.timer, c.wake} {
		if timer != nil {
			timer.Stop()
		}
	}
	e := &UnwrittenError[R]{Coordinator: c.cfg.ID, Err: c.circuit.err}
	for _, j := range c.parked {
		if j.blocked != nil {
			e.Err = j.blocked
		}
	}
	for _, t := range c.sorted() {
		e.Unwritten = append(e.Unwritten, c.leave(t)...)
	}
	c.over, c.parked = true, nil
	close(c.quit)
	if len(e.Unwritten) > 0 {
		c.result = e
	}
	c.work.Broadcast()
	return c.result
}

// leave settles what a tenant still has as unwritten: what was begun, then what was not,
// which is the order of each lane.
func (c *Coordinator[R]) leave(t *tenant[R]) []Unwritten[R] {
	doubtful, begun, waiting := Unwritten[R]{Tenant: t.Tenant, InDoubt: true}, Unwritten[R]{Tenant: t.Tenant}, Unwritten[R]{Tenant: t.Tenant}
	for _, j := range c.parked {
		switch {
		case j.tenant != t:
		case j.doubt:
			doubtful.Records = append(doubtful.Records, c.abandon(j)...)
		default:
			begun.Records = append(begun.Records, c.abandon(j)...)
		}
	}
	for _, l := range t.lanes {
		for _, ch := range l.chunks {
			u := &waiting
			if ch.taken { // by a worker whose write has not ended
				u = &doubtful
			}
			u.Records = append(u.Records, ch.records[ch.head:]...)
			ch.lose(ch.head, len(ch.records), ErrUnwritten)
			ch.settle()
		}
	}
	return slices.DeleteFunc([]Unwritten[R]{doubtful, begun, waiting}, func(u Unwritten[R]) bool { return len(u.Records) == 0 })
}

// sorted are the tenants in order of their slugs.
func (c *Coordinator[R]) sorted() []*tenant[R] {
	tenants := make([]*tenant[R], 0, len(c.tenants))
	for _, t := range c.tenants {
		tenants = append(tenants, t)
	}
	slices.SortFunc(tenants, func(a, b *tenant[R]) int { return strings.Compare(a.Slug, b.Slug) })
	return tenants
}
