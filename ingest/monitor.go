package ingest

import (
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
	if c.circuit.state != Closed {
		return false // the level is hard, and stays so
	}
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
	var recordBytes float64 // on average
	tell := func(measured bool) {
		c.mu.Lock()
		if measured {
			pace.Add(c.sample(&recordBytes), &rates)
		}
		changes, now := c.events(&rates)
		c.mu.Unlock()
		if len(changes) == 0 && measured {
			changes = append(changes, now)
		}
		for _, e := range changes {
			c.bus.Publish(e)
		}
	}
	tell(true) // so that there is something to tell who comes
	for {
		select {
		case <-tick.C:
			tell(c.bus.Listeners() > 0 || c.cfg.FeedbackMetrics != nil)
		case <-c.noticed:
			tell(false)
		case <-c.quit:
			tell(false)
			return
		}
	}
}

// sample is what the pace goes by. It is called with the lock.
func (c *Coordinator[R]) sample(recordBytes *float64) feedback.Sample {
	s := feedback.Sample{Time: time.Now(), Queue: c.records.used, Capacity: c.records.capacity, Stalled: c.circuit.state != Closed}
	for _, t := range c.tenants {
		l := t.balanced()
		s.Accepted += l.Accepted
		s.Settled += l.Accepted - l.Pending - t.overflow // what made room was not taken by the store
	}
	// A batch settles at once, and may take seconds: what of it is likely to be written
	// counts as settled, or the rate would be one of lumps.
	var done int64
	for _, j := range c.running {
		if j.writing > 0 {
			done += min(int64(j.writing), int64(s.Time.Sub(j.begun).Seconds()*c.perSecond))
		}
	}
	s.Settled += done
	s.Queue = max(0, s.Queue-done)
	// Where bytes are what is short, they are what the rate goes by.
	if c.records.used > 0 {
		size := float64(c.bytes.used) / float64(c.records.used)
		if *recordBytes == 0 {
			*recordBytes = size
		}
		*recordBytes += (size - *recordBytes) / 8
	}
	if *recordBytes > 0 {
		s.Capacity = max(1, min(s.Capacity, int64(float64(c.bytes.capacity) / *recordBytes)))
	}
	return s
}

// events are one for each change of level since the last time, and what there is to tell
// now. It is called with the lock.
func (c *Coordinator[R]) events(rates *feedback.Event) (changes []feedback.Event, now feedback.Event) {
	at, utilization := time.Now(), c.utilization()
	for {
		now = feedback.Event{
			CoordinatorID: c.cfg.ID, Kind: c.schema.Kind, QueueSize: c.records.used, Capacity: c.records.capacity, Utilization: utilization,
			Level: c.band.level, Source: "store", SuggestedRate: rates.SuggestedRate, ArrivalRate: rates.ArrivalRate, Producers: c.bus.Producers(),
		}
		now.Stamp(at)
		full := utilization
		if c.circuit.state != Closed {
			// What the backend said is for the logs: it may name what a producer must not know.
			now.SuggestedRate, now.Reason, full = 0, "the backend is not well", 1
			now.RetryAfterMS = max(time.Second, c.circuit.retry.Sub(at)).Milliseconds()
		}
		if c.told != c.band.level {
			c.told = c.band.level
			changes = append(changes, now)
		}
		next := c.cfg.Watermarks.Next(c.band.level, full)
		if next == c.band.level {
			return changes, now
		}
		c.band = c.bandOf(next)
	}
}

// utilization is the fuller of records and bytes, from 0 to 1.
func (c *Coordinator[R]) utilization() float64 {
	return max(float64(c.records.used)/float64(c.records.capacity), float64(c.bytes.used)/float64(c.bytes.capacity))
}
