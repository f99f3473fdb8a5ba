package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

// levels collects the levels that a bus tells of, each once in a row.
func levels(ctx context.Context, bus *feedback.Bus) func() []feedback.Event {
	var mu sync.Mutex
	var seen []feedback.Event
	go bus.Handle(ctx, feedback.Options{Buffer: 1000}, nil, func(e feedback.Event) {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) == 0 || seen[len(seen)-1].Level != e.Level {
			seen = append(seen, e)
		}
	})
	return func() []feedback.Event {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}

func names(events []feedback.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, string(e.Level))
	}
	return strings.Join(out, " ")
}

// TestLevels has the queue fill and empty: every level is told of, up and down, and none
// flutters.
func TestLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{ID: "c1", Capacity: 100, BatchSize: 5, BatchMax: 5, Lanes: 1, Workers: 1, FlushInterval: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := levels(ctx, c.Feedback())
		h := c.For(mds.DefaultTenant())
		steps := []struct {
			submit, drain int
			want          string
		}{
			{45, 0, "ok"},
			{5, 0, "ok soft"},
			{0, 5, "ok soft"},       // 45 are within the margin
			{40, 0, "ok soft hard"}, // 85
			{0, 10, "ok soft hard"}, // 75
			{0, 10, "ok soft hard soft"},
			{0, 30, "ok soft hard soft ok"},
			{60, 0, "ok soft hard soft ok soft hard"}, // 95: through soft at once
			{0, 95, "ok soft hard soft ok soft hard soft ok"},
		}
		n := 0
		for i, s := range steps {
			for range s.submit / 5 {
				submit(t, h, bars("s", n+5)[n:]...)
				n += 5
			}
			for range s.drain / 5 {
				gate <- struct{}{}
			}
			synctest.Wait() // not the next tick
			pass(time.Second)
			if got := names(seen()); got != s.want {
				t.Fatalf("step %d: %s, want %s", i, got, s.want)
			}
			if last, ok := c.Feedback().Last(); !ok || c.Stats().Level != last.Level {
				t.Fatalf("step %d: stats say %s, the bus %+v", i, c.Stats().Level, last)
			}
		}
		e := seen()[2]
		seenFull := e.QueueSize == 80 && e.Utilization == 0.8 || e.QueueSize == 85 && e.Utilization == 0.85 // before the last submit, or after it
		if e.CoordinatorID != "c1" || e.Kind != "bars" || !seenFull || e.Capacity != 100 || e.Source != "store" || e.Time().IsZero() {
			t.Errorf("%+v", e)
		}
		stop(t, c)
		synctest.Wait()
		if _, open := <-c.Feedback().Subscribe(feedback.Options{}).C; open {
			t.Error("the bus is open after the coordinator was stopped")
		}
	})
}

// TestOpenCircuitIsHard has producers be told to stop while the backend is not well.
func TestOpenCircuitIsHard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var isDown atomic.Bool
		isDown.Store(true)
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			if isDown.Load() {
				return down{}
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		seen := levels(ctx, c.Feedback())
		submit(t, c.For(mds.DefaultTenant()), bars("s", 10)...)
		pass(10 * time.Second)
		if got := names(seen()); got != "ok soft hard" {
			t.Fatal(got)
		}
		e, _ := c.Feedback().Last()
		if e.Reason != "the backend is not well" || e.SuggestedRate != 0 || e.RetryAfterMS < 40_000 || e.RetryAfterMS > 60_000 || e.Utilization > 0.1 {
			t.Errorf("%+v", e)
		}
		isDown.Store(false)
		pass(time.Minute)
		if got := names(seen()); got != "ok soft hard soft ok" {
			t.Error(got)
		}
		if e, _ := c.Feedback().Last(); e.Reason != "" || e.RetryAfterMS != 0 {
			t.Errorf("%+v", e)
		}
		stop(t, c)
	})
}

