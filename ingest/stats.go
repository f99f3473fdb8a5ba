package ingest

import (
	"fmt"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Ledger accounts for every record that was accepted:
//
//	accepted = written + unchanged + superseded + dead-lettered + dropped + pending
//
// It balances whenever it is read. After Stop what is pending is unwritten.
type Ledger struct {
	Accepted int64 `json:"accepted"`
	mds.Receipt
	DeadLettered int64 `json:"dead_lettered"`
	// Elsewhere counts those of the dead letters that the store keeps itself, as a server
	// does; see [mds.RefusedRecord].
	Elsewhere int64 `json:"dead_lettered_elsewhere,omitempty"`
	Dropped   int64 `json:"dropped"`
	// Pending records are queued or being written.
	Pending int64 `json:"pending"`
}

// add returns the sum of two ledgers.
func (l *Ledger) add(o Ledger) Ledger {
	return Ledger{
		Accepted: l.Accepted + o.Accepted, Receipt: l.Add(o.Receipt),
		DeadLettered: l.DeadLettered + o.DeadLettered, Elsewhere: l.Elsewhere + o.Elsewhere, Dropped: l.Dropped + o.Dropped, Pending: l.Pending + o.Pending,
	}
}

// Stats are a coordinator's figures at one moment.
type Stats struct {
	ID string `json:"coordinator_id"`
	Ledger
	// Overflowed records are those of the dropped that made room for newer ones.
	Overflowed int64 `json:"overflowed"`

	// Records and Bytes are queued or being written, of the capacity; InFlight records
	// and bytes are those being written.
	Records       int64 `json:"records"`
	Bytes         int64 `json:"bytes"`
	Capacity      int64 `json:"capacity"`
	CapacityBytes int64 `json:"capacity_bytes"`
	InFlight      int64 `json:"in_flight"`
	InFlightBytes int64 `json:"in_flight_bytes"`
	// Utilization is the fuller of records and bytes, from 0 to 1.
	Utilization float64 `json:"utilization"`
	Level       Level   `json:"level"`
	// OldestAge is that of the record that waits longest, 0 where none does.
	OldestAge time.Duration `json:"oldest_age"`

	// Circuit is the state of the circuit. Failing is for how long the backend has not
	// been well, since the first write that failed after the last that did not, and
	// Failure the last of these; 0 and nil while it is well.
	Circuit State         `json:"circuit"`
	Failing time.Duration `json:"failing"`
	Failure error         `json:"-"`
	// Blocked is why dead letters cannot be kept, nil where they can.
	Blocked error `json:"-"`

	// Batches are writes that succeeded, Failures those that failed, and Retries are
	// attempts made again.
	Batches  int64 `json:"batches"`
	Failures int64 `json:"failures"`
	Retries  int64 `json:"retries"`
	// Workers are alive, and Waiting submits wait for room.
	Workers int  `json:"workers"`
	Waiting int  `json:"waiting"`
	Stopped bool `json:"stopped"`
}

// Stats returns the figures of all tenants.
func (c *Coordinator[R]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	circuit := c.circuit.state
	s := Stats{
		ID: c.cfg.ID, Records: c.records.used, Bytes: c.bytes.used, Capacity: c.records.capacity, CapacityBytes: c.bytes.capacity,
		InFlight: c.inFlight.records, InFlightBytes: c.inFlight.bytes,
		Circuit: circuit, Failure: c.circuit.err,
		Batches: c.counts.writes, Failures: c.counts.failures, Retries: c.counts.retries,
		Workers: c.alive, Stopped: c.stopping,
	}
	if since := c.circuit.since; !since.IsZero() {
		s.Failing = time.Since(since)
	}
	for _, j := range slices.Concat(c.parked, c.running) {
		if j.blocked != nil {
			s.Blocked = j.blocked
		}
	}
	var oldest time.Time
	for _, t := range c.tenants {
		s.Ledger = s.add(t.balanced())
		s.Overflowed += t.overflow
		s.Waiting += t.waiting.len()
		for _, l := range t.lanes {
			if len(l.chunks) > 0 && (oldest.IsZero() || l.chunks[0].opened.Before(oldest)) {
				oldest = l.chunks[0].opened
			}
		}
	}
	if !oldest.IsZero() {
		s.OldestAge = time.Since(oldest)
	}
	s.Utilization, s.Level = c.utilization(), c.band.level
	return s
}

// balanced is the ledger with what is pending.
func (t *tenant[R]) balanced() Ledger {
	l := t.ledger
	l.Pending = l.Accepted - l.Written - l.Unchanged - l.Superseded - l.DeadLettered - l.Dropped
	return l
}

// Ledger returns the tenant's.
func (h *Handle[R]) Ledger() Ledger {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	return h.t.balanced()
}

// Ledgers returns the ledger of each tenant that has submitted anything, in order of
// their slugs.
func (c *Coordinator[R]) Ledgers() []TenantLedger {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []TenantLedger
	for _, t := range c.sorted() {
		list = append(list, TenantLedger{Tenant: t.Tenant, Ledger: t.balanced()})
	}
	return slices.DeleteFunc(list, func(l TenantLedger) bool { return l.Accepted == 0 })
}

// TenantLedger is the ledger of one tenant.
type TenantLedger struct {
	Tenant mds.Tenant
	Ledger
}

// Health is the state of a component.
type Health string

// The states of components.
const (
	Healthy   Health = "healthy"
	Degraded  Health = "degraded"  // it works, not as it should
	Unhealthy Health = "unhealthy" // it does not
)

// Component is a part of a coordinator, with its state.
type Component struct {
	Name  string `json:"name"`
	State Health `json:"state"`
	// Reason is why it is not healthy, in a sentence.
	Reason string `json:"reason,omitempty"`
}

// Health returns the states of the queue, the circuit, the workers and the dead letters.
func (c *Coordinator[R]) Health() []Component {
	s := c.Stats()
	queue, circuit := Component{Name: "queue", State: Healthy}, Component{Name: "circuit", State: Healthy}
	workers, letters := Component{Name: "workers", State: Healthy}, Component{Name: "dead_letters", State: Healthy}
	if s.Level == LevelHard && s.Circuit == Closed {
		queue.State, queue.Reason = Degraded, "the queue is nearly full"
	}
	if s.Stopped {
		queue.State, queue.Reason = Unhealthy, ErrStopped.Error()
	}
	if s.Circuit != Closed {
		circuit.State, circuit.Reason = Unhealthy, "the backend is not well"
		if s.Failure != nil {
			circuit.Reason = s.Failure.Error()
		}
	}
	if s.Workers < c.cfg.Workers && !s.Stopped {
		workers.State, workers.Reason = Degraded, "workers have ended"
	}
	if s.Blocked != nil {
		letters.State, letters.Reason = Unhealthy, s.Blocked.Error()
	}
	if c.cfg.DeadLetters == nil && s.Dropped > s.Overflowed {
		letters.State, letters.Reason = Degraded, fmt.Sprintf("%d records that no write takes are lost: there are no dead letters", s.Dropped-s.Overflowed)
	}
	return []Component{queue, circuit, workers, letters}
}
