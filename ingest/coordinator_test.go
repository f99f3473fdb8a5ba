package ingest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Workers: 4, Lanes: 64, BatchSize: 10})
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

// TestTogetherWithinBounds has small lanes go together as far as a batch may grow.
func TestTogetherWithinBounds(t *testing.T) {
	for name, cfg := range map[string]ingest.Config[mds.Bar]{
		"records": {Lanes: 64, BatchSize: 100, BatchMax: 100},
		"bytes":   {Lanes: 64, BatchBytes: 100 * 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				cfg := cfg
				cfg.FlushInterval = time.Second
				c := newCoordinator(t, w, cfg)
				h := c.For(mds.DefaultTenant())
				for i := range 20 {
					submit(t, h, bars(fmt.Sprint("s", i), 60)...)
				}
				stop(t, c)
				if sizes := w.sizes(); slices.Max(sizes) > 111 { // of 180 bytes each
					t.Errorf("batches of %v", sizes)
				}
			})
		})
	}
}

// TestWriteTimeout has a write that hangs be given up, and made again.
func TestWriteTimeout(t *testing.T) {
	for name, says := range map[string]error{"the context's error": nil, "something else": errors.New("query interrupted")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				var hung atomic.Bool
				w.before = func(ctx context.Context, _ mds.Tenant, _ []mds.Bar) error {
					if hung.CompareAndSwap(false, true) {
						<-ctx.Done()
						return cmp.Or(says, ctx.Err())
					}
					return nil
				}
				letters := &drawer{}
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{WriteTimeout: 5 * time.Second, BatchSize: 1, DeadLetters: letters})
				start := time.Now()
				r := submit(t, c.For(mds.DefaultTenant()), bars("s", 10)...)
				if o, err := r.Wait(t.Context()); err != nil || o.Committed != 10 || time.Since(start) < 5*time.Second || time.Since(start) > 6*time.Second {
					t.Errorf("%+v after %v, %v", o, time.Since(start), err)
				}
				stop(t, c)
			})
		})
	}
}

// TestWritersThatCannotCount have told more, or less, than there is.
func TestWritersThatCannotCount(t *testing.T) {
	for _, told := range []int64{0, 3, 500} {
		c := newCoordinator(t, counting(told), ingest.Config[mds.Bar]{})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 100)...)
		stop(t, c)
		if s := c.Stats(); s.Written != 100 || s.Pending != 0 {
			t.Errorf("told of %d: %+v", told, s.Ledger)
		}
	}
}

type counting int64

func (n counting) WriteBatch(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{Written: int64(n)}, nil
}

func TestMisuse(t *testing.T) {
	if _, err := ingest.New[mds.Bar](t.Context(), nil, ingest.Config[mds.Bar]{}); err == nil || err.Error() != "coordinator bars: there is no writer" {
		t.Error(err)
	}
	c := newCoordinator(t, newWorld(), ingest.Config[mds.Bar]{})
	defer stop(t, c)
	if _, err := c.For(mds.Tenant{}).Submit(t.Context(), bar("s", 0, 1)); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Error(err)
	}
	var none ingest.Receipt[mds.Bar]
	none, err := c.For(mds.DefaultTenant()).Submit(t.Context())
	if o, waitErr := none.Wait(t.Context()); err != nil || waitErr != nil || o != (ingest.Outcome{}) {
		t.Error(o, err, waitErr)
	}
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
		start := time.Now()
		if err := c.Flush(t.Context()); err != nil || time.Since(start) > 2*time.Second { // not when they are old
			t.Errorf("after %v: %v", time.Since(start), err)
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

// TestHurry has what somebody waits for be written at once, with what else is there by
// then, and nothing else be begun.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{FlushInterval: time.Hour, Workers: 1})
		h, other := c.For(mds.DefaultTenant()), c.For(tenantOf(t, "other"))
		left := submit(t, other, bars("s", 5)...)
		start := time.Now()
		var receipts []ingest.Receipt[mds.Bar]
		for i := range 10 {
			receipts = append(receipts, submit(t, h, bar("s", i, 1)))
			receipts[i].Hurry()
			synctest.Wait()
		}
		for i, r := range receipts {
			if _, err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if took, want := time.Since(start), time.Duration(min(i+1, 2))*time.Second; took != want {
				t.Errorf("number %d is settled after %v, want %v", i, took, want)
			}
		}
		if got := w.sizes(); !slices.Equal(got, []int{1, 9}) {
			t.Errorf("batches of %v", got)
		}
		if _, settled := left.Settled(); settled {
			t.Error("another tenant's is written, too")
		}
		var none ingest.Receipt[mds.Bar]
		none.Hurry()
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

func TestConfigFaults(t *testing.T) {
	_, err := ingest.New(t.Context(), newWorld(), ingest.Config[mds.Bar]{
		BatchSize: 10, BatchMax: 5, ID: "x", Capacity: -1, Overflow: "drop", Workers: 10_000, FlushInterval: -1, Retry: ingest.Retry{Multiplier: 0.5},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{
		"coordinator x: ", "Capacity is -1", "BatchMax is less than BatchSize", `Overflow is "drop": use block, reject or drop_oldest`, "more than 4096 at once: Workers is 10000",
		"FlushInterval is -1ns", "Retry.Multiplier is 0.5",
	} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}
