package ingest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

var (
	seedFlag = flag.Uint64("seed", 0, "run the model with this seed only")
	runsFlag = flag.Int("runs", 100, "how many runs the model makes, of a thousand operations each")
)

// TestModel has producers at random, a writer that fails in every way there is, and a
// stop at any moment. Then every record is accounted for, and of each key the last submit
// that was not set aside is what is stored.
func TestModel(t *testing.T) {
	if *seedFlag != 0 {
		synctest.Test(t, func(t *testing.T) { model(t, *seedFlag) })
		return
	}
	for range *runsFlag {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { model(t, seed) })
		})
		if t.Failed() {
			t.Fatalf("again with: go test ./ingest -run '^TestModel$' -seed %d", seed)
		}
	}
}

// fate is what a producer knows of a submit.
type fate struct {
	tenant  mds.Tenant
	bars    []mds.Bar
	receipt ingest.Receipt[mds.Bar]
}

// poisonous are the records that no write takes.
func poisonous(b *mds.Bar) bool { return b.Volume == mds.Some(666.0) || b.Validate() != nil }

func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	capacity, size := 50+r.IntN(2000), 1+r.IntN(50)
	w, letters := newWorld(), &drawer{}
	var dropped []mds.Bar
	var mu sync.Mutex
	cfg := ingest.Config[mds.Bar]{
		Capacity: capacity, Workers: 1 + r.IntN(5), Lanes: 1 + r.IntN(5), BatchSize: size, BatchMax: size + r.IntN(300),
		FlushInterval: time.Duration(1+r.IntN(300)) * time.Millisecond,
		Overflow:      []ingest.Overflow{ingest.Block, ingest.Block, ingest.Reject, ingest.DropOldest}[r.IntN(4)],
		Circuit:       ingest.Circuit{FailureThreshold: 1 + r.IntN(6), HalfOpenAfter: time.Second},
		Retry:         ingest.Retry{MaxAttempts: 1 + r.IntN(6)},
		DeadLetters:   letters,
		Dropped: func(_ mds.Tenant, records []mds.Bar, _ ingest.Reason, _ error) {
			mu.Lock()
			defer mu.Unlock()
			dropped = append(dropped, records...)
		},
	}
	told := newTellings(t)
	cfg.Committed = told.tell
	c := newCoordinator(t, w, cfg)
	misbehave(w, rand.New(rand.NewPCG(seed, 2)))

	tenants := []mds.Tenant{tenantOf(t, "a"), tenantOf(t, "b"), tenantOf(t, "c")}[:1+r.IntN(3)]
	var fates [4][]fate
	var producers sync.WaitGroup
	for p := range fates {
		r := rand.New(rand.NewPCG(seed, uint64(10+p)))
		producers.Go(func() {
			for i := range 250 {
				// A producer has series of its own, so that their order is known.
				f := fate{tenant: tenants[r.IntN(len(tenants))]}
				for range 1 + r.IntN(min(40, capacity)) {
					b := bar(fmt.Sprintf("%c%d", "sS"[r.IntN(2)], 10*p+r.IntN(6)), r.IntN(20), float64(i))
					switch r.IntN(400) {
					case 0:
						b = invalid("s"+strconv.Itoa(10*p), r.IntN(20))
					case 1:
						b.Volume = mds.Some(666.0)
					}
					f.bars = append(f.bars, b)
				}
				var err error
				if r.IntN(8) == 0 {
					f.receipt, err = c.For(f.tenant).TrySubmit(f.bars...)
				} else {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(3000))*time.Millisecond)
					f.receipt, err = c.For(f.tenant).Submit(ctx, f.bars...)
					cancel()
				}
				switch {
				case err == nil:
					fates[p] = append(fates[p], f)
				case errors.Is(err, ingest.ErrStopped):
					return
				case !errors.Is(err, ingest.ErrFull) && !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
				s := c.Stats()
				if s.Records > int64(capacity) || s.InFlight > s.Records || s.Pending > s.Records { // one that has its room may not have come in yet
					t.Errorf("%+v", s)
					return
				}
				if r.IntN(4) == 0 {
					pass(time.Duration(r.IntN(20)) * time.Millisecond)
				}
				if r.IntN(30) == 0 {
					acknowledged(t, w, f)
				}
				if r.IntN(100) == 0 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if err := c.Flush(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					cancel()
				}
			}
		})
	}
	if r.IntN(3) == 0 {
		pass(time.Duration(r.IntN(5000)) * time.Millisecond) // stopped in the middle
	} else {
		producers.Wait()
	}
	patience := time.Hour
	if r.IntN(3) == 0 {
		patience = time.Duration(r.IntN(500)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var unwritten *ingest.UnwrittenError[mds.Bar]
	if err := c.Stop(ctx); err != nil && !errors.As(err, &unwritten) {
		t.Fatal(err)
	}
	producers.Wait()
	pass(time.Minute) // what was cut off ends
	account(t, c, w, letters, dropped, unwritten, fates[:])
	told.account(c, w, unwritten)
}

// acknowledged waits for a receipt: what it says is committed is in the store.
func acknowledged(t *testing.T, w *world, f fate) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if o, err := f.receipt.Wait(ctx); err != nil || o.Committed == 0 {
		return
	}
	stored := w.stored()
	for i := range f.bars {
		if _, ok := stored[key(f.tenant, &f.bars[i])]; !ok {
			t.Error("acknowledged, and not in the store")
			return
		}
	}
}

