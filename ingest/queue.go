package ingest

import (
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// chunk is a run of records of one lane, in the order of their submits. It is written as
// a whole. All of it belongs to the coordinator's lock, but the records while they are
// being written, which belong to the worker.
type chunk[R any] struct {
	tenant  *tenant[R]
	lane    *lane[R]
	records []R
	head    int   // those before were dropped
	bytes   int64 // of those that were not
	gone    int64 // bytes of those that were
	opened  time.Time
	marks   []mark
	due     bool // it is to be written, however small
	taken   bool // by a worker
	submit  uint64
	from    int // where that submit's records begin

	settled bool
	done    chan struct{} // made when somebody waits
	lost    []loss        // records that were not committed
	refused []refusal[R]  // of them, by the store
}

// mark says when the records before end, and after the mark before, were submitted.
type mark struct {
	end int
	at  time.Time
}

// loss is what became of records that were not committed.
type loss struct {
	from, to int
	err      error // wraps ErrDropped, ErrDeadLettered or ErrUnwritten
}

// refusal is a record of a chunk that the store refuses.
type refusal[R any] struct {
	at int
	Refused[R]
}

// pending is how many records are neither settled nor dropped.
func (c *chunk[R]) pending() int { return len(c.records) - c.head }

// submitted is when record i was submitted, to a millisecond.
func (c *chunk[R]) submitted(i int) time.Time {
	at, _ := slices.BinarySearchFunc(c.marks, i, func(m mark, i int) int {
		if m.end <= i {
			return -1
		}
		return 1
	})
	return c.marks[min(at, len(c.marks)-1)].at
}

// noteSubmit marks the time of what was appended. Submits within a millisecond share a
// mark.
func (c *chunk[R]) noteSubmit(now time.Time) {
	if n := len(c.marks); n > 0 && now.Sub(c.marks[n-1].at) < time.Millisecond {
		c.marks[n-1].end = len(c.records)
		return
	}
	c.marks = append(c.marks, mark{end: len(c.records), at: now})
}

// settle makes known what became of the records.
func (c *chunk[R]) settle() {
	c.settled = true
	if c.done != nil {
		close(c.done)
	}
}

// wait returns what is closed when the chunk is settled.
func (c *chunk[R]) wait() <-chan struct{} {
	if c.done == nil {
		c.done = make(chan struct{})
		if c.settled {
			close(c.done)
		}
	}
	return c.done
}

// lose notes that records were not committed.
func (c *chunk[R]) lose(from, to int, err error) {
	if n := len(c.lost); n > 0 && c.lost[n-1].to == from && c.lost[n-1].err == err { //nolint:errorlint // the very same
		c.lost[n-1].to = to
		return
	}
	c.lost = append(c.lost, loss{from, to, err})
}

// lane has the chunks of some series of a tenant, which are written one after the other.
type lane[R any] struct {
	chunks []*chunk[R] // the first may be being written
	busy   bool        // it is
	size   int         // of the chunk before: what to make room for
}

// next is the chunk that is to be written next, nil where none is to be.
func (l *lane[R]) next() *chunk[R] {
	if l.busy || len(l.chunks) == 0 {
		return nil
	}
	return l.chunks[0]
}

// tenant has the queue of one tenant.
type tenant[R any] struct {
	mds.Tenant
	term     int // grows when it leaves, which ends the handles of before
	lanes    []*lane[R]
	used     load
	joined   bool  // it has submitted something, and so has a share
	queued   int64 // records of it that no job has
	writing  int   // jobs that workers have
	offered  bool  // it is in the coordinator's list
	waiting  fifo[*waiter]
	inRound  bool // it is in the coordinator's list of those with waiters
	ledger   Ledger
	overflow int64 // of the dropped, those by overflow
	quota    *Quota
	circuit  circuit
}

// ready reports whether a chunk is worth a transaction: it is large enough or old enough.
func (c *Coordinator[R]) ready(ch *chunk[R]) bool {
	return ch != nil && (ch.due || c.stopping || ch.pending() >= c.cfg.BatchSize || ch.bytes >= c.cfg.BatchBytes || len(ch.lane.chunks) > 1)
}

// offer puts a tenant on the list of those whose turn it is in turn, and wakes a worker,
// where it has a chunk to be written and may have another one written.
func (c *Coordinator[R]) offer(t *tenant[R]) {
	if t.offered || t.writing >= c.most() {
		return
	}
	for _, l := range t.lanes {
		if c.ready(l.next()) {
			t.offered = true
			c.offers.push(t)
			c.work.Signal()
			return
		}
	}
}

// most is how many batches of one tenant are written at once: where there are others, one
// worker is left to them.
func (c *Coordinator[R]) most() int {
	if c.records.users > 1 {
		return max(1, c.cfg.Workers-1)
	}
	return c.cfg.Workers
}

// take fills a job with what is to be written next: of the tenant whose turn it is, the
// lane that waits longest, and with it the small ones. It reports whether there was any.
func (c *Coordinator[R]) take(j *job[R], now time.Time) bool {
	for range c.offers.len() {
		t := c.offers.pop()
		if t.writing >= c.most() {
			t.offered = false // it is offered again when a job of it is done
			continue
		}
		if !c.lets(t, now) {
			c.offers.push(t)
			continue
		}
		t.offered = false
		oldest := c.oldest(t)
		if oldest == nil {
			continue
		}
		j.tenant, j.chunks, j.bytes = t, append(j.chunks, oldest), oldest.bytes
		n := oldest.pending()
		for _, l := range t.lanes {
			ch := l.next()
			if ch == nil || ch == oldest || n >= c.cfg.BatchSize || ch.pending() >= c.cfg.BatchSize || n+ch.pending() > c.cfg.BatchMax || j.bytes+ch.bytes > c.cfg.BatchBytes {
				continue
			}
			j.chunks = append(j.chunks, ch)
			j.bytes += ch.bytes
			n += ch.pending()
		}
		for _, ch := range j.chunks {
			ch.taken, ch.lane.busy = true, true
		}
		t.queued -= int64(n)
		c.inFlight.records += int64(n)
		c.inFlight.bytes += j.bytes
		return true
	}
	return false
}

// oldest is the chunk of a tenant that is to be written next, nil where there is none.
func (c *Coordinator[R]) oldest(t *tenant[R]) (oldest *chunk[R]) {
	for _, l := range t.lanes {
		if ch := l.next(); c.ready(ch) && (oldest == nil || ch.opened.Before(oldest.opened)) {
			oldest = ch
		}
	}
	return oldest
}
