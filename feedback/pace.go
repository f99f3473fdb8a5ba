package feedback

import (
	"math"
	"time"
)

// Pace finds the rate that a queue's producers should have, from what goes in and out of
// it. It belongs to one goroutine.
//
// The rate is what the store takes, and what brings the queue to a quarter of its
// capacity within two seconds: full enough that the store never waits, empty enough for
// bursts. The emptier the queue, the less is known of what more the store would take, and
// the faster the rate grows: by half of what it takes where it is empty.
type Pace struct {
	last              time.Time
	accepted, settled int64
	arrival, drain    average
	began             bool
}

// The queue is brought to so much of its capacity, within so long.
const (
	paceTarget  = 0.25
	paceHorizon = 2.0 // seconds
	paceGrowth  = 1.5 // of what an empty queue drains
	paceLeast   = 0.05
	paceSpan    = time.Second // that rates are averaged over
)

// average is an exponentially weighted moving average of a rate.
type average struct {
	perSecond float64
	known     bool
}

// add takes in n events within a time, over a span.
func (a *average) add(n int64, took, span time.Duration) {
	rate := float64(n) / took.Seconds()
	if !a.known {
		a.perSecond, a.known = rate, true
		return
	}
	weight := 1 - math.Exp(-float64(took)/float64(span))
	a.perSecond += weight * (rate - a.perSecond)
}

// Sample is what is known of a queue at a moment.
type Sample struct {
	Time time.Time
	// Accepted and Settled records, ever.
	Accepted, Settled int64
	// Queue records are queued or being written, of Capacity.
	Queue, Capacity int64
	// Stalled says that nothing is written: the backend is not well.
	Stalled bool
}

// Add takes in a sample, and fills in the rates of an event.
func (p *Pace) Add(s Sample, e *Event) {
	took := s.Time.Sub(p.last)
	if p.began && took > 0 {
		p.arrival.add(s.Accepted-p.accepted, took, paceSpan)
		if !s.Stalled { // what a store takes that takes nothing is not known
			p.drain.add(max(0, s.Settled-p.settled), took, paceSpan/2)
		}
	}
	if !p.began || took > 0 { // a clock that was put back begins anew
		p.began = true
	}
	p.last, p.accepted, p.settled = s.Time, s.Accepted, s.Settled
	e.ArrivalRate = p.arrival.perSecond
	e.SuggestedRate = p.suggest(s)
}

func (p *Pace) suggest(s Sample) float64 {
	if s.Stalled || !p.drain.known {
		return 0
	}
	drain := p.drain.perSecond
	target := paceTarget * float64(s.Capacity)
	rate := drain + (target-float64(s.Queue))/paceHorizon
	if empty := 1 - float64(s.Queue)/target; empty > 0 {
		rate = max(rate, drain*(1+(paceGrowth-1)*empty))
	}
	return max(min(rate, max(drain*paceGrowth, target)), drain*paceLeast)
}
