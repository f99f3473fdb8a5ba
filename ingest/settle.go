package ingest

import (
	"fmt"
	"slices"
)

// remains are records that were not written before Stop's time was up.
type remains[R any] struct {
	tenant  *tenant[R]
	records []R
}

// settle books what became of a batch, and gives back its room and its lanes. It is
// called with the lock.
func (c *Coordinator[R]) settle(b *batch[R], o outcome) {
	t := b.tenant
	lost := int64(len(o.refused))
	if c.cfg.DeadLetters != nil {
		t.ledger.DeadLettered += lost
	} else {
		t.ledger.Dropped += lost
	}
	t.ledger.Receipt = t.ledger.Add(o.receipt)
	if !c.over { // or Stop has told already
		c.loseRefused(b, o)
		c.loseUnwritten(b, o)
	}
	whole := o.settled == len(b.records) && len(o.unkept) == 0 && !c.over
	for _, ch := range b.chunks {
		n := ch.pending()
		c.inFlight.records -= int64(n)
		c.inFlight.bytes -= ch.bytes
		c.use(t, -n, -ch.bytes)
		l := ch.lane
		l.chunks = slices.Delete(l.chunks, 0, 1)
		l.busy, l.size = false, len(ch.records)
		if !ch.settled {
			ch.settle()
		}
		if whole {
			c.recycle(ch.records)
		}
		ch.records, ch.marks = nil, nil
	}
	if len(b.chunks) > 1 && !c.router.plain {
		clear(b.memory)
	}
	b.records = nil
	t.writing--
	c.offer(t)
	c.admit()
	if c.stopping {
		c.work.Broadcast() // there may be nothing left
	}
}

// loseRefused tells the chunks of records that no write takes.
func (c *Coordinator[R]) loseRefused(b *batch[R], o outcome) {
	what := ErrDeadLettered
	if c.cfg.DeadLetters == nil {
		what = ErrDropped
	}
	for _, r := range o.refused {
		ch, at := b.at(r.Index)
		ch.lose(at, at+1, fmt.Errorf("%w: %w", what, r.Err))
	}
}

// loseUnwritten tells the chunks of records that Stop left no time for, and keeps them to
// be named.
func (c *Coordinator[R]) loseUnwritten(b *batch[R], o outcome) {
	left := remains[R]{tenant: b.tenant}
	for _, r := range o.unkept {
		ch, at := b.at(r.Index)
		ch.lose(at, at+1, ErrUnwritten)
		left.records = append(left.records, b.records[r.Index])
	}
	for i := o.settled; i < len(b.records); i++ {
		ch, at := b.at(i)
		ch.lose(at, at+1, ErrUnwritten)
	}
	left.records = append(left.records, b.records[o.settled:]...)
	if len(left.records) > 0 {
		c.left = append(c.left, left)
	}
}

// buffer returns memory for n records or more.
func (c *Coordinator[R]) buffer(n int) []R {
	best := -1
	for i, s := range c.spare {
		if cap(s) >= n && (best < 0 || cap(s) < cap(c.spare[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]R, 0, n)
	}
	memory := c.spare[best]
	c.spare = slices.Delete(c.spare, best, best+1)
	return memory
}

// recycle keeps memory to be used again, of a few chunks.
func (c *Coordinator[R]) recycle(memory []R) {
	if !c.router.plain {
		clear(memory) // it holds on to texts
	}
	if len(c.spare) >= c.cfg.Workers+c.cfg.Lanes {
		smallest := 0
		for i, s := range c.spare {
			if cap(s) < cap(c.spare[smallest]) {
				smallest = i
			}
		}
		if cap(c.spare[smallest]) >= cap(memory) {
			return
		}
		c.spare = slices.Delete(c.spare, smallest, smallest+1)
	}
	c.spare = append(c.spare, memory[:0])
}
