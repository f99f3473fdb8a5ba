package feedback

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// simulated is a store with a queue that takes so many records a second, as a test says.
// Its producers submit through rate controllers that hear of it four times a second.
type simulated struct {
	capacity int64
	takes    func(t time.Duration) float64 // records a second
	start    time.Time

	mu                sync.Mutex
	queue             float64
	accepted, settled float64
	turned            int // submits that found it full
	level             Level
	trace             []point
}

// point is what was seen at a time.
type point struct {
	at          time.Duration
	rate        float64 // of the producers, over the last quarter of a second
	utilization float64
}

func (s *simulated) submit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue+float64(n) > float64(s.capacity) {
		s.turned++
		return
	}
	s.queue += float64(n)
	s.accepted += float64(n)
}

// run lets producers submit for a time.
func (s *simulated) run(t *testing.T, producers int, cfg func(i int) ControllerConfig, length time.Duration) (perProducer []float64) {
	t.Helper()
	s.start, s.level = time.Now(), OK
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	bus := NewBus(nil)
	var wg sync.WaitGroup
	counts := make([]float64, producers)
	for i := range producers {
		c, err := NewRateController(cfg(i))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { bus.Handle(ctx, Options{Producer: true}, nil, c.Observe) })
		wg.Go(func() {
			const slice = 50
			for c.Wait(ctx, slice) == nil {
				s.submit(slice)
				if time.Since(s.start) > length-5*time.Second {
					counts[i] += slice
				}
			}
		})
	}
	wg.Go(func() { s.drain(ctx) })
	wg.Go(func() { s.tell(ctx, bus, producers) })
	wg.Wait()
	bus.Close()
	return counts
}

// drain takes records off the queue.
func (s *simulated) drain(ctx context.Context) {
	const every = 10 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		n := min(s.queue, s.takes(time.Since(s.start))*every.Seconds())
		s.queue -= n
		s.settled += n
		s.mu.Unlock()
	}
}

// tell publishes events.
func (s *simulated) tell(ctx context.Context, bus *Bus, producers int) {
	const every = 250 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	var pace Pace
	var before float64
	marks := Watermarks{}.WithDefaults()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		now := time.Since(s.start)
		e := Event{CoordinatorID: "sim", QueueSize: int64(s.queue), Capacity: s.capacity, Utilization: s.queue / float64(s.capacity), Producers: producers}
		stalled := s.takes(now) == 0
		pace.Add(Sample{Time: time.Now(), Accepted: int64(s.accepted), Settled: int64(s.settled), Queue: int64(s.queue), Capacity: s.capacity, Stalled: stalled}, &e)
		s.trace = append(s.trace, point{now, (s.accepted - before) / every.Seconds(), e.Utilization})
		before = s.accepted
		s.mu.Unlock()
		if s.level = marks.Next(s.level, e.Utilization); stalled {
			s.level, e.RetryAfterMS = Hard, 1000
		}
		e.Level = s.level
		bus.Publish(e)
	}
}

// between is the mean rate and the highest utilization in a span.
func (s *simulated) between(from, to time.Duration) (rate, highest float64) {
	n := 0.0
	for _, p := range s.trace {
		if p.at > from && p.at <= to {
			rate += p.rate
			highest = max(highest, p.utilization)
			n++
		}
	}
	return rate / n, highest
}

func (s *simulated) draw() string {
	var text strings.Builder
	for i, p := range s.trace {
		if i%2 == 1 {
			fmt.Fprintf(&text, "%6s %8.0f records/s %4.0f %%\n", p.at.Round(10*time.Millisecond), p.rate, 100*p.utilization)
		}
	}
	return text.String()
}

const simCapacity = 262_144

