package ingest

import (
	"fmt"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

// Level tells producers how full a queue is.
type Level = feedback.Level

// The levels.
const (
	LevelOK   = feedback.OK
	LevelSoft = feedback.Soft
	LevelHard = feedback.Hard
)

// monitorEvery is how often rates are measured.
const monitorEvery = 250 * time.Millisecond

// band is what the queue holds while its level stays as it is.
type band struct {
	level                     Level
	recordsFrom, recordsBelow int64
	bytesFrom, bytesBelow     int64
}

func (c *Coordinator[R]) bandOf(l Level) band {
	from, below := c.cfg.Watermarks.Between(l)
	records, bytes := float64(c.records.capacity), float64(c.bytes.capacity)
	return band{l, int64(from * records), int64(below * records), int64(from * bytes), int64(below * bytes)}
}

// left reports that the queue holds more, or less, than its level says. It is called with
// the lock, at every submit.
func (c *Coordinator[R]) left() bool {
	b := &c.band
	return c.records.used >= b.recordsBelow || c.bytes.used >= b.bytesBelow || c.records.used < b.recordsFrom && c.bytes.used < b.bytesFrom
}

// notice has the level be looked at now.
func (c *Coordinator[R]) notice() {
	select {
	case c.noticed <- struct{}{}:
	default:
	}
}

// Feedback is the bus on which the coordinator tells how full its queue is, and at what
// rate it takes more: at every change of level, and four times a second while somebody
// listens.
func (c *Coordinator[R]) Feedback() *feedback.Bus { return c.bus }

// monitor publishes until the coordinator is stopped. It never keeps the lock while it
// does.
func (c *Coordinator[R]) monitor() {
	tick := time.NewTicker(monitorEvery)
	defer tick.Stop()
	defer c.bus.Close()
	var pace feedback.Pace
	var rates feedback.Event
	for {
		measured := false
		select {
		case <-tick.C:
			measured = true
		case <-c.noticed:
		case <-c.quit:
			return
		}
		c.mu.Lock()
		if measured {
			pace.Add(c.sample(), &rates)
		}
		events := c.events(&rates)
		c.mu.Unlock()
		if !measured && len(events) == 1 || c.bus.Listeners() == 0 {
			events = events[:len(events)-1] // the last says nothing new
		}
		for _, e := range events {
			c.bus.Publish(e)
		}
	}
}

// sample is what the pace goes by. It is called with the lock.
func (c *Coordinator[R]) sample() feedback.Sample {
	s := feedback.Sample{Time: time.Now(), Queue: c.records.used, Capacity: c.records.capacity, Write: c.writeTook, Stalled: c.circuit.state != Closed}
	for _, t := range c.tenants {
		l := t.balanced()
		s.Accepted += l.Accepted
		s.Settled += l.Accepted - l.Pending
	}
	// Where bytes are what is short, they are what the rate goes by.
	if used, of := c.bytes.used, c.bytes.capacity; c.records.used > 0 && used*c.records.capacity > c.records.used*of {
		s.Capacity = int64(float64(c.records.used) * float64(of) / float64(used))
	}
	return s
}

// events are one for each change of level since the last time, and one that tells how it
// is. It is called with the lock.
func (c *Coordinator[R]) events(rates *feedback.Event) (events []feedback.Event) {
	utilization := c.utilization()
	now := time.Now()
	for {
		e := feedback.Event{
			CoordinatorID: c.cfg.ID, Kind: c.schema.Kind, QueueSize: c.records.used, Capacity: c.records.capacity, Utilization: utilization,
			Level: c.band.level, Source: "store", SuggestedRate: rates.SuggestedRate, ArrivalRate: rates.ArrivalRate, Producers: c.bus.Producers(),
		}
		e.Stamp(now)
		if c.circuit.state != Closed {
			e.SuggestedRate = 0
			e.RetryAfterMS = max(1, c.circuit.retry.Sub(now).Milliseconds())
			e.Reason = fmt.Sprintf("the backend is not well: %v", c.circuit.err)
		}
		if len(events) > 0 || c.told != c.band.level {
			c.told = c.band.level
			events = append(events, e)
		}
		next := c.cfg.Watermarks.Next(c.band.level, utilization)
		if c.circuit.state != Closed {
			next = c.cfg.Watermarks.Next(c.band.level, 1)
		}
		if next == c.band.level {
			return append(events, e)
		}
		c.band = c.bandOf(next)
	}
}

// utilization is the fuller of records and bytes, from 0 to 1.
func (c *Coordinator[R]) utilization() float64 {
	return max(float64(c.records.used)/float64(c.records.capacity), float64(c.bytes.used)/float64(c.bytes.capacity))
}
