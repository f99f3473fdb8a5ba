package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

func TestBatches(t *testing.T) {
	cfg := ingest.Config[mds.Bar]{Lanes: 1, BatchSize: 10, BatchMax: 40, FlushInterval: time.Second, Capacity: 1000}
	tests := []struct {
		name    string
		submits []int
		wait    time.Duration
		want    []int
	}{
		{"by rows", []int{4, 6}, 0, []int{10}},
		{"not before they are enough", []int{4, 5}, 999 * time.Millisecond, nil},
		{"by age of the oldest", []int{4, 5}, time.Second, []int{9}},
		{"a large submit is split", []int{100}, 0, []int{40, 40, 20}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				c := newCoordinator(t, w, cfg)
				n := 0
				for _, size := range test.submits {
					submit(t, c.For(mds.DefaultTenant()), bars("s", n+size)[n:]...)
					n += size
				}
				pass(test.wait)
				synctest.Wait()
				if got := w.sizes(); !slices.Equal(got, test.want) {
					t.Errorf("batches of %v, want %v", got, test.want)
				}
				stop(t, c)
			})
		})
	}
	t.Run("by bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			cfg := cfg
			cfg.BatchBytes = 1000 // a bar takes 180
			c := newCoordinator(t, w, cfg)
			submit(t, c.For(mds.DefaultTenant()), bars("s", 9)...)
			synctest.Wait()
			if got := w.sizes(); !slices.Equal(got, []int{5}) {
				t.Errorf("batches of %v, want one of 5, and 4 that wait", got)
			}
			stop(t, c)
		})
	})
}

// TestBatchesGrow has batches grow while the store is busy, to their bound.
func TestBatchesGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Lanes: 1, BatchSize: 10, BatchMax: 40, Capacity: 1000})
		h := c.For(mds.DefaultTenant())
		for i := range 10 {
			submit(t, h, bars("s", 10*(i+1))[10*i:]...)
			synctest.Wait()
		}
		stop(t, c)
		if got := w.sizes(); !slices.Equal(got, []int{10, 40, 40, 10}) {
			t.Errorf("batches of %v", got)
		}
	})
}

// TestSmallLanesTogether has what is small of a tenant written in one transaction, and
// that of two tenants in two.
func TestSmallLanesTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Lanes: 8, BatchSize: 100, FlushInterval: time.Second})
		for _, slug := range []string{"a", "b"} {
			h := c.For(tenantOf(t, slug))
			for i := range 40 {
				submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
			}
		}
		pass(time.Second)
		synctest.Wait()
		if got := w.sizes(); !slices.Equal(got, []int{40, 40}) || w.tenants[0] == w.tenants[1] {
			t.Errorf("batches of %v, of %v", got, w.tenants)
		}
		stop(t, c)
	})
}

// TestLanesRunSideBySide has several batches of a tenant written at once, none of them
// with a series of another.
func TestLanesRunSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var mu sync.Mutex
		writing := make(map[string]bool)
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			mu.Lock()
			mine := make(map[string]bool)
			for i := range batch {
				symbol := strings.ToUpper(batch[i].Symbol)
				if writing[symbol] {
					t.Errorf("%s is in two batches at once", symbol)
				}
				mine[symbol] = true
			}
			for symbol := range mine {
				writing[symbol] = true
			}
			mu.Unlock()
			pass(time.Second)
			mu.Lock()
			defer mu.Unlock()
			for symbol := range mine {
				delete(writing, symbol)
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Workers: 4, BatchSize: 10})
		h := c.For(mds.DefaultTenant())
		for round := range 20 {
			for i := range 20 {
				submit(t, h, bar(fmt.Sprint([]string{"s", "S", " s"}[round%3], i), round, 1))
			}
		}
		stop(t, c)
		if w.most != 4 {
			t.Errorf("%d batches at once, want 4", w.most)
		}
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{FlushInterval: time.Hour})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 3)...)
		submit(t, c.For(tenantOf(t, "b")), bars("s", 4)...)
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := c.Flush(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(w.stored()); n != 7 {
			t.Errorf("%d rows are stored after a flush, want 7", n)
		}
		if err := c.Flush(t.Context()); err != nil { // of nothing
			t.Error(err)
		}
		stop(t, c)
	})
}

// TestAcknowledged has a receipt wait for the commit, not for anything before it.
func TestAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		commit := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-commit
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 1, Lanes: 3})
		var all []mds.Bar
		for i := range 30 {
			all = append(all, bar(fmt.Sprint("s", i), 0, 1))
		}
		r := submit(t, c.For(mds.DefaultTenant()), all...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			o, err := r.Wait(context.Background())
			if want := (ingest.Outcome{Committed: 30}); err != nil || o != want {
				t.Errorf("%+v, %v", o, err)
			}
			if n := len(w.stored()); n != 30 {
				t.Errorf("acknowledged when %d of 30 are stored", n)
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := r.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the receipt is settled before the commit: %v", err)
		}
		select {
		case <-done:
			t.Error("the receipt is settled before the commit")
		default:
		}
		close(commit)
		<-done
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

func TestConfigFaults(t *testing.T) {
	_, err := ingest.New(t.Context(), newWorld(), ingest.Config[mds.Bar]{
		ID: "x", Capacity: -1, Overflow: "drop", Workers: 10_000, FlushInterval: -1, Retry: ingest.Retry{Multiplier: 0.5},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"coordinator x: ", "Capacity is -1", `Overflow is "drop": use block, reject or drop_oldest`, "more than 4096 at once: Workers is 10000",
		"FlushInterval is -1ns", "Retry.Multiplier is 0.5",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

// TestRate has a tenant submit no faster than it may, and another as fast as it likes.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCoordinator(t, newWorld(), ingest.Config[mds.Bar]{Rate: func(tenant mds.Tenant) float64 {
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
		submit(t, slow, bars("s", 250)...) // more than a second's worth
		if took := time.Since(start); took != 6500*time.Millisecond {
			t.Errorf("750 records at 100/s took %v, want 6.5s", took)
		}
		if _, err := fast.TrySubmit(bars("s", 10)...); err != nil {
			t.Error(err)
		}
		stop(t, c)
	})
}
