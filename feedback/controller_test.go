package feedback

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func controller(t *testing.T, cfg ControllerConfig) *RateController {
	t.Helper()
	c, err := NewRateController(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Abs(b) }

// TestController has a producer follow events: suggested rates, and levels alone.
func TestController(t *testing.T) {
	c := controller(t, ControllerConfig{Initial: 1000, Floor: 10, Ceiling: 5000})
	for i, s := range []struct {
		e    Event
		rate float64
	}{
		{Event{Level: OK, SuggestedRate: 2000}, 2000},
		{Event{Level: OK, SuggestedRate: 2000, Producers: 4}, 500},
		{Event{Level: OK, SuggestedRate: 90_000}, 5000}, // the ceiling
		{Event{Level: Soft, SuggestedRate: 1}, 10},      // the floor
		{Event{Level: OK, SuggestedRate: 1000}, 1000},
		{Event{Level: OK}, 1050},
		{Event{Level: OK}, 1100},
		{Event{Level: Soft}, 880},
		{Event{Level: Hard}, 440},
		{Event{Level: "catastrophic"}, 220},
	} {
		s.e.CoordinatorID = "a"
		if c.Observe(s.e); !near(c.Rate(), s.rate) {
			t.Fatalf("event %d: %v, want %v", i, c.Rate(), s.rate)
		}
	}
	// The slowest of several governs; one that is lost goes by the configured rate.
	c.Observe(Event{CoordinatorID: "b", Level: OK, SuggestedRate: 100})
	c.Observe(Event{CoordinatorID: "a", Level: OK, SuggestedRate: 4000})
	if c.Rate() != 100 {
		t.Errorf("%v, want that of the slowest, 100", c.Rate())
	}
	if c.Lost("b"); c.Rate() != 100 {
		t.Errorf("%v, want the last of what is lost, 100", c.Rate())
	}
	if c.Forget("b"); c.Rate() != 4000 {
		t.Errorf("%v, want 4000", c.Rate())
	}
	if c.Lost("a"); c.Rate() != 1000 {
		t.Errorf("%v, want no more than the first, 1000", c.Rate())
	}
	other := controller(t, ControllerConfig{Initial: 1000, Lost: 300})
	other.Observe(Event{CoordinatorID: "a", Level: OK, SuggestedRate: 5000})
	if other.Lost("a"); other.Rate() != 300 {
		t.Errorf("%v, want what is configured, 300", other.Rate())
	}
	c.Observe(Event{CoordinatorID: "a", Level: OK, SuggestedRate: 4000})
	if c.Forget("b"); c.Rate() != 4000 {
		t.Errorf("%v, want 4000", c.Rate())
	}
	if c.Forget("a"); c.Rate() != 1000 {
		t.Errorf("%v of no store, want the first, 1000", c.Rate())
	}
}

// TestControllerPauses waits while a store says so, and no longer than it does.
func TestControllerPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, ControllerConfig{Initial: 1000})
		start := time.Now()
		c.Observe(Event{CoordinatorID: "a", Level: Hard, RetryAfterMS: 60_000})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Wait(short, 1); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		go func() {
			time.AfterFunc(10*time.Second, func() { c.Observe(Event{CoordinatorID: "a", Level: Soft, SuggestedRate: 1000}) })
		}()
		if err := c.Wait(t.Context(), 1); err != nil || time.Since(start) < 11*time.Second || time.Since(start) > 12*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		c.Observe(Event{CoordinatorID: "a", Level: Hard, SuggestedRate: 1000, RetryAfterMS: 5000})
		at := time.Now()
		if err := c.Wait(t.Context(), 1); err != nil || time.Since(at) < 5*time.Second || time.Since(at) > 6*time.Second {
			t.Errorf("a pause that nobody ends: after %v, %v", time.Since(at), err)
		}
		c.Observe(Event{CoordinatorID: "a", Level: Hard, SuggestedRate: 1000, RetryAfterMS: math.MaxInt64})
		at = time.Now()
		if err := c.Wait(t.Context(), 1); err != nil || time.Since(at) != 2*time.Minute {
			t.Errorf("a pause of centuries: after %v, %v", time.Since(at), err)
		}
	})
}

