package ingest

import (
	"context"
	"slices"
)

// waiter is a submit that waits for room. It belongs to the coordinator's lock, but for
// its turn.
type waiter struct {
	n     int
	bytes int64
	turn  chan error // nil: it has its room
}

// waitForRoom waits until the tenant's submit has its room, in the order in which they
// came. It is called with the lock, and returns with it.
func (c *Coordinator[R]) waitForRoom(ctx context.Context, t *tenant[R], n int, bytes int64) error {
	w := c.waiters.Get().(*waiter)
	w.n, w.bytes = n, bytes
	t.waiting = append(t.waiting, w)
	if !t.inRound {
		t.inRound = true
		c.round = append(c.round, t)
	}
	c.press()
	c.mu.Unlock()
	var err error
	select {
	case err = <-w.turn:
		c.mu.Lock()
	case <-ctx.Done():
		c.mu.Lock()
		err = ctx.Err()
		if at := slices.Index(t.waiting, w); at >= 0 {
			t.waiting = slices.Delete(t.waiting, at, at+1)
			c.admit() // the next one may need less
		} else if given := <-w.turn; given == nil {
			c.release(t, n, bytes)
		}
	}
	c.waiters.Put(w)
	if err == nil && c.stopping {
		c.release(t, n, bytes)
		err = ErrStopped
	}
	return err
}

// press has all that waits be written where nothing else would make room.
func (c *Coordinator[R]) press() {
	if c.inFlight.records > 0 || len(c.offers) > 0 {
		return
	}
	for _, t := range c.tenants {
		for _, l := range t.lanes {
			if ch := l.next(); ch != nil {
				ch.due = true
			}
		}
		c.offer(t)
	}
}

// release gives room back, and to those who wait for it.
func (c *Coordinator[R]) release(t *tenant[R], n int, bytes int64) {
	c.use(t, -n, -bytes)
	c.admit()
}

// admit gives room to those who wait for it, a tenant after the other.
func (c *Coordinator[R]) admit() {
	for passed := 0; passed < len(c.round); {
		t := c.round[0]
		c.round = slices.Delete(c.round, 0, 1)
		if len(t.waiting) == 0 {
			t.inRound = false
			continue
		}
		w := t.waiting[0]
		if !c.fits(t, w.n, w.bytes) {
			c.round = append(c.round, t)
			passed++
			continue
		}
		passed = 0
		t.waiting = slices.Delete(t.waiting, 0, 1)
		c.use(t, w.n, w.bytes)
		w.turn <- nil
		c.round = append(c.round, t)
	}
	if len(c.round) > 0 {
		c.press()
	}
}

// refuse ends all waits.
func (c *Coordinator[R]) refuse(err error) {
	for _, t := range c.round {
		for _, w := range t.waiting {
			w.turn <- err
		}
		t.waiting, t.inRound = nil, false
	}
	c.round = nil
}