// TestStep has a store take 30 % of what it did, and then all of it again.
func TestStep(t *testing.T) {
	for _, full := range []float64{10_000, 50_000, 100_000, 400_000} {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &simulated{capacity: simCapacity, takes: func(t time.Duration) float64 {
					if t >= 20*time.Second && t < 40*time.Second {
						return 0.3 * full
					}
					return full
				}}
				s.run(t, 1, func(int) ControllerConfig { return ControllerConfig{Initial: full / 2} }, time.Minute)
				failed := false
				check := func(what string, ok bool, figures ...any) {
					if !ok {
						failed = true
						t.Errorf(what, figures...)
					}
				}
				if rate, _ := s.between(15*time.Second, 20*time.Second); true {
					check("before the step it submits %.0f of %.0f", math.Abs(rate/full-1) < 0.1, rate, full)
				}
				if rate, _ := s.between(25*time.Second, 40*time.Second); true {
					check("from 5 s after the step on it submits %.0f of %.0f", math.Abs(rate/(0.3*full)-1) < 0.1, rate, 0.3*full)
				}
				if _, highest := s.between(21*time.Second, 40*time.Second); true {
					check("the queue is %.0f %% full", highest < 0.8, 100*highest)
				}
				if rate, _ := s.between(45*time.Second, time.Minute); true {
					check("from 5 s after it is back on it submits %.0f of %.0f", rate > 0.95*full, rate, full)
				}
				check("%d submits found the queue full", s.turned == 0, s.turned)
				if failed {
					t.Log("\n" + s.draw())
				}
			})
		})
	}
}

// TestOutage has a store take nothing for a while: producers pause, and come back.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const full = 50_000.0
		s := &simulated{capacity: simCapacity, takes: func(t time.Duration) float64 {
			if t >= 20*time.Second && t < 30*time.Second {
				return 0
			}
			return full
		}}
		s.run(t, 1, func(int) ControllerConfig { return ControllerConfig{Initial: full / 2} }, time.Minute)
		if rate, highest := s.between(21*time.Second, 30*time.Second); rate > 0.01*full || highest >= 0.8 {
			t.Errorf("%.0f records/s come while it takes none, and the queue is %.0f %% full", rate, 100*highest)
		}
		if rate, _ := s.between(35*time.Second, time.Minute); rate < 0.95*full || s.turned > 0 {
			t.Errorf("%.0f records/s of %.0f, %d turned away\n%s", rate, full, s.turned, s.draw())
		}
	})
}

// TestRampsAndSawteeth has what a store takes go up and down.
func TestRampsAndSawteeth(t *testing.T) {
	for name, takes := range map[string]func(t time.Duration) float64{
		"ramp":     func(t time.Duration) float64 { return 20_000 + 80_000*math.Abs(math.Mod(t.Seconds()/30, 2)-1) },
		"sawtooth": func(t time.Duration) float64 { return 30_000 + 70_000*math.Mod(t.Seconds()/10, 1) },
		"noise":    func(t time.Duration) float64 { return 50_000 * (1 + 0.4*math.Sin(7*t.Seconds())) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &simulated{capacity: simCapacity, takes: takes}
				s.run(t, 1, func(int) ControllerConfig { return ControllerConfig{Initial: 20_000} }, 2*time.Minute)
				var could float64
				for at := 20 * time.Second; at < 2*time.Minute; at += 10 * time.Millisecond {
					could += takes(at) * 0.01
				}
				rate, highest := s.between(20*time.Second, 2*time.Minute)
				if used := rate * 100 / could; used < 0.9 || highest >= 0.8 || s.turned > 0 {
					t.Errorf("%.0f %% of what it takes are used, the queue is %.0f %% full at most, %d turned away\n%s", 100*used, 100*highest, s.turned, s.draw())
				}
			})
		})
	}
}

// TestFairShares has ten producers that begin at odds share a store.
func TestFairShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{capacity: simCapacity, takes: func(time.Duration) float64 { return 100_000 }}
		counts := s.run(t, 10, func(i int) ControllerConfig { return ControllerConfig{Initial: 100 * math.Pow(2, float64(i))} }, time.Minute)
		var sum, squares float64
		for _, n := range counts {
			sum += n
			squares += n * n
		}
		// Jain, Chiu and Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
		if index := sum * sum / (10 * squares); index < 0.95 || s.turned > 0 {
			t.Errorf("an index of %.3f: %v, %d turned away", index, counts, s.turned)
		}
		if rate, highest := s.between(30*time.Second, time.Minute); rate < 95_000 || highest >= 0.8 {
			t.Errorf("%.0f records/s of 100,000, the queue is %.0f %% full\n%s", rate, 100*highest, s.draw())
		}
	})
}
