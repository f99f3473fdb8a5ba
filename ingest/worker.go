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
// nothing is left. No batch ends it.
func (c *Coordinator[R]) worker() {
	b := &batch[R]{}
	c.mu.Lock()
	for {
		if c.over || !c.take(b) {
			if c.over || c.stopping && c.nothingQueued() {
				break
			}
			c.work.Wait()
			continue
		}
		c.held = append(c.held, b)
		c.mu.Unlock()
		b.gather()
		o := c.write(b)
		c.mu.Lock()
		c.held = slices.DeleteFunc(c.held, func(h *batch[R]) bool { return h == b })
		c.settle(b, o)
	}
	c.alive--
	if c.alive == 0 {
		close(c.done)
	}
	c.work.Broadcast()
	c.mu.Unlock()
}

// nothingQueued reports that workers have, at most, what they are writing.
func (c *Coordinator[R]) nothingQueued() bool {
	for _, t := range c.tenants {
		if t.queued > 0 {
			return false
		}
	}
	return true
}

// outcome is what became of a batch.
type outcome struct {
	receipt mds.Receipt
	settled int       // records, from the first, of which it is known
	refused []Refusal // of them; kept as dead letters, or dropped
	unkept  []Refusal // of them; neither, since Stop gave up
}

// write has a batch written, for as long as it takes, until all of it is settled or Stop
// gives up.
func (c *Coordinator[R]) write(b *batch[R]) (o outcome) {
	try := attempts{cfg: c.cfg.Retry}
	for size := len(b.records); o.settled < len(b.records); {
		piece := b.records[o.settled:min(o.settled+size, len(b.records))]
		start := time.Now()
		w := writing[R]{c: c, tenant: b.tenant.Tenant}
		i, err := Isolate(c.writes, piece, w.attempt)
		try.made++
		took := time.Since(start) - w.waited
		o.receipt = o.receipt.Add(i.Receipt)
		for n := range i.Refused {
			i.Refused[n].Index += o.settled
		}
		o.settled += i.Done
		if !c.setAside(b, &o, i.Refused, try.made) {
			return o
		}
		if i.Done > 0 {
			try = attempts{cfg: c.cfg.Retry}
		}
		if err == nil {
			size = min(2*size, len(b.records))
			continue
		}
		f := faultOf(err)
		if f == ended {
			return o
		}
		left := b.records[o.settled:min(o.settled+size, len(b.records))]
		if !try.again(f, w.closed, w.successes, took) {
			gone := make([]Refusal, len(left))
			for n := range gone {
				gone[n] = Refusal{Index: o.settled + n, Err: &ExhaustedError{Attempts: try.made, Err: err}}
			}
			o.settled += len(left)
			if !c.setAside(b, &o, gone, try.made) {
				return o
			}
			try = attempts{cfg: c.cfg.Retry}
			continue
		}
		if f == unwell && try.made > 1 {
			size = max(1, len(left)/2) // a smaller write may be what the backend still takes
		}
		if !c.backOff(&try, w.closed) {
			return o
		}
	}
	return o
}

// backOff waits before the next attempt. Where the circuit is not closed that is what is
// waited for.
func (c *Coordinator[R]) backOff(try *attempts, closed bool) bool {
	c.mu.Lock()
	c.counts.retries++
	c.mu.Unlock()
	if !closed {
		return c.writes.Err() == nil
	}
	pause := try.pause()
	try.spent += pause
	return sleep(c.writes, pause)
}

// writing is one attempt at a piece of a batch, which may take several writes.
type writing[R mds.Record[R]] struct {
	c      *Coordinator[R]
	tenant mds.Tenant

	waited    time.Duration // for the circuit
	closed    bool          // the circuit, after the last write
	successes int           // until then
}

// attempt writes records once, when the circuit lets it.
func (w *writing[R]) attempt(ctx context.Context, records []R) (mds.Receipt, error) {
	start := time.Now()
	probe, err := w.c.circuit.acquire(ctx)
	if err != nil {
		return mds.Receipt{}, err
	}
	begun := time.Now()
	w.waited += begun.Sub(start)
	receipt, err := w.c.call(ctx, w.tenant, records)
	if err != nil && ctx.Err() != nil && faultOf(err) != refused {
		err = fmt.Errorf("%w: %w", errAbandoned, err)
	}
	v := answered
	if err != nil {
		switch faultOf(err) {
		case unwell:
			v = failed
		case ended:
			v = unknown
		}
	}
	w.closed, w.successes = w.c.circuit.report(probe, v, err)
	w.c.cfg.Metrics.wrote(len(records), time.Since(begun), err)
	w.c.mu.Lock()
	if err == nil {
		w.c.counts.batches++
	} else {
		w.c.counts.failures++
	}
	w.c.mu.Unlock()
	return receipt, err
}

