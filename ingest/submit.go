package ingest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Submit hands records over, all or none, and returns their receipt. They are copied, but
// not what they point to, which must not change any more. For lack of room it does what
// [Config.Overflow] says; a submit that can never fit fails at once with an error that
// wraps [ErrTooLarge].
//
// With an error nothing was accepted: it is the context's, [ErrFull], [ErrStopped], wraps
// [mds.ErrUnknownTenant] where the tenant has left, or says that the records can never fit.
func (h *Handle[R]) Submit(ctx context.Context, records ...R) (Receipt[R], error) {
	return h.submit(ctx, records, h.c.cfg.Overflow, true)
}

// TrySubmit is Submit without waiting, whatever the overflow policy: for lack of room it
// returns [ErrFull], but where the policy is to drop the oldest, and [ErrQuota] for a
// tenant that is over its rate.
func (h *Handle[R]) TrySubmit(records ...R) (Receipt[R], error) {
	overflow := h.c.cfg.Overflow
	if overflow == Block {
		overflow = Reject
	}
	return h.submit(h.c.writes, records, overflow, false)
}

func (h *Handle[R]) submit(ctx context.Context, records []R, overflow Overflow, wait bool) (Receipt[R], error) {
	c, t := h.c, h.t
	if len(records) == 0 {
		return Receipt[R]{}, nil
	}
	if t.ID == "" {
		return Receipt[R]{}, fmt.Errorf("%w: it has no id", mds.ErrUnknownTenant)
	}
	plan := c.routes.Get().(*routes[R])
	defer c.routes.Put(plan)
	if int64(len(records)) > c.records.capacity {
		return Receipt[R]{}, fmt.Errorf("%d records in one submit to coordinator %s, which has room for %d in all: %w", len(records), c.cfg.ID, c.records.capacity, ErrTooLarge)
	}
	c.router.plan(plan, records)
	if plan.bytes > c.bytes.capacity {
		return Receipt[R]{}, fmt.Errorf("%d bytes in one submit to coordinator %s, which has room for %d in all: %w", plan.bytes, c.cfg.ID, c.bytes.capacity, ErrTooLarge)
	}
	if t.quota != nil {
		if err := h.pay(ctx, len(records), wait); err != nil {
			return Receipt[R]{}, err
		}
	}
	var dropped []R
	c.mu.Lock()
	n, err := c.makeRoom(ctx, h, plan, len(records), overflow, &dropped)
	if err != nil {
		c.mu.Unlock()
		if t.quota != nil {
			t.quota.give(len(records))
		}
		return Receipt[R]{}, err
	}
	t.ledger.Accepted += int64(len(records))
	lost := len(records) - n // the oldest of the submit itself, where there was no other to drop
	if lost > 0 {
		t.ledger.Dropped += int64(lost)
		t.overflow += int64(lost)
		if c.cfg.Dropped != nil {
			dropped = append(dropped, records[:lost]...)
		}
	}
	receipt := c.enqueue(t, plan, records, lost)
	c.mu.Unlock()
	if len(dropped) > 0 {
		c.tellDropped(t.Tenant, dropped, Overflowed, nil)
	}
	return receipt, nil
}

// Owed is how long it takes until the tenant's rate allows for one record more than those
// that wait for it already; 0 where it has no rate.
func (h *Handle[R]) Owed() time.Duration {
	if h.t.quota == nil {
		return 0
	}
	return h.t.quota.owed(time.Now())
}

// Pay waits until the tenant's rate allows for n records that are written without the
// coordinator. Its error is the context's, [ErrStopped], or wraps [mds.ErrUnknownTenant]
// where the tenant has left.
func (h *Handle[R]) Pay(ctx context.Context, n int) error {
	h.c.mu.Lock()
	err := h.current()
	h.c.mu.Unlock()
	if err != nil {
		return err
	}
	if h.t.quota == nil {
		return nil
	}
	return h.pay(ctx, n, true)
}

// pay waits until the tenant's rate allows for so many records.
func (h *Handle[R]) pay(ctx context.Context, n int, wait bool) error {
	for waits := false; ; {
		left := h.t.quota.Take(n, time.Now())
		switch {
		case left == 0:
			return nil
		case !wait:
			return ErrQuota
		case !waits:
			waits = true
			h.t.quota.wait(n)
			defer h.t.quota.wait(-n) // once, though within the loop
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-h.c.refuses:
			timer.Stop()
			return ErrStopped
		}
	}
}

// makeRoom takes the room for a submit of n records, or for the last of them where others
// of it are dropped; it returns for how many. It is called with the lock, which it gives
// up while it waits.
func (c *Coordinator[R]) makeRoom(ctx context.Context, h *Handle[R], plan *routes[R], n int, overflow Overflow, dropped *[]R) (int, error) {
	t := h.t
	if c.stopping {
		return 0, ErrStopped
	}
	if err := h.current(); err != nil {
		return 0, err
	}
	c.join(t)
	switch {
	case t.waiting.len() == 0 && c.fits(t, n, plan.bytes):
	case overflow == Reject:
		return 0, ErrFull
	case overflow == DropOldest:
		for first := 0; !c.fits(t, n, plan.bytes); {
			if c.dropOldest(t, dropped) {
				continue
			}
			plan.bytes -= plan.sizes[first]
			first, n = first+1, n-1
		}
	default:
		err := c.waitForRoom(ctx, t, n, plan.bytes)
		if err == nil {
			if err = h.current(); err != nil { // it has left meanwhile
				c.release(t, n, plan.bytes)
			}
		}
		return n, err
	}
	c.use(t, n, plan.bytes)
	return n, nil
}

