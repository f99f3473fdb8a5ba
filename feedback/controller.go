package feedback

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ControllerConfig configures a [RateController]. The zero value is usable.
type ControllerConfig struct {
	// Floor and Ceiling bound the rate, in records a second. Default to 1 and to no bound.
	Floor, Ceiling float64
	// Initial is the rate before the first event. Defaults to 10,000, within the bounds.
	Initial float64
	// Lost is the rate while feedback is lost. Defaults to the last one, or Initial where
	// that is less.
	Lost float64
	// Burst is how much may be submitted at once, in time at the rate. Defaults to 100 ms.
	Burst time.Duration
}

// RateController tells a producer when it may submit. It follows the events of one store
// or several, of which the slowest governs. It is safe for concurrent use.
//
// Where a store suggests a rate, the producer takes its share of it: that of what all
// producers submit, drawn towards an equal one. Where it does not, the rate grows by steps
// while the level is ok, and shrinks by factors while it is soft or hard.
type RateController struct {
	cfg ControllerConfig

	mu      sync.Mutex
	rate    float64
	tokens  float64 // that may be taken; filled up at the rate, to a burst
	filled  time.Time
	paused  time.Time     // until when
	changed chan struct{} // closed when rate or pause change: who waits looks again
	stores  map[string]*governor
	own     average // what the producer submits
	taken   int64   // since the last sample
	sampled time.Time
}

// governor is what one store says.
type governor struct {
	rate   float64
	lost   bool
	ts     float64   // of the last event
	resume time.Time // nothing is submitted before
}

// NewRateController returns a controller.
func NewRateController(cfg ControllerConfig) (*RateController, error) {
	if cfg.Floor == 0 {
		cfg.Floor = 1
	}
	if cfg.Ceiling == 0 {
		cfg.Ceiling = math.MaxFloat64
	}
	if cfg.Burst == 0 {
		cfg.Burst = 100 * time.Millisecond
	}
	var errs []error
	for name, v := range map[string]float64{"Floor": cfg.Floor, "Ceiling": cfg.Ceiling, "Initial": cfg.Initial, "Lost": cfg.Lost, "Burst": float64(cfg.Burst)} {
		if !(v >= 0) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("%s is %v: it must be 0 or more", name, v))
		}
	}
	if cfg.Floor > cfg.Ceiling {
		errs = append(errs, fmt.Errorf("the Floor is %v, and the Ceiling %v", cfg.Floor, cfg.Ceiling))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("rate controller: %w", err)
	}
	if cfg.Initial == 0 {
		cfg.Initial = 10_000
	}
	now := time.Now()
	c := &RateController{cfg: cfg, stores: make(map[string]*governor), sampled: now, filled: now, changed: make(chan struct{})}
	c.cfg.Initial = c.bounded(cfg.Initial)
	c.rate = c.cfg.Initial
	c.tokens = c.burst()
	return c, nil
}

func (c *RateController) bounded(r float64) float64 {
	return max(c.cfg.Floor, min(r, c.cfg.Ceiling))
}

// burst is how much may be submitted at once.
func (c *RateController) burst() float64 { return max(1, c.rate*c.cfg.Burst.Seconds()) }

// sampleEvery is how often the producer's own rate is looked at, at most.
const sampleEvery = 100 * time.Millisecond

// A producer's share is drawn so far from what it has towards an equal one, and grows by so
// much at most, and by so much of an equal share: what producers submit that follow no
// feedback is not there to be shared.
const (
	toEqual   = 0.2
	mostDrawn = 1.15
	leastMore = 0.05
)

// share is that of the suggested rate which is the producer's.
func (c *RateController) share(e *Event) float64 {
	equal := 1 / float64(max(1, e.Producers))
	if e.ArrivalRate <= 0 || !c.own.known {
		return equal
	}
	own := min(1, c.own.perSecond/e.ArrivalRate)
	if e.Producers == 0 {
		return min(1, own*mostDrawn+leastMore/100)
	}
	drawn := own + toEqual*(equal-own)
	return min(drawn, own*mostDrawn+leastMore*equal)
}

// mostPause bounds a pause that an event asks for.
const mostPause = 2 * time.Minute

