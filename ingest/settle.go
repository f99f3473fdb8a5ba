package ingest

import (
	"fmt"
	"slices"
)

// settle books what became of a job that is over, and gives back its room and its lanes.
// It is called with the lock.
func (c *Coordinator[R]) settle(j *job[R]) {
	t := j.tenant
	c.book(j)
	for _, ch := range j.chunks {
		n := ch.pending()
		c.inFlight.records -= int64(n)
		c.inFlight.bytes -= ch.bytes
		c.use(t, -n, -ch.bytes)
		l := ch.lane
		l.chunks = slices.Delete(l.chunks, 0, 1)
		l.busy, l.size = false, len(ch.records)
		if !c.over { // or Stop has settled it, and named its records
			ch.settle()
			c.recycle(ch.records)
		}
		ch.records, ch.marks = nil, nil
	}
	if len(j.chunks) > 1 && !c.router.plain {
		clear(j.memory)
	}
	clear(j.chunks)
	j.reset()
	if len(c.idle) < c.cfg.Workers {
		c.idle = append(c.idle, j)
	}
	c.offer(t)
	c.admit()
}

// book enters what became of a job into the ledger, and tells the chunks of records that
// were not committed.
func (c *Coordinator[R]) book(j *job[R]) {
	l := &j.tenant.ledger
	l.Receipt = l.Add(j.receipt)
	for _, r := range j.refused {
		what := ErrDeadLettered
		switch {
		case r.Kept:
			l.DeadLettered++
			l.Elsewhere++
		case c.cfg.DeadLetters != nil:
			l.DeadLettered++
		default:
			l.Dropped++
			what = ErrDropped
		}
		if !c.over {
			ch, at := j.at(r.Index)
			ch.lose(at, at+1, fmt.Errorf("%w: %w", what, r.Err))
			ch.refused = append(ch.refused, refusal[R]{at, Refused[R]{j.records[r.Index], r.Err}})
		}
	}
}

// abandon settles a job that Stop left no time for, and returns the records of it that are
// unwritten. It is called with the lock, of a job that no worker has any more.
func (c *Coordinator[R]) abandon(j *job[R]) (unwritten []R) {
	j.gather()
	c.book(j)
	for _, r := range j.setAside {
		ch, at := j.at(r.Index)
		ch.lose(at, at+1, ErrUnwritten)
		unwritten = append(unwritten, j.records[r.Index])
	}
	for i := j.settled; i < len(j.records); i++ {
		ch, at := j.at(i)
		ch.lose(at, at+1, ErrUnwritten)
	}
	for _, ch := range j.chunks {
		ch.lane.chunks = slices.Delete(ch.lane.chunks, 0, 1)
		ch.settle()
	}
	return append(unwritten, j.records[j.settled:]...)
}

// buffer returns memory for so many records if there is some to be used again, and else
// for a few, which grows.
func (c *Coordinator[R]) buffer(hint, few int) []R {
	best := -1
	for i, s := range c.spare {
		if cap(s) >= max(hint, few) && (best < 0 || cap(s) < cap(c.spare[best])) {
			best = i
		}
	}
	if best < 0 {
		return make([]R, 0, few)
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
