package duckdb

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// TestRemoveTenantBesideOthers removes a tenant while a query of it is under way,
// which is refused, and beside a write, which it waits for no longer than its context.
func TestRemoveTenantBesideOthers(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	tenant, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.WriteBatch(ctx, tenant, bars(10, 1)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range table.Query(ctx, tenant, mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if err := s.RemoveTenant(ctx, tenant); err == nil || !mds.Retryable(err) {
				t.Errorf("removed while it is read: %v", err)
			}
		}
		n++
	}
	if n != 10 {
		t.Errorf("%d bars were read", n)
	}
	f, err := s.file(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.lockWriter(ctx); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if err := s.RemoveTenant(short, tenant); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("removed beside a write: %v", err)
	}
	f.upkeep.kinds = map[string]*keeping{"bars": {rows: 100, layout: small, compact: func(context.Context, turn, *mds.Compaction) error {
		t.Error("what is removed is compacted")
		return nil
	}}}
	f.unlockWriter()
	if err := s.RemoveTenant(ctx, tenant); err != nil {
		t.Error(err)
	}
	if _, err := f.info(ctx); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("who still has the file is told %v", err)
	}
	if _, err := s.Tenant(ctx, "acme"); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("the tenant that was removed: %v", err)
	}
	if tenant, err = s.CreateTenant(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if n, err := table.Count(ctx, tenant, mds.Selection{}); err != nil || n != 0 {
		t.Errorf("the tenant that was made anew has %d bars, %v", n, err)
	}
}
