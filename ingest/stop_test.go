package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

func TestStopDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{FlushInterval: time.Hour, Capacity: 400})
		h := c.For(mds.DefaultTenant())
		for i := range 40 {
			submit(t, h, bars(fmt.Sprint("s", i), 10)...)
		}
		blocked := make(chan error)
		go func() {
			_, err := h.Submit(context.Background(), bars("late", 400)...)
			blocked <- err
		}()
		synctest.Wait()
		stop(t, c)
		if err := <-blocked; !errors.Is(err, ingest.ErrStopped) {
			t.Errorf("a submit that waits for room: %v", err)
		}
		if _, err := h.Submit(t.Context(), bar("s", 0, 1)); !errors.Is(err, ingest.ErrStopped) {
			t.Errorf("a submit afterwards: %v", err)
		}
		if _, err := h.TrySubmit(bar("s", 0, 1)); !errors.Is(err, ingest.ErrStopped) {
			t.Errorf("a submit afterwards: %v", err)
		}
		if n := len(w.stored()); n != 400 {
			t.Errorf("%d rows stored, want 400", n)
		}
		stop(t, c) // again
		if s := c.Stats(); !s.Stopped || s.Workers != 0 || s.Pending != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStopInAnyState has a stop whose time is up at once, in every state a coordinator may
// be in: it comes back, and names what is unwritten.
func TestStopInAnyState(t *testing.T) {
	tests := []struct {
		name    string
		before  func(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) error
		letters error
		after   time.Duration // of the submit
		within  time.Duration
		doubt   bool
	}{
		{"idle", nil, nil, 0, 0, false},
		{"a write under way", func(ctx context.Context, _ mds.Tenant, _ []mds.Bar) error {
			<-ctx.Done()
			return ctx.Err()
		}, nil, time.Second, 0, true},
		{"a write that does not heed its context", func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Hour)
			return down{}
		}, nil, time.Second, time.Second, true},
		{"backing off", func(context.Context, mds.Tenant, []mds.Bar) error { return down{} }, nil, 10 * time.Millisecond, 0, false},
		{"circuit open", func(context.Context, mds.Tenant, []mds.Bar) error { return down{} }, nil, 30 * time.Second, 0, false},
		{"dead letters full", func(context.Context, mds.Tenant, []mds.Bar) error { return errRefused }, errors.New("full"), time.Second, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.before = test.before
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{FlushInterval: time.Hour, BatchSize: 5, DeadLetters: &drawer{shut: test.letters}})
				var r ingest.Receipt[mds.Bar]
				if test.before != nil {
					r = submit(t, c.For(mds.DefaultTenant()), bars("s", 7)...)
				} else {
					r = submit(t, c.For(mds.DefaultTenant()), bars("s", 3)...)
				}
				pass(test.after)
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				start := time.Now()
				err := c.Stop(ctx)
				if took := time.Since(start); took > test.within {
					t.Errorf("it took %v", took)
				}
				if test.before == nil && err == nil {
					return // it was written in time
				}
				var unwritten *ingest.UnwrittenError[mds.Bar]
				if !errors.As(err, &unwritten) {
					t.Fatal(err)
				}
				total := int(c.Stats().Accepted)
				if unwritten.Records() != total || unwritten.Unwritten[0].Tenant != mds.DefaultTenant() || unwritten.Unwritten[0].InDoubt != test.doubt {
					t.Errorf("%+v of %d", unwritten, total)
				}
				if o, err := r.Wait(t.Context()); o.Unwritten != int64(total) || !errors.Is(err, ingest.ErrUnwritten) {
					t.Errorf("%+v, %v", o, err)
				}
				if s := c.Stats(); s.Pending != int64(total) {
					t.Errorf("%+v", s)
				}
				if again := c.Stop(ctx); !errors.As(again, &unwritten) {
					t.Error(again)
				}
				pass(2 * time.Hour) // what does not heed its context ends
			})
		})
	}
}