// TestControllerHearsWhileItWaits has a wait end sooner when the rate rises, and later when
// a store asks for a pause meanwhile.
func TestControllerHearsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, ControllerConfig{Initial: 10, Burst: time.Minute}) // 600 at once
		begin := time.Now()
		say := func(after time.Duration, e Event) {
			e.CoordinatorID = "a"
			time.AfterFunc(after-time.Since(begin), func() { c.Observe(e) })
		}
		say(10*time.Second, Event{Level: OK, SuggestedRate: 1000}) // of 1,000 there were 700 until then
		if err := c.Wait(t.Context(), 1000); err != nil || (time.Since(begin)-10300*time.Millisecond).Abs() > 200*time.Millisecond {
			t.Errorf("it did not speed up: after %v, %v", time.Since(begin), err)
		}
		say(11*time.Second, Event{Level: Hard, SuggestedRate: 1000, RetryAfterMS: 20_000})
		if err := c.Wait(t.Context(), 1000); err != nil || (time.Since(begin)-31*time.Second).Abs() > 200*time.Millisecond {
			t.Errorf("it did not pause: after %v, %v", time.Since(begin), err)
		}
	})
}

// TestControllerOvertaken has an event that comes after a newer one change nothing, unless
// it is so much older that the store's clock was put back.
func TestControllerOvertaken(t *testing.T) {
	c := controller(t, ControllerConfig{})
	for _, s := range []struct{ ts, suggested, rate float64 }{
		{1000, 500, 500}, {999, 700, 500}, {941, 700, 500}, {1000, 600, 600}, {939, 800, 800}, {940, 900, 900},
	} {
		if c.Observe(Event{CoordinatorID: "a", Level: OK, TS: s.ts, SuggestedRate: s.suggested}); !near(c.Rate(), s.rate) {
			t.Fatalf("at %v: %v, want %v", s.ts, c.Rate(), s.rate)
		}
	}
}

// TestControllerShare has a producer take what it has of all that is submitted, drawn
// towards an equal share: others may follow no feedback, and give nothing of theirs.
func TestControllerShare(t *testing.T) {
	for name, tt := range map[string]struct {
		own, arrival float64 // submitted a second: by itself, and by all
		producers    int
		rate         float64 // of 10,000
	}{
		"half, as it should be":         {1000, 2000, 2, 5000},
		"a tenth of two":                {100, 1000, 2, 1400},  // 0.1×1.15+0.05/2, less than 0.1+0.2×0.4
		"nine tenths of two":            {900, 1000, 2, 8200},  // 0.9-0.2×0.4
		"one of two, and others beside": {500, 10_000, 2, 825}, // 0.05×1.15+0.05/2
		"how many is not known":         {500, 1000, 0, 5755},  // 0.5×1.15+0.0005
		"all of it, and more":           {2000, 1000, 0, 10_000},
		"nothing is submitted":          {0, 0, 4, 2500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := controller(t, ControllerConfig{Initial: 1e6, Burst: time.Second})
				if tt.own > 0 {
					if err := c.Wait(t.Context(), int(tt.own)); err != nil {
						t.Fatal(err)
					}
					<-time.After(time.Second)
				}
				c.Observe(Event{CoordinatorID: "a", Level: OK, SuggestedRate: 10_000, ArrivalRate: tt.arrival, Producers: tt.producers})
				if math.Abs(c.Rate()-tt.rate) > 1 {
					t.Errorf("%v, want %v", c.Rate(), tt.rate)
				}
			})
		})
	}
}

// TestControllerRate lets through what its rate says, also of submits that are larger than
// its burst.
func TestControllerRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := controller(t, ControllerConfig{Initial: 1000, Burst: 100 * time.Millisecond})
		start := time.Now()
		for range 10 {
			if err := c.Wait(t.Context(), 500); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 4900*time.Millisecond || took > 5*time.Second {
			t.Errorf("5,000 at 1,000/s took %v", took)
		}
	})
}

func TestControllerConfig(t *testing.T) {
	_, err := NewRateController(ControllerConfig{Floor: 10, Ceiling: 5, Initial: math.NaN(), Burst: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"the Floor is 10, and the Ceiling 5", "Initial is NaN", "Burst is -1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("no %q in %v", part, err)
		}
	}
}
