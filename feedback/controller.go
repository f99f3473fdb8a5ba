package feedback

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ControllerConfig configures a [RateController]. The zero value is usable.
type ControllerConfig struct {
	// Floor and Ceiling bound the rate, in records a second. Default to 1 and to no bound.
	Floor, Ceiling float64
	// Initial is the rate before the first event. Defaults to 10,000, within the bounds.
	Initial float64
	// Lost is the rate while feedback is lost. Defaults to Initial.
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
	cfg     ControllerConfig
	limiter *rate.Limiter

	mu       sync.Mutex
	stores   map[string]*governor
	own      average // what the producer submits
	taken    int64   // since the last sample
	sampled  time.Time
	resuming chan struct{} // closed when a pause ends
	paused   time.Time     // until when
}

// governor is what one store says.
type governor struct {
	rate   float64
	lost   bool
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
	c := &RateController{cfg: cfg, stores: make(map[string]*governor), sampled: time.Now()}
	c.cfg.Initial = c.bounded(cfg.Initial)
	if c.cfg.Lost == 0 {
		c.cfg.Lost = c.cfg.Initial
	}
	c.limiter = rate.NewLimiter(rate.Limit(c.cfg.Initial), c.burst(c.cfg.Initial))
	return c, nil
}

func (c *RateController) bounded(r float64) float64 {
	return max(c.cfg.Floor, min(r, c.cfg.Ceiling))
}

func (c *RateController) burst(r float64) int {
	return max(1, int(min(r*c.cfg.Burst.Seconds(), 1<<30)))
}

// sampleEvery is how often the producer's own rate is looked at, at most.
const sampleEvery = 100 * time.Millisecond

// toEqual is how far a producer's share is drawn from what it has towards an equal one.
const toEqual = 0.2

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
	g.lost, g.resume = false, time.Time{}
	equal := 1 / float64(max(1, e.Producers))
	switch {
	case e.SuggestedRate > 0:
		share := equal
		if e.ArrivalRate > 0 && c.own.known {
			share = (1-toEqual)*min(1, c.own.perSecond/e.ArrivalRate) + toEqual*equal
		}
		g.rate = share * e.SuggestedRate
	case e.Level == OK:
		g.rate = c.bounded(g.rate) + c.cfg.Initial/20
	case e.Level == Soft:
		g.rate *= 0.8
	default: // also what a newer version may call worse
		g.rate *= 0.5
	}
	g.rate = c.bounded(g.rate)
	if e.Level != OK && e.Level != Soft && e.RetryAfterMS > 0 {
		g.resume = now.Add(e.RetryAfter())
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
		g = &governor{}
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
		if g.lost {
			r = min(r, c.cfg.Lost)
		} else {
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
	c.limiter.SetLimit(rate.Limit(r))
	c.limiter.SetBurst(c.burst(r))
	if !until.Equal(c.paused) {
		c.paused = until
		if c.resuming != nil { // those who wait look again
			close(c.resuming)
			c.resuming = nil
		}
	}
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
func (c *RateController) Rate() float64 { return float64(c.limiter.Limit()) }

// Wait waits until n records may be submitted, or ctx ends.
func (c *RateController) Wait(ctx context.Context, n int) error {
	if err := c.waitPause(ctx); err != nil {
		return err
	}
	for left := n; left > 0; {
		part := min(left, c.limiter.Burst())
		if err := c.limiter.WaitN(ctx, part); err != nil {
			if part > c.limiter.Burst() && ctx.Err() == nil {
				continue // the rate has just become less
			}
			if ctx.Err() == nil {
				err = context.DeadlineExceeded // it would be, before its turn
			}
			return err
		}
		left -= part
	}
	c.mu.Lock()
	c.taken += int64(n)
	c.sample(time.Now())
	c.mu.Unlock()
	return nil
}

// waitPause waits while a store has asked for a pause.
func (c *RateController) waitPause(ctx context.Context) error {
	for {
		c.mu.Lock()
		left := time.Until(c.paused)
		if left > 0 && c.resuming == nil {
			c.resuming = make(chan struct{})
		}
		changed := c.resuming
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
