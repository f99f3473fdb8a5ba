package duckdb

import (
	"context"
	"errors"
	"testing"

	"github.com/marketdatastore/mds"
)

// TestRemoveTenantBesideOthers removes a tenant while a query of it is under way,
// which is refused, and while a write waits, which is told that it is gone.
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
	waiting, removed := make(chan error), make(chan error)
	go func() {
		_, err := table.WriteBatch(ctx, tenant, bars(10, 2))
		waiting <- err
	}()
	waitFor(t, queueOf[mds.Bar](f, "bars"), 1)
	go func() { removed <- s.RemoveTenant(ctx, tenant) }()
	if err := <-waiting; !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("the write that waited: %v", err)
	}
	f.unlockWriter()
	if err := <-removed; err != nil {
		t.Error(err)
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
