package ingest_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestQuietTenant has one tenant submit ten records now and then, by itself and beside
// one that submits a hundred times as many and more than the store takes. Half of the
// quiet one's records come as they do for twice the time at most.
func TestQuietTenant(t *testing.T) {
	p99 := func(flood bool) (p time.Duration, flooded int64) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
				// A write takes 2 ms and 50 µs a record: 4 workers take 80,000 records/s.
				pass(2*time.Millisecond + time.Duration(len(batch))*50*time.Microsecond)
				return nil
			}
			c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 20_000, FlushInterval: 50 * time.Millisecond})
			quiet := c.For(tenantOf(t, "quiet"))
			submit(t, quiet, bar("s", 0, 0))
			ctx, cancel := context.WithCancel(t.Context())
			var producers sync.WaitGroup
			if flood {
				h := c.For(tenantOf(t, "flood"))
				for i := range 4 {
					batch := bars("s", 1000)
					for n := range batch {
						batch[n].Symbol = string(rune('a' + (i+n)%26))
					}
					producers.Go(func() {
						for ctx.Err() == nil {
							if _, err := h.Submit(ctx, batch...); err != nil && ctx.Err() == nil {
								t.Error(err)
							}
						}
					})
				}
			}
			var took []time.Duration
			for i := range 150 {
				start := time.Now()
				r := submit(t, quiet, bars("s", 10)...)
				if _, err := r.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				took = append(took, time.Since(start))
				pass(time.Duration(i%7) * time.Millisecond)
			}
			cancel()
			producers.Wait()
			stop(t, c)
			slices.Sort(took)
			p = took[len(took)*99/100]
			for _, l := range c.Ledgers() {
				if l.Tenant.Slug == "flood" {
					flooded = l.Accepted
				}
			}
		})
		return p, flooded
	}
	alone, _ := p99(false)
	beside, flooded := p99(true)
	t.Logf("alone %v, beside %d records of another %v", alone, flooded, beside)
	if flooded < 100*1500 {
		t.Errorf("the flood is of %d records only", flooded)
	}
	if beside > 2*alone {
		t.Errorf("p99 is %v, and alone %v", beside, alone)
	}
}

// TestShares has a tenant that fills the queue leave the others their share, and takes it
// all where there are none.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 1000, Overflow: ingest.Reject})
		fill := func(slug string) (n int) {
			h := c.For(tenantOf(t, slug))
			for {
				if _, err := h.Submit(t.Context(), bar("s", n, 1)); err != nil {
					return n
				}
				n++
			}
		}
		if n := fill("first"); n != 1000 {
			t.Errorf("alone it has %d of 1000", n)
		}
		if n := fill("second"); n != 0 {
			t.Errorf("%d fit into a queue that is full", n)
		}
		close(gate)
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		gate = make(chan struct{})
		// Of two each has a quarter for itself.
		if n := fill("first"); n != 750 {
			t.Errorf("the first has %d, want 750", n)
		}
		if n := fill("second"); n != 250 {
			t.Errorf("the second has %d, want 250", n)
		}
		if n := fill("third"); n != 0 {
			t.Errorf("%d fit into a queue that is full", n)
		}
		close(gate)
		stop(t, c)
	})
}

// TestLargeSubmitGetsIn has a submit that is larger than what a tenant may have beside
// others go in when the others leave it room.
func TestLargeSubmitGetsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 100})
		for _, slug := range []string{"a", "b", "c"} {
			submit(t, c.For(tenantOf(t, slug)), bars("s", 10)...)
		}
		submit(t, c.For(tenantOf(t, "d")), bars("s", 100)...)
		stop(t, c)
		if n := len(w.stored()); n != 130 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestLargeSubmitIsNotPassedForEver has a tenant's large submit wait beside the small ones
// of many producers of another.
func TestLargeSubmitIsNotPassedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			pass(time.Duration(len(batch)) * 10 * time.Microsecond)
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 1000})
		small, large := c.For(tenantOf(t, "small")), c.For(tenantOf(t, "large"))
		submit(t, large, bar("s", 0, 1))
		ctx, cancel := context.WithCancel(t.Context())
		var producers sync.WaitGroup
		for range 40 {
			producers.Go(func() {
				batch := bars("s", 50)
				for ctx.Err() == nil {
					if _, err := small.Submit(ctx, batch...); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			})
		}
		pass(time.Second)
		start := time.Now()
		submit(t, large, bars("s", 600)...)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it got in after %v", took)
		}
		cancel()
		producers.Wait()
		stop(t, c)
	})
}

// TestHandlesTakeNoShare has tenants that were asked for and never submitted take nothing.
func TestHandlesTakeNoShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 1000, Overflow: ingest.Reject})
		for _, slug := range []string{"a", "b", "c"} {
			c.For(tenantOf(t, slug))
		}
		h := c.For(tenantOf(t, "real"))
		for i := range 1000 {
			if _, err := h.Submit(t.Context(), bar("s", i, 1)); err != nil {
				t.Fatalf("after %d of 1,000: %v", i, err)
			}
		}
		close(gate)
		stop(t, c)
	})
}

// TestOneWorkerIsLeft has a tenant whose writes hang, on as many workers as it gets: one is
// left to another.
func TestOneWorkerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(_ context.Context, tenant mds.Tenant, _ []mds.Bar) error {
			if tenant.Slug == "hangs" {
				<-gate
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Workers: 3, Lanes: 64, BatchSize: 1})
		hangs, goes := c.For(tenantOf(t, "hangs")), c.For(tenantOf(t, "goes"))
		submit(t, goes, bar("s", 0, 1))
		synctest.Wait() // it is written: it has joined, and is not among the writes that are counted
		for i := range 50 {
			submit(t, hangs, bar(string(rune('a'+i)), 0, 1))
		}
		synctest.Wait()
		if w.most != 2 {
			t.Errorf("%d writes of one tenant, want 2 of 3 workers", w.most)
		}
		r := submit(t, goes, bar("s", 1, 1))
		synctest.Wait()
		if o, settled := r.Settled(); !settled || o.Committed != 1 {
			t.Errorf("%+v, %t", o, settled)
		}
		close(gate)
		stop(t, c)
	})
}
