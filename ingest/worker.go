package ingest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// worker writes batches, one after the other, until the coordinator is stopped and
// nothing is left. No batch ends it, and none keeps it: what has to wait is parked.
func (c *Coordinator[R]) worker() {
	c.mu.Lock()
	for {
		j := c.next(time.Now())
		if j == nil {
			if c.over || c.writes.Err() != nil || c.stopping && c.nothingLeft() {
				break
			}
			c.work.Wait()
			continue
		}
		c.running = append(c.running, j)
		j.tenant.writing++
		c.offer(j.tenant) // it may have more
		c.mu.Unlock()
		c.advance(j)
		c.mu.Lock()
		c.running = slices.DeleteFunc(c.running, func(r *job[R]) bool { return r == j })
		j.tenant.writing--
		if j.over() {
			c.settle(j)
		} else {
			c.parked = append(c.parked, j)
			c.offer(j.tenant)
		}
		if c.stopping {
			c.work.Broadcast() // there may be nothing left
		}
	}
	c.alive--
	if c.alive == 0 {
		close(c.done)
	}
	c.work.Broadcast()
	c.mu.Unlock()
}

// nothingLeft reports that workers have, at most, what they are writing.
func (c *Coordinator[R]) nothingLeft() bool {
	if len(c.parked) > 0 || len(c.running) > 0 {
		return false
	}
	for _, t := range c.tenants {
		if t.queued > 0 {
			return false
		}
	}
	return true
}

// next is the job to go on with, nil where there is none now: one that was parked before
// one that is new, but while a circuit is to be probed the other way round, and those that
// were parked in turn, so that one which can never be written does not keep it open. It
// is called with the lock.
func (c *Coordinator[R]) next(now time.Time) *job[R] {
	if c.over || c.writes.Err() != nil {
		return nil
	}
	well := func(j *job[R]) bool { return c.circuit.state == Closed && j.tenant.circuit.state == Closed }
	if j := c.unpark(now, well); j != nil {
		return j
	}
	if len(c.idle) == 0 {
		c.idle = append(c.idle, &job[R]{})
	}
	last := len(c.idle) - 1
	if j := c.idle[last]; c.take(j, now) {
		c.idle = c.idle[:last]
		j.probe = c.begin(j.tenant)
		return j
	}
	// A tenant that has not failed itself probes the backend before the others.
	if j := c.unpark(now, func(j *job[R]) bool { return j.tenant.circuit.state == Closed }); j != nil {
		return j
	}
	if j := c.unpark(now, func(*job[R]) bool { return true }); j != nil {
		return j
	}
	c.wakeAt(now)
	return nil
}

// unpark takes the job that was parked first of those that may go on. What has only its
// letters to be kept need not wait for a circuit.
func (c *Coordinator[R]) unpark(now time.Time, picks func(*job[R]) bool) *job[R] {
	for i, j := range c.parked {
		keeps := len(j.setAside) > 0
		if now.Before(j.notBefore) || !keeps && (!picks(j) || !c.lets(j.tenant, now)) {
			continue
		}
		c.parked = slices.Delete(c.parked, i, i+1)
		if !keeps {
			j.probe = c.begin(j.tenant)
		}
		return j
	}
	return nil
}

// wakeAt has workers woken when something that waits may go on.
func (c *Coordinator[R]) wakeAt(now time.Time) {
	var at time.Time
	soonest := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	waits := func(t *tenant[R]) {
		soonest(t.circuit.retry)
		soonest(c.circuit.retry)
	}
	for _, j := range c.parked {
		if soonest(j.notBefore); len(j.setAside) == 0 {
			waits(j.tenant)
		}
	}
	for _, t := range c.offers.items[c.offers.head:] {
		waits(t)
	}
	switch {
	case at.IsZero():
	case c.wake == nil:
		c.wake = time.AfterFunc(at.Sub(now), func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.work.Broadcast()
		})
	default:
		c.wake.Reset(at.Sub(now))
	}
}

// advance has a job go as far as it goes now.
func (c *Coordinator[R]) advance(j *job[R]) {
	j.gather()
	for begun := len(j.setAside) == 0; ; begun = false {
		if len(j.setAside) > 0 && !c.keep(j) {
			return
		}
		if j.over() || !begun && !c.beginAgain(j) || !c.write(j) {
			return
		}
	}
}

// beginAgain notes that another write of a job begins, and reports whether it may.
func (c *Coordinator[R]) beginAgain(j *job[R]) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.lets(j.tenant, time.Now()) {
		return false
	}
	j.probe = c.begin(j.tenant)
	return true
}

// write writes the next piece of a job. It reports whether the job may go on at once.
func (c *Coordinator[R]) write(j *job[R]) bool {
	start := time.Now()
	w := writing[R]{c: c, j: j}
	i, err := Isolate(c.writes, j.piece(), w.attempt)
	j.try.made++
	j.receipt = j.receipt.Add(i.Receipt)
	c.setAside(j, i.Refused)
	j.settled += i.Done
	if i.Done > 0 {
		j.try = attempts{}
	}
	if err == nil {
		j.size = min(2*j.size, len(j.records))
		return w.closed
	}
	f := faultOf(err)
	if j.doubt = f == ended; j.doubt {
		return false
	}
	c.failed(j, f, err, &w, time.Since(start))
	return len(j.setAside) > 0 // which are kept at once
}

