package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/marketdatastore/mds"
)

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

// keep has the records kept that are set aside, or drops them where nothing keeps any. It
// reports whether it could: if not, the job is to come back.
func (c *Coordinator[R]) keep(j *job[R]) bool {
	if c.cfg.DeadLetters == nil {
		records := make([]R, len(j.setAside))
		for i := range j.setAside {
			records[i] = j.records[j.setAside[i].Index]
		}
		c.cfg.Logger.Error("records that no write takes are dropped: there are no dead letters", "coordinator", c.cfg.ID, "tenant", j.tenant.Slug, "records", len(records), "first", j.setAside[0].Err)
		c.tellDropped(j.tenant.Tenant, records, Undeliverable, j.setAside[0].Err)
	} else {
		if c.writes.Err() != nil {
			return false
		}
		if j.letters == nil {
			j.letters = c.lettersOf(j)
		}
		err := c.keepOnce(j.letters)
		c.setBlocked(j, err)
		if err != nil {
			j.notBefore = time.Now().Add(j.try.pause(&c.cfg.Retry))
			return false
		}
	}
	j.refused = append(j.refused, j.setAside...)
	j.setAside, j.letters = nil, nil
	j.try.pauses = 0
	return true
}

// setAside has records be kept that the next piece has refused, but for those that the store
// keeps itself, which are done with.
func (c *Coordinator[R]) setAside(j *job[R], refused []Refusal) {
	var first error
	n := 0
	for _, r := range refused {
		r.Index += j.settled
		if !r.Kept {
			j.setAside = append(j.setAside, r)
			continue
		}
		if n++; first == nil {
			first = r.Err
		}
		j.refused = append(j.refused, r)
	}
	if n > 0 {
		c.cfg.Logger.Warn("records that no write takes are dead letters of the store", "coordinator", c.cfg.ID, "tenant", j.tenant.Slug, "records", n, "first", first)
	}
}

func (c *Coordinator[R]) lettersOf(j *job[R]) []Letter[R] {
	letters := make([]Letter[R], len(j.setAside))
	for i, r := range j.setAside {
		ch, at := j.at(r.Index)
		letters[i] = Letter[R]{
			Tenant: j.tenant.Tenant, Record: j.records[r.Index], Submitted: ch.submitted(at),
			Code: codeOf(r.Err), Reason: r.Err.Error(), Attempts: r.Writes,
		}
	}
	c.cfg.Logger.Warn("records that no write takes go to the dead letters", "coordinator", c.cfg.ID, "tenant", j.tenant.Slug, "records", len(letters), "first", j.setAside[0].Err)
	return letters
}

func (c *Coordinator[R]) keepOnce(letters []Letter[R]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("keeping dead letters panicked: %v", p)
		}
	}()
	return c.cfg.DeadLetters.Keep(c.writes, letters)
}

// setBlocked notes why a job's letters cannot be kept, or that they are.
func (c *Coordinator[R]) setBlocked(j *job[R], err error) {
	c.mu.Lock()
	was := j.blocked
	j.blocked = err
	c.mu.Unlock()
	switch {
	case c.writes.Err() != nil: // it was given up
	case err != nil && was == nil:
		c.cfg.Logger.Error("dead letters cannot be kept: their series wait", "coordinator", c.cfg.ID, "tenant", j.tenant.Slug, "error", err)
	case err == nil && was != nil:
		c.cfg.Logger.Info("dead letters are kept again", "coordinator", c.cfg.ID, "tenant", j.tenant.Slug)
	}
}

// tellDropped calls the configured function, which may panic at its own cost.
func (c *Coordinator[R]) tellDropped(t mds.Tenant, records []R, reason Reason, err error) {
	if c.cfg.Dropped == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("Dropped panicked", "coordinator", c.cfg.ID, "panic", p)
		}
	}()
	c.cfg.Dropped(t, records, reason, err)
}