// call is the writer's call, with its time limit. A panic is an error.
func (c *Coordinator[R]) call(ctx context.Context, tenant mds.Tenant, records []R) (receipt mds.Receipt, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.WriteTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
			c.cfg.Logger.Error("the writer panicked", "coordinator", c.cfg.ID, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	receipt, err = c.writer.WriteBatch(ctx, tenant, records)
	if told := receipt.Written + receipt.Unchanged + receipt.Superseded; err == nil && told < int64(len(records)) {
		receipt.Written += int64(len(records)) - told // a writer that does not count has written all
	}
	return receipt, err
}

// codeOf is a letter's code for what refused its record.
func codeOf(err error) string {
	var panicked *PanicError
	var exhausted *ExhaustedError
	var invalid *mds.InvalidError
	switch {
	case errors.As(err, &exhausted):
		return CodeExhausted
	case errors.As(err, &panicked):
		return CodePanic
	case errors.As(err, &invalid):
		return CodeInvalid
	}
	return CodeRefused
}

// setAside has the records that no write takes kept as dead letters, or drops them. It
// comes back when they are kept, or with false when Stop gives up.
func (c *Coordinator[R]) setAside(b *batch[R], o *outcome, refused []Refusal, attempt int) bool {
	if len(refused) == 0 {
		return true
	}
	if c.cfg.DeadLetters == nil {
		records := make([]R, len(refused))
		for i := range refused {
			records[i] = b.records[refused[i].Index]
		}
		c.cfg.Logger.Error("records that no write takes are dropped: there are no dead letters", "coordinator", c.cfg.ID, "tenant", b.tenant.Slug, "records", len(records), "first", refused[0].Err)
		c.tellDropped(b.tenant.Tenant, records, Undeliverable, refused[0].Err)
	} else if !c.keep(c.letters(b, refused, attempt)) {
		o.unkept = append(o.unkept, refused...)
		return false
	}
	o.refused = append(o.refused, refused...)
	return true
}

func (c *Coordinator[R]) letters(b *batch[R], refused []Refusal, attempt int) []Letter[R] {
	letters := make([]Letter[R], len(refused))
	for i, r := range refused {
		ch, at := b.at(r.Index)
		letters[i] = Letter[R]{
			Tenant: b.tenant.Tenant, Record: b.records[r.Index], Submitted: ch.submitted(at),
			Code: codeOf(r.Err), Reason: r.Err.Error(), Attempts: attempt,
		}
	}
	c.cfg.Logger.Warn("records that no write takes go to the dead letters", "coordinator", c.cfg.ID, "tenant", b.tenant.Slug, "records", len(letters), "first", refused[0].Err)
	return letters
}

// keep has letters kept, for as long as it takes. Meanwhile their series wait, which is
// said loudly.
func (c *Coordinator[R]) keep(letters []Letter[R]) bool {
	try := attempts{cfg: c.cfg.Retry}
	for {
		err := c.keepOnce(letters)
		c.setBlocked(err)
		if err == nil {
			return true
		}
		if !sleep(c.writes, try.pause()) {
			return false
		}
	}
}

func (c *Coordinator[R]) keepOnce(letters []Letter[R]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("keeping dead letters panicked: %v", p)
		}
	}()
	return c.cfg.DeadLetters.Keep(c.writes, letters)
}

func (c *Coordinator[R]) setBlocked(err error) {
	c.mu.Lock()
	was := c.blocked
	c.blocked = err
	c.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		c.cfg.Logger.Error("dead letters cannot be kept: their series wait", "coordinator", c.cfg.ID, "error", err)
	case err == nil && was != nil:
		c.cfg.Logger.Info("dead letters are kept again", "coordinator", c.cfg.ID)
	}
}

func (c *Coordinator[R]) circuitChanged(from, to State, err error) {
	switch to {
	case Open:
		c.cfg.Logger.Error("the circuit is open: the backend is not well, records wait", "coordinator", c.cfg.ID, "from", from.String(), "error", err)
	case Closed:
		c.cfg.Logger.Warn("the circuit is closed: records are written again", "coordinator", c.cfg.ID)
	default:
		c.cfg.Logger.Info("the circuit is half open: one write probes the backend", "coordinator", c.cfg.ID)
	}
}
