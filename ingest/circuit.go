package ingest

import "time"

// State is that of a circuit.
type State int

// The states, with the values that metrics show.
const (
	Closed   State = 0 // writes go through
	Open     State = 1 // the backend is not well: writes wait
	HalfOpen State = 2 // one write probes it
)

// String returns the state's name: closed, open or half_open.
func (s State) String() string { return [...]string{"closed", "open", "half_open"}[s] }

// circuit keeps writes from what is not well: there is one for the backend, and one for
// each tenant, whose data may be out of reach by itself. It belongs to the coordinator's
// lock, and never waits: who may not write is parked.
type circuit struct {
	cfg       *Circuit
	state     State
	failures  int // in a row
	successes int // ever
	probing   bool
	retry     time.Time // when it is half open
	since     time.Time // when the first write failed after the last that did not
	err       error     // of the last that failed since
}

// lets reports whether a write may begin.
func (c *circuit) lets(now time.Time) bool {
	switch c.state {
	case Open:
		return !now.Before(c.retry) && !c.probing
	case HalfOpen:
		return !c.probing
	}
	return true
}

// begin notes that a write begins, and reports whether it is a probe.
func (c *circuit) begin() (probe bool) {
	if c.state == Closed {
		return false
	}
	c.state, c.probing = HalfOpen, true
	return true
}

// verdict is what a write told about the backend.
type verdict int

const (
	answered verdict = iota // it is well: it wrote, or refused these records
	failed                  // it is not
	unknown                 // the write was given up, or panicked
)

// report tells how a write went.
func (c *circuit) report(probe bool, v verdict, err error, now time.Time) {
	if probe {
		c.probing = false
	}
	switch v {
	case answered:
		c.successes++
		c.failures, c.since, c.err = 0, time.Time{}, nil
		if probe {
			c.state = Closed
		}
	case failed:
		if c.failures++; c.since.IsZero() {
			c.since = now
		}
		c.err = err
		if probe || c.state == Closed && c.failures >= c.cfg.FailureThreshold {
			c.state, c.retry = Open, now.Add(c.cfg.HalfOpenAfter)
		}
	}
}

// lets reports whether a write of a tenant may begin, as far as the backend and the
// tenant's own data are known to be well. While the backend is not, a tenant that has not
// failed itself may probe it at once: it may be the others' data that is out of reach.
func (c *Coordinator[R]) lets(t *tenant[R], now time.Time) bool {
	if !t.circuit.lets(now) {
		return false
	}
	untried := t.circuit.failures == 0 && c.circuit.state == Open && !c.circuit.probing
	return c.circuit.lets(now) || untried
}

// probe is which circuits a write probes.
type probe struct{ backend, tenant bool }

// begin notes that a write of a tenant begins.
func (c *Coordinator[R]) begin(t *tenant[R]) probe {
	return probe{backend: c.circuit.begin(), tenant: t.circuit.begin()}
}

// report tells both circuits how a write went, and returns what to log. A tenant that is
// known to be out of reach by itself tells nothing about the backend.
func (c *Coordinator[R]) report(t *tenant[R], p probe, v verdict, err error, now time.Time) (from, to State) {
	from = c.circuit.state
	alone := p.tenant && !p.backend
	t.circuit.report(p.tenant, v, err, now)
	if v != failed || !alone {
		c.circuit.report(p.backend, v, err, now)
	}
	return from, c.circuit.state
}

// hurry has open circuits probed at once.
func (c *Coordinator[R]) hurry() {
	c.circuit.retry = time.Time{}
	for _, t := range c.tenants {
		t.circuit.retry = time.Time{}
	}
}