// older is by how much an event may be older than the one before to be one that was
// overtaken: more than that is a clock that was put back.
const older = 60 // seconds

// Observe takes in an event. It is for handlers of a bus or a client.
func (c *RateController) Observe(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.sample(now)
	g, ok := c.stores[e.CoordinatorID]
	if !ok {
		g = &governor{rate: c.cfg.Initial}
		c.stores[e.CoordinatorID] = g
	}
	if e.TS < g.ts && g.ts-e.TS < older {
		return // it was overtaken
	}
	g.lost, g.ts, g.resume = false, e.TS, time.Time{}
	switch {
	case e.SuggestedRate > 0:
		g.rate = c.share(&e) * e.SuggestedRate
	case e.Level == OK:
		g.rate = c.bounded(g.rate) + c.cfg.Initial/20
	case e.Level == Soft:
		g.rate *= 0.8
	default: // also what a newer version may call worse
		g.rate *= 0.5
	}
	g.rate = c.bounded(g.rate)
	if e.Level != OK && e.Level != Soft && e.RetryAfterMS > 0 {
		g.resume = now.Add(min(e.RetryAfter(), mostPause))
	}
	c.apply()
}

// Lost notes that nothing is heard of a store any more: its producers go on at the
// configured rate.
func (c *RateController) Lost(coordinatorID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, ok := c.stores[coordinatorID]
	if !ok {
		g = &governor{rate: c.cfg.Initial}
		c.stores[coordinatorID] = g
	}
	g.lost, g.resume = true, time.Time{}
	c.apply()
}

// Forget has a store govern no more.
func (c *RateController) Forget(coordinatorID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.stores, coordinatorID)
	c.apply()
}

// apply sets the rate of the slowest store. It is called with the lock.
func (c *RateController) apply() {
	r, until := math.Inf(1), time.Time{}
	for _, g := range c.stores {
		switch {
		case g.lost && c.cfg.Lost > 0:
			r = min(r, c.cfg.Lost)
		case g.lost:
			r = min(r, g.rate, c.cfg.Initial)
		default:
			r = min(r, g.rate)
		}
		if g.resume.After(until) {
			until = g.resume
		}
	}
	if len(c.stores) == 0 {
		r = c.cfg.Initial
	}
	r = c.bounded(r)
	if r == c.rate && until.Equal(c.paused) {
		return
	}
	c.fill(time.Now())
	c.rate, c.paused = r, until
	close(c.changed)
	c.changed = make(chan struct{})
}

// fill adds the tokens that have come since the last time. It is called with the lock.
func (c *RateController) fill(now time.Time) {
	if took := now.Sub(c.filled); took > 0 {
		c.tokens += took.Seconds() * c.rate
	}
	c.tokens, c.filled = min(c.tokens, c.burst()), now
}

// sample takes in what the producer has submitted since the last one. It is called with
// the lock.
func (c *RateController) sample(now time.Time) {
	if took := now.Sub(c.sampled); took >= sampleEvery {
		c.own.add(c.taken, took, paceSpan)
		c.taken, c.sampled = 0, now
	} else if took < 0 { // the clock was put back
		c.sampled = now
	}
}

// Rate returns the rate in force, in records a second.
func (c *RateController) Rate() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rate
}

// Wait waits until n records may be submitted, or ctx ends, whose error it returns.
func (c *RateController) Wait(ctx context.Context, n int) error {
	for left := float64(n); left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		taken, wait, changed := c.take(left)
		if left -= taken; wait == 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// take takes tokens, as many of n as there are at a time, or tells how long to wait unless
// something changes.
func (c *RateController) take(n float64) (taken float64, wait time.Duration, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if left := c.paused.Sub(now); left > 0 {
		return 0, left, c.changed
	}
	c.fill(now)
	part := min(n, c.burst())
	if short := part - c.tokens; short > 1e-9*part {
		return 0, max(time.Microsecond, time.Duration(min(short/c.rate, 3600)*1e9)), c.changed
	}
	c.tokens -= part
	c.taken += int64(part)
	c.sample(now)
	return part, 0, nil
}