// TestStopNames has a stop say how many records of which tenants are left.
func TestStopNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(_ context.Context, tenant mds.Tenant, _ []mds.Bar) error {
			if tenant.Slug == "b" {
				pass(time.Hour)
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 5, BatchMax: 5, Lanes: 1, FlushInterval: time.Hour})
		submit(t, c.For(tenantOf(t, "b")), bars("s", 8)...)
		submit(t, c.For(tenantOf(t, "a")), bars("s", 5)...)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := c.Stop(ctx)
		const want = "coordinator bars was stopped with 8 records unwritten: 5 of tenant b, which may be stored; 3 of tenant b"
		if err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
		var unwritten *ingest.UnwrittenError[mds.Bar]
		if !errors.As(err, &unwritten) || unwritten.Unwritten[0].Records[4] != bar("s", 4, 4) || unwritten.Unwritten[1].Records[0] != bar("s", 5, 5) {
			t.Errorf("%+v", unwritten)
		}
		pass(2 * time.Hour) // the write ends after all, and is in the ledger
		if s := c.Stats(); s.Written != 10 || s.Pending != 3 || s.Workers != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestStopProbes has a stop probe an open circuit at once: the store may be well again.
func TestStopProbes(t *testing.T) {
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
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Circuit: ingest.Circuit{HalfOpenAfter: time.Hour}})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 5)...)
		pass(time.Minute)
		isDown.Store(false)
		start := time.Now()
		stop(t, c)
		if took := time.Since(start); took > time.Second || len(w.stored()) != 5 {
			t.Errorf("%d rows after %v", len(w.stored()), took)
		}
	})
}

// TestNothingAfterWhatWasCutOff has a stop cut off a write: what came later of its series
// is not written after that, so that what is unwritten may be submitted again.
func TestNothingAfterWhatWasCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var first atomic.Bool
		w.before = func(ctx context.Context, _ mds.Tenant, _ []mds.Bar) error {
			if first.CompareAndSwap(false, true) {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 1, BatchMax: 1, Lanes: 1})
		h := c.For(mds.DefaultTenant())
		submit(t, h, bar("s", 0, 1))
		submit(t, h, bar("s", 0, 2))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var left *ingest.UnwrittenError[mds.Bar]
		if err := c.Stop(ctx); !errors.As(err, &left) || left.Records() != 2 {
			t.Fatal(err)
		}
		again := newCoordinator(t, w, ingest.Config[mds.Bar]{})
		for _, u := range left.Unwritten {
			submit(t, again.For(u.Tenant), u.Records...)
		}
		stop(t, again)
		for k, price := range w.stored() {
			if price != 2 {
				t.Errorf("%s is %v, want the last, 2", k, price)
			}
		}
	})
}

// TestCutOffIsNoRefusal has a writer that says something of its own when it is cut off.
func TestCutOffIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, letters := newWorld(), &drawer{}
		w.before = func(ctx context.Context, _ mds.Tenant, _ []mds.Bar) error {
			<-ctx.Done()
			return errors.New("query interrupted")
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 10)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var left *ingest.UnwrittenError[mds.Bar]
		if err := c.Stop(ctx); !errors.As(err, &left) || left.Records() != 10 || !left.Unwritten[0].InDoubt || len(letters.kept()) != 0 {
			t.Errorf("%v, %d letters", err, len(letters.kept()))
		}
	})
}

// TestStopTwice has two stops wait for one end, which the first context to end brings; a
// third one comes back at once, though a write has not ended.
func TestStopTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(24 * time.Hour)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 1})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 10)...)
		patient := make(chan error)
		go func() { patient <- c.Stop(context.Background()) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var left *ingest.UnwrittenError[mds.Bar]
		if err := c.Stop(ctx); !errors.As(err, &left) || left.Records() != 10 {
			t.Error(err)
		}
		if err := c.Stop(context.Background()); !errors.As(err, &left) || time.Since(start) > 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		pass(48 * time.Hour)
		if err := <-patient; !errors.As(err, &left) {
			t.Errorf("the patient one: %v", err)
		}
	})
}
