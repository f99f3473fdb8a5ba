package ingest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// State is that of a coordinator's circuit.
type State int

// The states, with the values that metrics show.
const (
	Closed   State = 0 // writes go through
	Open     State = 1 // the backend is not well: writes wait
	HalfOpen State = 2 // one write probes it
)

// String returns the state's name: closed, open or half_open.
func (s State) String() string { return [...]string{"closed", "open", "half_open"}[s] }

// circuit keeps writes from a backend that is not well. Who waits uses up nothing. In the
// half-open circuit they take turns to probe, so that one write which can never succeed
// does not keep it open for all.
type circuit struct {
	cfg     Circuit
	changed func(from, to State, err error) // called without the lock

	mu        sync.Mutex
	state     State
	failures  int // in a row, while closed
	successes int // ever: whether the backend was well since
	probing   bool
	waiting   []chan bool // what is sent tells whether to probe
	timer     *time.Timer
	since     time.Time // when the first write failed after the last that did not
	err       error     // of the last that failed since
}

// acquire waits until a write may be made, and tells whether it is the probe.
func (c *circuit) acquire(ctx context.Context) (probe bool, err error) {
	c.mu.Lock()
	if c.state == Closed || c.state == HalfOpen && !c.probing {
		c.probing = c.state == HalfOpen
		probe = c.probing
		c.mu.Unlock()
		return probe, nil
	}
	turn := make(chan bool, 1)
	c.waiting = append(c.waiting, turn)
	c.mu.Unlock()
	select {
	case probe = <-turn:
		return probe, nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := slices.Index(c.waiting, turn); at >= 0 {
		c.waiting = slices.Delete(c.waiting, at, at+1)
	} else if <-turn { // it was given the turn just now
		c.nextProbe()
	}
	return false, errAbandoned
}

// verdict is what a write told about the backend.
type verdict int

const (
	answered verdict = iota // it is well: it wrote, or refused these records
	failed                  // it is not
	unknown                 // the write was given up
)

// report tells how a write went that acquire let through. It returns whether writes may
// go on, and how many have succeeded ever.
func (c *circuit) report(probe bool, v verdict, err error) (closed bool, successes int) {
	c.mu.Lock()
	from := c.state
	switch v {
	case answered:
		c.failures, c.since, c.err = 0, time.Time{}, nil
		c.successes++
		if probe {
			c.close()
		}
	case failed:
		if c.failures++; c.since.IsZero() {
			c.since = time.Now()
		}
		c.err = err
		if probe || c.state == Closed && c.failures >= c.cfg.FailureThreshold {
			c.open()
		}
	case unknown:
		if probe {
			c.nextProbe()
		}
	}
	to := c.state
	closed, successes = to == Closed, c.successes
	c.mu.Unlock()
	if from != to {
		c.changed(from, to, err)
	}
	return closed, successes
}

func (c *circuit) open() {
	c.state, c.probing = Open, false
	if c.timer == nil {
		c.timer = time.AfterFunc(c.cfg.HalfOpenAfter, c.halfOpen)
	} else {
		c.timer.Reset(c.cfg.HalfOpenAfter)
	}
}

func (c *circuit) close() {
	c.state, c.probing = Closed, false
	for _, turn := range c.waiting {
		turn <- false
	}
	c.waiting = nil
}

// halfOpen lets one write through, now: the time has come, or the last one, when Stop is
// called.
func (c *circuit) halfOpen() {
	c.mu.Lock()
	opened := c.state == Open
	if opened {
		c.state = HalfOpen
		c.nextProbe()
	}
	err := c.err
	c.mu.Unlock()
	if opened {
		c.changed(Open, HalfOpen, err)
	}
}

// nextProbe gives the probe to who waits longest, or to who comes next.
func (c *circuit) nextProbe() {
	c.probing = len(c.waiting) > 0
	if c.probing {
		c.waiting[0] <- true
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
}

// stop ends the timer.
func (c *circuit) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
}

// current returns the state, for how long no write has succeeded and why.
func (c *circuit) current() (state State, failing time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() {
		failing = time.Since(c.since)
	}
	return c.state, failing, c.err
}