// TestProducersFollow has producers with rate controllers submit to a coordinator whose
// store becomes slow, goes down and comes back: they never wait for room.
func TestProducersFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin := time.Now()
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			perSecond := 20_000.0
			switch since := time.Since(begin); {
			case since > 20*time.Second && since < 40*time.Second:
				perSecond = 6_000
			case since > 60*time.Second && since < 70*time.Second:
				return down{}
			}
			pass(time.Duration(float64(len(batch)) / perSecond * 1e9))
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Lanes: 1, BatchMax: 2000, Capacity: 60_000, Circuit: ingest.Circuit{HalfOpenAfter: 2 * time.Second}})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var waited atomic.Int64
		for p := range 4 {
			r, err := feedback.NewRateController(feedback.ControllerConfig{Initial: 1000})
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() { c.Feedback().Handle(ctx, feedback.Options{Producer: true}, nil, r.Observe) })
			wg.Go(func() {
				h := c.For(mds.DefaultTenant())
				for i := 0; r.Wait(ctx, 50) == nil; i++ {
					start := time.Now()
					if _, err := h.Submit(context.Background(), bars(fmt.Sprint("s", p), 50)...); err != nil {
						t.Error(err)
					}
					waited.Add(int64(time.Since(start)))
				}
			})
		}
		at := func(until time.Duration) int64 {
			pass(until - time.Since(begin))
			return c.Stats().Accepted
		}
		figures := []struct {
			from, to    time.Duration
			least, most float64
		}{
			{10 * time.Second, 20 * time.Second, 18_000, 22_000},
			{27 * time.Second, 40 * time.Second, 5_000, 7_000},
			{47 * time.Second, 60 * time.Second, 18_000, 22_000},
			{80 * time.Second, 95 * time.Second, 17_000, 22_000},
		}
		for _, f := range figures {
			rate := float64(-at(f.from)+at(f.to)) / (f.to - f.from).Seconds()
			if rate < f.least || rate > f.most {
				t.Errorf("from %v to %v %.0f records/s, want %.0f to %.0f", f.from, f.to, rate, f.least, f.most)
			}
		}
		wg.Wait()
		if waited.Load() > 0 {
			t.Errorf("producers waited for room for %v", time.Duration(waited.Load()))
		}
		stop(t, c)
	})
}

// TestLargeBatchesOfASlowStore has batches take many seconds each: the rate that is
// suggested is that of the store all the same.
func TestLargeBatchesOfASlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		begin := time.Now()
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			perSecond := 10_000.0
			if time.Since(begin) > 60*time.Second {
				perSecond = 3_000
			}
			pass(time.Duration(float64(len(batch)) / perSecond * 1e9))
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Lanes: 1, Workers: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		r, err := feedback.NewRateController(feedback.ControllerConfig{Initial: 50_000})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.Feedback().Handle(ctx, feedback.Options{Producer: true}, nil, r.Observe) })
		wg.Go(func() {
			h := c.For(mds.DefaultTenant())
			for r.Wait(ctx, 100) == nil {
				submit(t, h, bars("s", 100)...)
			}
		})
		rate := func(from, to time.Duration) float64 {
			pass(from - time.Since(begin))
			n := c.Stats().Accepted
			pass(to - time.Since(begin))
			return float64(c.Stats().Accepted-n) / (to - from).Seconds()
		}
		for at := 20 * time.Second; at < 30*time.Second; at += time.Second { // second by second
			if got := rate(at, at+time.Second); got < 6_000 || got > 14_000 {
				t.Errorf("in second %v %.0f records of 10,000", at, got)
			}
		}
		for _, f := range []struct {
			from, to    time.Duration
			least, most float64
		}{
			{30 * time.Second, 60 * time.Second, 8_500, 11_500},
			{100 * time.Second, 170 * time.Second, 2_500, 3_500},
		} {
			if got := rate(f.from, f.to); got < f.least || got > f.most {
				t.Errorf("from %v to %v %.0f records/s, want %.0f to %.0f", f.from, f.to, got, f.least, f.most)
			}
		}
		if s := c.Stats(); s.Level == ingest.LevelHard {
			t.Errorf("%+v", s)
		}
		wg.Wait()
		stop(t, c)
	})
}

// TestLastLevel has the last thing that is told be what became of the queue at the end.
func TestLastLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 100, BatchSize: 90})
		seen := levels(t.Context(), c.Feedback())
		synctest.Wait()
		submit(t, c.For(mds.DefaultTenant()), bars("s", 90)...)
		synctest.Wait()
		close(gate)
		stop(t, c)
		synctest.Wait()
		if got := names(seen()); got != "ok soft hard soft ok" {
			t.Error(got)
		}
	})
}

// TestBytesAreShort has the rate that is suggested go by bytes where they are what the queue
// will be short of.
func TestBytesAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			pass(time.Duration(len(batch)) * time.Millisecond)
			return nil
		}
		// Room for about 2,000 bars, of 176 bytes and their texts, by their bytes.
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 1_000_000, CapacityBytes: 400_000, Workers: 1, Lanes: 1, BatchMax: 500})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		levels(ctx, c.Feedback())
		h := c.For(mds.DefaultTenant())
		for i := range 100 { // 1,000 a second, as many as it takes
			submit(t, h, bars(fmt.Sprint("s", i), 100)...)
			pass(100 * time.Millisecond)
		}
		// By records the queue would be empty: 1.5 times what is taken is suggested. By bytes it
		// is at a quarter, or near.
		if e, _ := c.Feedback().Last(); e.SuggestedRate < 600 || e.SuggestedRate > 1400 {
			t.Errorf("%+v", e)
		}
		stop(t, c)
	})
}
