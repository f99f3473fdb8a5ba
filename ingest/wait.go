package ingest

import (
	"context"
	"time"
)

// waiter is a submit that waits for room. It belongs to the coordinator's lock, but for
// its turn.
type waiter struct {
	tenant any // of what kind of record it is does not matter here
	n      int
	bytes  int64
	since  time.Time
	turn   chan error // nil: it has its room
}

// patience is for how long a submit is passed by others that need less, before they wait
// for it.
const patience = time.Second

// waitForRoom waits until the tenant's submit has its room, in the order in which they
// came. It is called with the lock, and returns with it.
func (c *Coordinator[R]) waitForRoom(ctx context.Context, t *tenant[R], n int, bytes int64) error {
	w := c.waiters.Get().(*waiter)
	w.tenant, w.n, w.bytes, w.since = t, n, bytes, time.Now()
	t.waiting.push(w)
	if !t.inRound {
		t.inRound = true
		c.round.push(t)
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
		if first, waits := t.waiting.remove(w); waits {
			if c.elder == w {
				c.elder = nil
			}
			if first {
				c.admit() // the next one may need less
			}
		} else if given := <-w.turn; given == nil {
			c.release(t, n, bytes)
		}
	}
	w.tenant = nil
	c.waiters.Put(w)
	if err == nil && c.stopping {
		c.release(t, n, bytes)
		err = ErrStopped
	}
	return err
}

// press has all that waits be written where nothing else would make room.
func (c *Coordinator[R]) press() {
	if len(c.running) > 0 || c.offers.len() > 0 {
		return
	}
	for _, t := range c.tenants {
		if t.queued == 0 {
			continue
		}
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
	if c.round.len() == 0 {
		return
	}
	for passed := 0; passed < c.round.len(); {
		t := c.round.pop()
		if t.waiting.len() == 0 {
			t.inRound = false
			continue
		}
		c.round.push(t)
		w := t.waiting.first()
		if !c.fits(t, w.n, w.bytes) {
			if passed++; c.elder == nil && time.Since(w.since) > patience {
				c.elder = w
			}
			continue
		}
		passed = 0
		if c.elder == w {
			c.elder = nil
		}
		t.waiting.pop()
		c.use(t, w.n, w.bytes)
		w.turn <- nil
	}
	if c.round.len() > 0 {
		c.press()
	}
}

// refuse ends all waits.
func (c *Coordinator[R]) refuse(err error) {
	for c.round.len() > 0 {
		t := c.round.pop()
		for t.waiting.len() > 0 {
			t.waiting.pop().turn <- err
		}
		t.inRound = false
	}
	c.elder = nil
}
