package duckdb

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/marketdatastore/mds"
)

// TestSnapshotsAreWhole counts rows all the time while batches of several row groups
// are written and moved, which takes DuckDB a while to commit: a count has all rows of
// a batch, each once, or none.
func TestSnapshotsAreWhole(t *testing.T) {
	t.Run("large batches, moved", func(t *testing.T) { countWhileWriting(t, 260_000, 4, true) })
	t.Run("small batches", func(t *testing.T) { countWhileWriting(t, 5_000, 100, false) })
}

func countWhileWriting(t *testing.T, size, batches int, move bool) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx := context.Background()
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var counts atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			last := int64(0)
			for !stop.Load() {
				n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{})
				if err != nil || n%int64(size) != 0 || n < last {
					t.Errorf("%d rows after %d, %v; batches have %d", n, last, err, size)
					return
				}
				last = n
				counts.Add(1)
			}
		})
	}
	for b := range batches {
		batch := make([]mds.Bar, size)
		for i := range batch {
			batch[i] = modelBar(i%100, b*size/100+i/100, float64(i))
		}
		write(t, s, batch)
		if !move {
			continue
		}
		err := f.taking(ctx, func() error {
			const all = 1 << 50 // rows of the transaction itself are beyond
			return table.move(ctx, f, []run{{0, all, 0}}, new(mds.Compaction))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop.Store(true)
	wg.Wait()
	if counts.Load() == 0 {
		t.Error("nothing was counted")
	}
}
