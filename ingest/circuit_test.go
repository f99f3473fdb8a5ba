package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestDownForAMinute has a store that is down for a minute: what was submitted before and
// meanwhile waits, uses up no attempt, and is stored.
func TestDownForAMinute(t *testing.T) {
	for _, cfg := range []ingest.Config[mds.Bar]{
		{},
		{Workers: 1},
		{Circuit: ingest.Circuit{FailureThreshold: 1000}}, // it never opens
		{Circuit: ingest.Circuit{FailureThreshold: 1000}, Retry: ingest.Retry{MaxElapsed: 200 * time.Millisecond}},
		{Retry: ingest.Retry{MaxElapsed: 200 * time.Millisecond}},
		{Retry: ingest.Retry{MaxAttempts: 1}},
	} {
		t.Run(fmt.Sprintf("%+v %+v", cfg.Circuit, cfg.Retry), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				var isDown atomic.Bool
				isDown.Store(true)
				w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
					if isDown.Load() {
						return down{}
					}
					return nil
				}
				cfg := cfg
				cfg.DeadLetters = letters
				c := newCoordinator(t, w, cfg)
				h := c.For(mds.DefaultTenant())
				var receipts []ingest.Receipt[mds.Bar]
				for i := range 60 {
					receipts = append(receipts, submit(t, h, bar("s", i, 1), bar(fmt.Sprint("t", i), i, 1)))
					pass(time.Second)
				}
				if s := c.Stats(); s.Pending != 120 || s.Level != ingest.LevelHard && cfg.Circuit.FailureThreshold == 0 {
					t.Errorf("%+v", s)
				}
				isDown.Store(false)
				for _, r := range receipts {
					if o, err := r.Wait(t.Context()); err != nil || o.Committed != 2 {
						t.Fatalf("%+v, %v", o, err)
					}
				}
				if s := c.Stats(); s.Written != 120 || len(letters.kept()) != 0 || s.Circuit != ingest.Closed {
					t.Errorf("%+v, %d letters", s, len(letters.kept()))
				}
				stop(t, c)
			})
		})
	}
}

// TestCircuit has the circuit open after failures in a row, probe the store with one write
// at a time, and close when one succeeds.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var isDown atomic.Bool
		isDown.Store(true)
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			if isDown.Load() {
				return down{}
			}
			return nil
		}
		cfg := ingest.Config[mds.Bar]{BatchSize: 1, Workers: 8, Circuit: ingest.Circuit{FailureThreshold: 3, HalfOpenAfter: time.Minute}}
		cfg.Retry = ingest.Retry{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond, NoJitter: true}
		c := newCoordinator(t, w, cfg)
		h := c.For(mds.DefaultTenant())
		for i := range 50 {
			submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
		}
		calls := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.calls
		}
		state := func() ingest.State { return c.Stats().Circuit }
		pass(1500 * time.Millisecond)
		if n := calls(); n != 8 || state() != ingest.Open {
			t.Fatalf("%d writes, %v; want 8 that fail together, and an open circuit", n, state())
		}
		pass(59 * time.Second)
		if n := calls(); n != 8 || state() != ingest.Open {
			t.Fatalf("%d writes within the minute, %v", n, state())
		}
		pass(time.Second)
		if n := calls(); n != 9 || state() != ingest.HalfOpen {
			t.Fatalf("%d writes, %v; want one probe", n, state())
		}
		pass(time.Minute)
		if n := calls(); n != 9 || state() != ingest.Open {
			t.Fatalf("%d writes, %v; want the circuit open after the probe failed", n, state())
		}
		isDown.Store(false)
		pass(2 * time.Second)
		if n := calls(); n <= 10 || state() != ingest.Closed {
			t.Fatalf("%d writes, %v; want the circuit closed", n, state())
		}
		stop(t, c)
		if n := len(w.stored()); n != 50 {
			t.Errorf("%d rows stored, want 50", n)
		}
	})
}

// TestDataDoesNotMoveTheCircuit has nothing but poison, and conflicts: the circuit stays
// closed.
func TestDataDoesNotMoveTheCircuit(t *testing.T) {
	for name, fail := range map[string]error{"refused": errRefused, "conflict": conflict{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				w.before = func(context.Context, mds.Tenant, []mds.Bar) error { return fail }
				var log lines
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Logger: log.logger()})
				submit(t, c.For(mds.DefaultTenant()), bars("s", 100)...)
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if log.has("the circuit is open") {
					t.Error("the circuit was opened")
				}
				if n := len(letters.kept()); n != 100 {
					t.Errorf("%d letters, want 100", n)
				}
				stop(t, c)
			})
		})
	}
}

