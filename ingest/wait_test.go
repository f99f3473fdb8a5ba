package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestPressed has producers that wait for room not wait for the age of what is queued.
func TestPressed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCoordinator(t, newWorld(), ingest.Config[mds.Bar]{Capacity: 40, BatchSize: 20, Lanes: 8, FlushInterval: time.Hour})
		h := c.For(mds.DefaultTenant())
		start := time.Now()
		for round := range 4 {
			var batch []mds.Bar
			for i := range 40 {
				batch = append(batch, bar(fmt.Sprint("s", i), round, 1))
			}
			submit(t, h, batch...)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %v", took)
		}
		stop(t, c)
	})
}

func TestOverflow(t *testing.T) {
	// A coordinator whose store hangs until released, with room for 10 of which 5 are
	// being written.
	full := func(t *testing.T, cfg ingest.Config[mds.Bar], test func(t *testing.T, c *ingest.Coordinator[mds.Bar], h *ingest.Handle[mds.Bar], release func())) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			gate := make(chan struct{})
			w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
				<-gate
				return nil
			}
			cfg.Capacity, cfg.Workers, cfg.BatchSize, cfg.FlushInterval = 10, 1, 2, time.Hour
			c := newCoordinator(t, w, cfg)
			h := c.For(mds.DefaultTenant())
			submit(t, h, bars("s", 2)...)
			synctest.Wait()
			submit(t, h, bars("s", 10)[2:]...)
			released := false
			release := func() {
				if !released {
					released = true
					close(gate)
				}
			}
			defer release()
			test(t, c, h, release)
			release()
			stop(t, c)
			if s := c.Stats(); s.Accepted != s.Written+s.Unchanged+s.Superseded+s.Dropped || s.Pending != 0 {
				t.Errorf("%+v", s.Ledger)
			}
		})
	}
	t.Run("block", func(t *testing.T) {
		full(t, ingest.Config[mds.Bar]{}, func(t *testing.T, c *ingest.Coordinator[mds.Bar], h *ingest.Handle[mds.Bar], release func()) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := h.Submit(ctx, bar("s", 10, 1)); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if _, err := h.TrySubmit(bar("s", 10, 1)); !errors.Is(err, ingest.ErrFull) {
				t.Error(err)
			}
			if s := c.Stats(); s.Accepted != 10 || s.Waiting != 0 || s.Level != ingest.LevelHard {
				t.Errorf("%+v", s)
			}
			var order []int
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() {
					submit(t, h, bar("s", 11+i, 1))
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
				})
				synctest.Wait()
			}
			if s := c.Stats(); s.Waiting != 3 {
				t.Errorf("%+v", s)
			}
			release()
			wg.Wait()
			if len(order) != 3 {
				t.Error(order)
			}
		})
	})
	t.Run("reject", func(t *testing.T) {
		full(t, ingest.Config[mds.Bar]{Overflow: ingest.Reject}, func(t *testing.T, c *ingest.Coordinator[mds.Bar], h *ingest.Handle[mds.Bar], _ func()) {
			if _, err := h.Submit(t.Context(), bar("s", 10, 1)); !errors.Is(err, ingest.ErrFull) {
				t.Error(err)
			}
			if s := c.Stats(); s.Accepted != 10 {
				t.Errorf("%+v", s)
			}
		})
	})
	t.Run("drop oldest", func(t *testing.T) {
		var dropped []mds.Bar
		cfg := ingest.Config[mds.Bar]{Overflow: ingest.DropOldest, Dropped: func(_ mds.Tenant, records []mds.Bar, reason ingest.Reason, _ error) {
			if reason != ingest.Overflowed {
				t.Error(reason)
			}
			dropped = append(dropped, records...)
		}}
		full(t, cfg, func(t *testing.T, c *ingest.Coordinator[mds.Bar], h *ingest.Handle[mds.Bar], release func()) {
			first := submit(t, h, bars("s", 13)[10:]...) // 2, 3 and 4 make room
			if !slices.Equal(dropped, bars("s", 5)[2:]) {
				t.Errorf("%v was dropped", dropped)
			}
			dropped = nil
			second := submit(t, h, bars("t", 9)...) // all eight that wait, and one of its own
			if want := slices.Concat(bars("s", 13)[5:], bars("t", 1)); !slices.Equal(dropped, want) {
				t.Errorf("%v was dropped, want %v", dropped, want)
			}
			release()
			o, err := first.Wait(t.Context())
			if want := (ingest.Outcome{Dropped: 3}); o != want || !errors.Is(err, ingest.ErrDropped) {
				t.Errorf("%+v, %v", o, err)
			}
			o, err = second.Wait(t.Context())
			var lost *ingest.LostError
			if want := (ingest.Outcome{Committed: 8, Dropped: 1}); o != want || !errors.As(err, &lost) || lost.Outcome != want {
				t.Errorf("%+v, %v", o, err)
			}
			if s := c.Stats(); s.Dropped != 12 || s.Overflowed != 12 || s.Accepted != 22 {
				t.Errorf("%+v", s)
			}
		})
	})
}