// misbehave has a store fail, now and then, in every way.
func misbehave(w *world, r *rand.Rand) {
	var mu sync.Mutex
	var downUntil time.Time
	dice := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	w.before = func(ctx context.Context, _ mds.Tenant, bars []mds.Bar) error {
		select {
		case <-time.After(time.Duration(dice(10)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		if r.IntN(60) == 0 {
			downUntil = time.Now().Add(time.Duration(r.IntN(5000)) * time.Millisecond)
		}
		isDown := time.Now().Before(downUntil)
		mu.Unlock()
		if isDown {
			return down{}
		}
		for i := range bars {
			if poisonous(&bars[i]) {
				switch dice(3) {
				case 0:
					panic("666")
				case 1:
					return &mds.RecordError{Index: i, Err: errRefused}
				}
				return errRefused
			}
		}
		if dice(30) == 0 {
			return conflict{}
		}
		return nil
	}
	w.after = func(context.Context, mds.Tenant, []mds.Bar) error {
		switch dice(40) {
		case 0:
			return down{} // it is committed, and says that it is not
		case 1:
			return conflict{}
		}
		return nil
	}
}

// account compares what every side knows.
func account(t *testing.T, c *ingest.Coordinator[mds.Bar], w *world, letters *drawer, dropped []mds.Bar, unwritten *ingest.UnwrittenError[mds.Bar], fates [][]fate) {
	t.Helper()
	var sum ingest.Outcome
	var accepted int64
	want := make(map[string]float64)
	uncertain := make(map[string]bool) // keys whose last value was set aside, or may have been
	for _, list := range fates {
		for _, f := range list {
			accepted += int64(len(f.bars))
			ctx, cancel := context.WithCancel(context.Background())
			cancel() // all is settled
			o, err := f.receipt.Wait(ctx)
			if errors.Is(err, context.Canceled) {
				t.Fatal("a receipt is not settled")
			}
			if n := o.Committed + o.DeadLettered + o.Dropped + o.Unwritten; n != int64(len(f.bars)) {
				t.Fatalf("%+v of %d", o, len(f.bars))
			}
			if (err == nil) != (o.Committed == int64(len(f.bars))) {
				t.Fatalf("%+v, %v", o, err)
			}
			sum.Committed += o.Committed
			sum.DeadLettered += o.DeadLettered
			sum.Dropped += o.Dropped
			sum.Unwritten += o.Unwritten
			for i := range f.bars {
				b := &f.bars[i]
				if poisonous(b) {
					continue
				}
				k := key(f.tenant, b)
				want[k] = b.Close
				if o.Dropped+o.Unwritten+o.DeadLettered > 0 {
					uncertain[k] = true
				} else {
					delete(uncertain, k)
				}
			}
		}
	}
	s := c.Stats()
	if s.Accepted != accepted || s.DeadLettered != sum.DeadLettered || s.Dropped != sum.Dropped || s.Dropped != int64(len(dropped)) || s.DeadLettered != int64(len(letters.kept())) {
		t.Fatalf("ledger %+v; receipts %+v; %d dropped, %d letters, %d accepted", s.Ledger, sum, len(dropped), len(letters.kept()), accepted)
	}
	if unwritten == nil && s.Records+s.Pending+s.Bytes+s.InFlight+s.InFlightBytes != 0 {
		t.Fatalf("%+v", s)
	}
	named := 0
	if unwritten != nil {
		named = unwritten.Records()
	}
	if sum.Unwritten != int64(named) || s.Pending > int64(named) || s.Pending < 0 || sum.Committed+s.Pending-int64(named) > s.Written+s.Unchanged+s.Superseded {
		t.Fatalf("ledger %+v; receipts %+v; %d named", s.Ledger, sum, named)
	}
	stored := w.stored()
	for k, price := range want {
		if got, ok := stored[k]; !uncertain[k] && (!ok || got != price) {
			t.Fatalf("%s is %v (%t), want %v", k, got, ok, price)
		}
	}
	for k := range maps.Keys(stored) {
		if _, ok := want[k]; !ok {
			t.Fatalf("%s was never submitted", k)
		}
	}
	for _, l := range letters.kept() {
		if !poisonous(&l.Record) && l.Code != ingest.CodeExhausted {
			t.Fatalf("%+v is no poison", l)
		}
	}
}