func (c *Coordinator[R]) fits(t *tenant[R], n int, bytes int64) bool {
	if n == 0 {
		return true
	}
	if c.elder != nil && (c.elder.tenant != any(t) || t.waiting.len() > 0 && t.waiting.first() != c.elder) {
		// One that has waited long goes first; meanwhile others have their shares only.
		if t.used.records+int64(n) > c.records.share || t.used.bytes+bytes > c.bytes.share {
			return false
		}
	}
	return c.records.fits(t.used.records, int64(n)) && c.bytes.fits(t.used.bytes, bytes)
}

func (c *Coordinator[R]) use(t *tenant[R], n int, bytes int64) {
	c.records.add(&t.used.records, int64(n))
	c.bytes.add(&t.used.bytes, bytes)
	if c.left() {
		c.notice()
	}
}

// enqueue puts records into the tenant's lanes, but the first few.
func (c *Coordinator[R]) enqueue(t *tenant[R], plan *routes[R], records []R, skip int) Receipt[R] {
	now := time.Now()
	c.submits++
	plan.parts = plan.parts[:0]
	if c.cfg.Lanes == 1 && skip == 0 {
		c.enqueueRun(t, plan, records, now)
	} else {
		for i := skip; i < len(records); i++ {
			l := t.lanes[0]
			if c.cfg.Lanes > 1 {
				l = t.lanes[plan.lanes[i]]
			}
			ch := c.open(t, l, 1, plan.sizes[i], now, plan)
			ch.records = append(ch.records, records[i])
			ch.bytes += plan.sizes[i]
		}
	}
	t.queued += int64(len(records) - skip)
	receipt := Receipt[R]{c: c, dropped: skip}
	for i, ch := range plan.parts {
		ch.noteSubmit(now)
		p := part[R]{chunk: ch, from: ch.from, to: len(ch.records)}
		if i == 0 {
			receipt.first = p
			if len(plan.parts) > 1 {
				receipt.more = make([]part[R], 0, len(plan.parts)-1)
			}
		} else {
			receipt.more = append(receipt.more, p)
		}
	}
	c.offer(t)
	if c.round.len() > 0 {
		c.press()
	}
	clear(plan.parts)
	return receipt
}

// enqueueRun puts all records into the tenant's one lane, as many at a time as go into a
// chunk.
func (c *Coordinator[R]) enqueueRun(t *tenant[R], plan *routes[R], records []R, now time.Time) {
	for first := 0; first < len(records); {
		n, bytes := 1, plan.sizes[first]
		ch := c.open(t, t.lanes[0], len(records)-first, bytes, now, plan)
		for first+n < len(records) && len(ch.records)+n < c.cfg.BatchMax && ch.gone+ch.bytes+bytes+plan.sizes[first+n] <= c.cfg.BatchBytes {
			bytes += plan.sizes[first+n]
			n++
		}
		ch.records = append(ch.records, records[first:first+n]...)
		ch.bytes += bytes
		first += n
	}
}

// open returns the chunk of a lane that takes a record of so many bytes, with room for
// more records, and notes that the submit goes into it.
func (c *Coordinator[R]) open(t *tenant[R], l *lane[R], more int, bytes int64, now time.Time, plan *routes[R]) *chunk[R] {
	var ch *chunk[R]
	if n := len(l.chunks); n > 0 {
		ch = l.chunks[n-1]
	}
	if ch == nil || ch.taken || len(ch.records) >= c.cfg.BatchMax || ch.bytes > 0 && ch.gone+ch.bytes+bytes > c.cfg.BatchBytes {
		ch = &chunk[R]{tenant: t, lane: l, opened: now, records: c.buffer(l.size, min(more, c.cfg.BatchMax))}
		l.chunks = append(l.chunks, ch)
		c.noteOpened(ch)
	}
	if len(ch.records) == cap(ch.records) {
		ch.records = slices.Grow(ch.records, min(max(more, len(ch.records)), c.cfg.BatchMax))
	}
	if ch.submit != c.submits {
		ch.submit, ch.from = c.submits, len(ch.records)
		plan.parts = append(plan.parts, ch)
	}
	return ch
}

// dropOldest drops the tenant's oldest record that waits. It reports whether there was
// one.
func (c *Coordinator[R]) dropOldest(t *tenant[R], dropped *[]R) bool {
	var oldest *chunk[R]
	var at time.Time
	for _, l := range t.lanes {
		for _, ch := range l.chunks {
			if ch.taken {
				continue
			}
			if submitted := ch.submitted(ch.head); oldest == nil || submitted.Before(at) {
				oldest, at = ch, submitted
			}
			break
		}
	}
	if oldest == nil {
		return false
	}
	record := &oldest.records[oldest.head]
	size := int64(c.router.size(record))
	if c.cfg.Dropped != nil {
		*dropped = append(*dropped, *record)
	}
	oldest.lose(oldest.head, oldest.head+1, errOverflowed)
	*record = *new(R) // let go what it points to
	oldest.head++
	oldest.bytes -= size
	oldest.gone += size
	c.use(t, -1, -size)
	t.queued--
	t.ledger.Dropped++
	t.overflow++
	if oldest.pending() == 0 {
		l := oldest.lane
		l.chunks = slices.DeleteFunc(l.chunks, func(ch *chunk[R]) bool { return ch == oldest })
		oldest.taken = true
		oldest.settle()
		c.recycle(oldest.records)
		oldest.records, oldest.marks = nil, nil
	}
	return true
}

var errOverflowed = fmt.Errorf("%w: newer records came while the queue was full", ErrDropped)
