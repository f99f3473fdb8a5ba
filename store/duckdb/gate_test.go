package duckdb

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func firstError[R any](records iter.Seq2[R, error]) error {
	for _, err := range records {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDeadlinesAtTheGate has a large commit wait for a statement that reads, and a
// reader for a commit: neither waits longer than its context.
func TestDeadlinesAtTheGate(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if err := f.scans.share(ctx); err != nil {
		t.Fatal(err)
	}
	// What goes into an empty table is large, however small it is.
	_, err = table.WriteBatch(short(), mds.DefaultTenant(), bars(1, 1))
	if !errors.Is(err, context.DeadlineExceeded) || !mds.Retryable(err) {
		t.Errorf("a commit beside a statement that reads: %v", err)
	}
	f.scans.unshare()
	write(t, s, bars(1, 1))
	if err := f.scans.share(ctx); err != nil {
		t.Fatal(err)
	}
	if receipt := write(t, s, bars(2, 1)); receipt.Written != 1 {
		t.Errorf("a small commit beside a statement that reads: %+v", receipt)
	}
	many := make([]mds.Bar, rowGroup/2)
	for i := range many {
		many[i] = modelBar(i%100, i/100, 1)
	}
	if _, err := table.WriteBatch(short(), mds.DefaultTenant(), many); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a large commit beside a statement that reads: %v", err)
	}
	f.scans.unshare()
	if err := f.scans.lock(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Count(short(), mds.DefaultTenant(), mds.Selection{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading beside a large commit: %v", err)
	}
	if err := firstError(table.Query(short(), mds.DefaultTenant(), mds.Query{})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query beside a large commit: %v", err)
	}
	f.scans.unlock()
	// A query that goes by row ids does not begin while these may change.
	if err := f.rows.pinning.lock(ctx); err != nil {
		t.Fatal(err)
	}
	if err := firstError(NewTable[mds.News](s).Query(short(), mds.DefaultTenant(), mds.Query{})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query of news while the file is written out: %v", err)
	}
	f.rows.pinning.unlock()
	if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 2 {
		t.Errorf("%d bars, %v", n, err)
	}
}