func TestNeverFits(t *testing.T) {
	w := newWorld()
	c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 10, CapacityBytes: 1500})
	defer stop(t, c)
	h := c.For(mds.DefaultTenant())
	for name, batch := range map[string][]mds.Bar{"records": bars("s", 11), "bytes": bars("s", 9)} {
		for _, try := range []func() (ingest.Receipt[mds.Bar], error){
			func() (ingest.Receipt[mds.Bar], error) { return h.Submit(context.Background(), batch...) },
			func() (ingest.Receipt[mds.Bar], error) { return h.TrySubmit(batch...) },
		} {
			if _, err := try(); !errors.Is(err, ingest.ErrTooLarge) {
				t.Errorf("%s: %v", name, err)
			} else if want := map[string]string{
				"records": "11 records in one submit to coordinator bars, which has room for 10 in all: it can never fit",
				"bytes":   "1620 bytes in one submit to coordinator bars, which has room for 1500 in all: it can never fit",
			}[name]; err.Error() != want {
				t.Error(err)
			}
		}
	}
	submit(t, h, bars("s", 8)...) // as many bytes as there may be
	if s := c.Stats(); s.Accepted != 8 {
		t.Errorf("%+v", s)
	}
}

// TestRate has a tenant submit no faster than it may, and another as fast as it likes.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *ingest.Coordinator[mds.Bar]
		c = newCoordinator(t, newWorld(), ingest.Config[mds.Bar]{Rate: func(tenant mds.Tenant) float64 {
			c.Stats() // it may ask
			if tenant.Slug == "slow" {
				return 100
			}
			return 0
		}})
		slow, fast := c.For(tenantOf(t, "slow")), c.For(tenantOf(t, "fast"))
		start := time.Now()
		for range 50 {
			submit(t, slow, bars("s", 10)...) // the first hundred at once
			submit(t, fast, bars("s", 1000)...)
		}
		if took := time.Since(start); took != 4*time.Second {
			t.Errorf("500 records at 100/s took %v, want 4s", took)
		}
		if _, err := slow.TrySubmit(bars("s", 10)...); !errors.Is(err, ingest.ErrQuota) {
			t.Error(err)
		}
		submit(t, slow, bars("s", 250)...) // more than a second's worth goes when none is owed
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("750 records at 100/s took %v, want 5s", took)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := slow.Submit(short, bar("s", 0, 1)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 6*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := slow.Submit(t.Context(), bars("s", 300_000)...); !errors.Is(err, ingest.ErrTooLarge) || time.Since(start) != 6*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := fast.TrySubmit(bars("s", 10)...); err != nil {
			t.Error(err)
		}
		waits := make(chan error)
		go func() {
			_, err := slow.Submit(context.Background(), bars("s", 10_000)...)
			if err == nil {
				_, err = slow.Submit(context.Background(), bar("s", 0, 1))
			}
			waits <- err
		}()
		pass(10 * time.Second)
		stop(t, c)
		if err := <-waits; !errors.Is(err, ingest.ErrStopped) {
			t.Errorf("a submit that waits for its rate: %v", err)
		}
	})
}

// TestNobodyJumpsTheQueue has a submit that needs little not overtake one of its tenant
// that needs more and came before.
func TestNobodyJumpsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 10, Workers: 1, BatchSize: 2, BatchMax: 2})
		h := c.For(mds.DefaultTenant())
		submit(t, h, bars("s", 10)...)
		in := make(chan struct{})
		go func() {
			submit(t, h, bars("t", 5)...)
			close(in)
		}()
		synctest.Wait()
		gate <- struct{}{}
		synctest.Wait() // there is room for two
		if _, err := h.TrySubmit(bar("u", 0, 1)); !errors.Is(err, ingest.ErrFull) {
			t.Errorf("a small one got in before: %v", err)
		}
		gate <- struct{}{}
		gate <- struct{}{}
		<-in
		close(gate)
		stop(t, c)
	})
}
