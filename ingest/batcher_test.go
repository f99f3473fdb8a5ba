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
	"github.com/marketdatastore/mds/sink"
)

func newBatcher(t *testing.T, w *world, cfg ingest.BatcherConfig) *ingest.Batcher[mds.Bar] {
	return ingest.NewBatcher(t.Context(), sink.New(w, sink.Config{}).For(mds.DefaultTenant()), cfg)
}

func TestBatcher(t *testing.T) {
	tests := []struct {
		name string
		cfg  ingest.BatcherConfig
		bars []mds.Bar
		wait time.Duration
		want []int // before Close
	}{
		{"rows", ingest.BatcherConfig{}, bars("s", 2500), 0, []int{1000, 1000}},
		{"age", ingest.BatcherConfig{}, bars("s", 3), 5 * time.Second, []int{3}},
		{"not yet", ingest.BatcherConfig{}, bars("s", 3), 4999 * time.Millisecond, nil},
		{"bytes", ingest.BatcherConfig{MaxBytes: 500}, bars("s", 7), 0, []int{3, 3}}, // of 180 each
		{"none", ingest.BatcherConfig{}, nil, time.Minute, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				b := newBatcher(t, w, test.cfg)
				for _, r := range test.bars {
					if err := b.Add(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				pass(test.wait)
				synctest.Wait()
				if got := w.sizes(); !slices.Equal(got, test.want) {
					t.Errorf("batches of %v, want %v", got, test.want)
				}
				for range 2 {
					if err := b.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if n := len(w.stored()); n != len(test.bars) || b.Receipt().Written != int64(n) {
					t.Errorf("%d rows of %d, %+v", n, len(test.bars), b.Receipt())
				}
				if err := b.Add(t.Context(), bar("s", 0, 1)); !errors.Is(err, ingest.ErrClosed) {
					t.Error(err)
				}
			})
		})
	}
}

// TestBatcherAgeBeginsAnew has a batch that was filled not cut short the next one.
func TestBatcherAgeBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		b := newBatcher(t, w, ingest.BatcherConfig{MaxRows: 2})
		for i := range 3 {
			if err := b.Add(t.Context(), bar("s", i, 1)); err != nil {
				t.Fatal(err)
			}
			pass(3 * time.Second)
		}
		if got := w.sizes(); !slices.Equal(got, []int{2}) { // the first is 9 seconds old, the third 3
			t.Errorf("batches of %v", got)
		}
		if err := b.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := w.sizes(); !slices.Equal(got, []int{2, 1}) {
			t.Errorf("batches of %v", got)
		}
	})
}

// TestBatcherFails has writes fail, for rows and for age: each record comes back once, and
// what is held stays bounded.
func TestBatcherFails(t *testing.T) {
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
		b := newBatcher(t, w, ingest.BatcherConfig{MaxRows: 3})
		var back []mds.Bar
		add := func(n int) {
			err := b.Add(t.Context(), bar("s", n, 1))
			var failed *ingest.BatchError[mds.Bar]
			if errors.As(err, &failed) {
				if !mds.Retryable(err) || !strings.HasPrefix(err.Error(), fmt.Sprint(len(failed.Records), " records were not written: ")) {
					t.Error(err)
				}
				back = append(back, failed.Records...)
			} else if err != nil {
				t.Error(err)
			}
		}
		add(0)
		add(1)
		pass(5 * time.Second) // fails for its age
		synctest.Wait()
		add(2) // is told, and held
		if len(back) != 2 {
			t.Errorf("%v came back", back)
		}
		add(3)
		add(4) // fails for its rows
		if len(back) != 5 {
			t.Errorf("%v came back", back)
		}
		isDown.Store(false)
		for _, r := range back {
			if err := b.Add(t.Context(), r); err != nil {
				t.Error(err)
			}
		}
		isDown.Store(true)
		var failed *ingest.BatchError[mds.Bar]
		if err := b.Close(t.Context()); !errors.As(err, &failed) || len(failed.Records) != 2 {
			t.Errorf("%v", err)
		}
		if n := len(w.stored()); n != 3 {
			t.Errorf("%d rows", n)
		}
	})
}

// TestBatcherRefusesInvalid has an invalid record refused by itself.
func TestBatcherRefusesInvalid(t *testing.T) {
	w := newWorld()
	b := newBatcher(t, w, ingest.BatcherConfig{})
	var bad *mds.InvalidError
	if err := b.Add(t.Context(), invalid("s", 0)); !errors.As(err, &bad) || bad.Faults[0].Field != "close" {
		t.Error(err)
	}
	if err := b.Add(t.Context(), bar("s", 1, 1)); err != nil {
		t.Error(err)
	}
	if err := b.Close(t.Context()); err != nil || len(w.stored()) != 1 {
		t.Error(err, w.stored())
	}
}

// TestBatcherAfterItsContext has a batcher whose context has ended hold what it has until
// it is enough, or closed.
func TestBatcherAfterItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		b := ingest.NewBatcher(ctx, sink.New(w, sink.Config{}).For(mds.DefaultTenant()), ingest.BatcherConfig{})
		if err := b.Add(t.Context(), bar("s", 0, 1)); err != nil {
			t.Fatal(err)
		}
		cancel()
		pass(time.Minute)
		if err := b.Close(t.Context()); err != nil || len(w.stored()) != 1 {
			t.Errorf("%v, %d rows", err, len(w.stored()))
		}
	})
}

// TestBatcherHeedsContexts has an add that waits for a write end with its context.
func TestBatcherHeedsContexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Minute)
			return nil
		}
		b := ingest.NewBatcher(t.Context(), sink.New(w, sink.Config{WriteTimeout: time.Hour}).For(mds.DefaultTenant()), ingest.BatcherConfig{MaxRows: 1})
		done := make(chan error)
		go func() { done <- b.Add(context.Background(), bar("s", 0, 1)) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Add(ctx, bar("s", 1, 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := b.Close(t.Context()); err != nil || len(w.stored()) != 1 {
			t.Errorf("%v, %d rows", err, len(w.stored()))
		}
	})
}