// TestTheSickStallNobody has more batches that cannot be written for now than workers: of
// series, of tenants, and of letters that cannot be kept. All others are written meanwhile,
// and the sick lose nothing.
func TestTheSickStallNobody(t *testing.T) {
	sick := func(batch []mds.Bar) bool {
		return slices.ContainsFunc(batch, func(b mds.Bar) bool { return strings.HasPrefix(b.Symbol, "SICK") })
	}
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint("series, with workers: ", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
					if sick(batch) {
						return down{}
					}
					return nil
				}
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Workers: workers, Lanes: 1024})
				h := c.For(mds.DefaultTenant())
				for i := range 5 {
					submit(t, h, bar(fmt.Sprint("SICK", i), 0, 1))
				}
				pass(time.Second)
				for i := range 100 {
					submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
				}
				pass(5 * time.Minute)
				if n := len(w.stored()); n < 80 { // some share a lane with the sick
					t.Errorf("%d of 100 are stored", n)
				}
				for i := range 1000 { // others go on
					submit(t, h, bar(fmt.Sprint("s", i%100), 1+i, 1))
					pass(time.Second)
				}
				if n := len(letters.kept()); n != 5 {
					t.Errorf("%d letters of 5 that can never be written, though others are", n)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := c.Stop(ctx); err != nil {
					t.Error(err)
				}
				if s := c.Stats(); s.Written != 1100 || s.DeadLettered != 5 {
					t.Errorf("%+v", s.Ledger)
				}
			})
		})
	}
	t.Run("tenants", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, letters := newWorld(), &drawer{}
			var well atomic.Bool
			w.before = func(_ context.Context, tenant mds.Tenant, _ []mds.Bar) error {
				if tenant.Slug != "healthy" && !well.Load() {
					return down{}
				}
				return nil
			}
			c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
			for i := range 6 {
				submit(t, c.For(tenantOf(t, fmt.Sprint("sick", i))), bars("s", 10)...)
			}
			pass(time.Second)
			h := c.For(tenantOf(t, "healthy"))
			var slow time.Duration
			for i := range 3000 {
				start := time.Now()
				r := submit(t, h, bar("s", i, 1))
				if _, err := r.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				slow = max(slow, time.Since(start))
				pass(time.Second)
			}
			if slow > time.Second {
				t.Errorf("the healthy one waited for %v", slow)
			}
			well.Store(true)
			pass(2 * time.Minute)
			if s := c.Stats(); s.Written != 3060 || len(letters.kept()) != 0 {
				t.Errorf("%+v, %d letters", s.Ledger, len(letters.kept()))
			}
			stop(t, c)
		})
	})
	t.Run("letters", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, letters := newWorld(), &drawer{shut: errors.New("full")}
			w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
				if sick(batch) {
					return errRefused
				}
				return nil
			}
			c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Lanes: 1024, BatchSize: 1})
			h := c.For(mds.DefaultTenant())
			for i := range 8 {
				submit(t, h, bar(fmt.Sprint("SICK", i), 0, 1))
			}
			pass(time.Minute)
			for i := range 100 {
				submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
			}
			pass(time.Minute)
			if n := len(w.stored()); n < 80 {
				t.Errorf("%d of 100 are stored", n)
			}
			if s := c.Stats(); s.Blocked == nil {
				t.Errorf("%+v", s)
			}
			letters.setShut(nil)
			stop(t, c)
			if len(letters.kept()) != 8 || len(w.stored()) != 100 {
				t.Errorf("%d letters, %d rows", len(letters.kept()), len(w.stored()))
			}
		})
	})
}

// TestBackAtFullSpeed has a tenant whose data is in reach again be written by as many
// workers as it gets, as soon as the first write has told so.
func TestBackAtFullSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sick atomic.Bool
		sick.Store(true)
		w := newWorld()
		w.before = func(_ context.Context, tenant mds.Tenant, _ []mds.Bar) error {
			if tenant.Slug == "healthy" {
				return nil
			}
			if sick.Load() {
				return down{}
			}
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Workers: 4, Lanes: 64, BatchSize: 1, DeadLetters: &drawer{}})
		back, healthy := c.For(tenantOf(t, "back")), c.For(tenantOf(t, "healthy"))
		var series []string
		for range 4 {
			series = append(series, elsewhere(back, series...))
		}
		var receipts []ingest.Receipt[mds.Bar]
		for i, s := range series {
			receipts = append(receipts, submit(t, back, bar(s, 0, 1)))
			for range 3 { // the backend is well
				submit(t, healthy, bar("s", i, 1))
				pass(time.Second)
			}
		}
		for i := range 20 {
			submit(t, healthy, bar("s", 10+i, 1))
			pass(time.Second)
		}
		sick.Store(false)
		if _, err := receipts[0].Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n, r := range receipts {
			start := time.Now()
			if _, err := r.Wait(t.Context()); err != nil || n > 0 && time.Since(start) > time.Second {
				t.Errorf("number %d after another %v: %v", n, time.Since(start), err)
			}
		}
		if w.most != 3 {
			t.Errorf("%d writes at once, want 3 of 4 workers", w.most)
		}
		stop(t, c)
	})
}