// failed decides how a job goes on whose piece could not be written for now.
func (c *Coordinator[R]) failed(j *job[R], f fault, err error, w *writing[R], took time.Duration) {
	counts := j.try.count(f, w.successes, took)
	left := len(j.piece())
	if j.try.over(&c.cfg.Retry) {
		if left == 1 {
			j.setAside = append(j.setAside, Refusal{Index: j.settled, Writes: j.try.made, Err: &ExhaustedError{Attempts: j.try.made, Err: err}})
			j.settled++
			j.try = attempts{}
			return
		}
		// Some of these can never be written: each half gets one more attempt.
		j.try.used, j.try.spent = c.cfg.Retry.MaxAttempts-1, 0
		j.size = left / 2
	} else if j.try.made > 1 {
		j.size = max(1, left/2) // a smaller write may be what the backend still takes
	}
	c.mu.Lock()
	c.counts.retries++
	c.mu.Unlock()
	if w.closed {
		pause := j.try.pause(&c.cfg.Retry)
		if counts {
			j.try.spent += pause
		}
		j.notBefore = time.Now().Add(pause)
	}
}

// writing is one attempt at a piece of a job, which may take several writes.
type writing[R mds.Record[R]] struct {
	c         *Coordinator[R]
	j         *job[R]
	closed    bool // both circuits, after the last write
	successes int  // of the tenant's writes, until then
}

// attempt writes records once.
func (w *writing[R]) attempt(ctx context.Context, records []R) (mds.Receipt, error) {
	c, t := w.c, w.j.tenant
	if ctx.Err() != nil {
		return mds.Receipt{}, errAbandoned
	}
	begun := time.Now()
	c.mu.Lock()
	w.j.writing, w.j.begun = len(records), begun
	c.mu.Unlock()
	receipt, err := w.call(ctx, records)
	v := answered
	var panicked *PanicError
	switch f := faultOf(err); {
	case err == nil:
	case f == unwell:
		v = failed
	case f == ended || errors.As(err, &panicked):
		v = unknown
	}
	now := time.Now()
	c.cfg.Metrics.wrote(len(records), now.Sub(begun), err)
	c.mu.Lock()
	if err == nil {
		c.counts.writes++
	} else {
		c.counts.failures++
	}
	from, to := c.report(t, w.j.probe, v, err, now)
	if w.j.probe != (probe{}) || from != to {
		c.work.Broadcast() // others may go on, or probe next
	}
	w.j.probe = probe{}
	w.closed, w.successes = c.circuit.state == Closed && t.circuit.state == Closed, t.circuit.successes
	if from != to {
		c.notice()
	}
	w.j.writing = 0
	if took := now.Sub(begun).Seconds(); err == nil && took > 0 {
		if rate := float64(len(records)) / took; c.perSecond == 0 {
			c.perSecond = rate
		} else {
			c.perSecond += (rate - c.perSecond) / 4
		}
	}
	c.mu.Unlock()
	if from != to {
		c.logCircuit(to, err)
	}
	if c.cfg.Committed != nil {
		if stored := storedOf(records, err); len(stored) > 0 {
			c.tellCommitted(t.Tenant, stored, counted(receipt, len(stored)))
		}
	}
	return receipt, err
}

// storedOf is what a write has stored of records.
func storedOf[R any](records []R, err error) (stored []R) {
	if err == nil {
		return records
	}
	from := 0
	named := refusedOf(err, len(records))
	for _, r := range named {
		stored, from = append(stored, records[from:r.Index]...), r.Index+1
	}
	if len(named) > 0 {
		stored = append(stored, records[from:]...)
	}
	return stored
}

// tellCommitted calls the configured function, which may panic at its own cost.
func (c *Coordinator[R]) tellCommitted(t mds.Tenant, records []R, receipt mds.Receipt) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("Committed panicked", "coordinator", c.cfg.ID, "panic", p)
		}
	}()
	c.cfg.Committed(t, records, receipt)
}

// call is the writer's call, with its time limit. A panic is an error.
func (w *writing[R]) call(outer context.Context, records []R) (receipt mds.Receipt, err error) {
	c := w.c
	ctx, cancel := context.WithTimeout(outer, c.cfg.WriteTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p}
			if !w.j.panicked { // once a batch
				w.j.panicked = true
				c.cfg.Logger.Error("the writer panicked", "coordinator", c.cfg.ID, "panic", p, "stack", string(debug.Stack()))
			}
		}
	}()
	receipt, err = c.writer.WriteBatch(ctx, w.j.tenant.Tenant, records)
	switch {
	case err == nil:
		receipt = counted(receipt, len(records))
	case outer.Err() != nil && faultOf(err) != refused, outer.Err() != nil && !classified(err):
		err = fmt.Errorf("%w: %w", errAbandoned, err)
	case ctx.Err() != nil && !classified(err):
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return receipt, err
}

// logCircuit says what the circuit of the backend has become.
func (c *Coordinator[R]) logCircuit(to State, err error) {
	switch to {
	case Open:
		c.cfg.Logger.Error("the circuit is open: the backend is not well, records wait", "coordinator", c.cfg.ID, "error", err)
	case Closed:
		c.cfg.Logger.Warn("the circuit is closed: records are written again", "coordinator", c.cfg.ID)
	}
}
