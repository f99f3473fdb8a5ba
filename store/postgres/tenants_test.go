package postgres_test

import (
	"errors"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// TestWritersWaitForRemoval has batches sent while their tenant is being removed: they
// find none, and leave nothing behind.
func TestWritersWaitForRemoval(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	send := func(symbol string) error {
		_, err := store.Bars(s).WriteBatch(ctx, acme, []mds.Bar{minute(symbol, 0, 1)})
		return err
	}
	if err := send("A"); err != nil {
		t.Fatal(err)
	}
	unlock := locked(t, d, "news_item_facts", "ACCESS EXCLUSIVE")
	errs := make(chan error, 3)
	go func() { errs <- s.RemoveTenant(ctx, acme) }()
	waiting(t, d, 1)
	go func() { errs <- send("A") }()
	go func() { errs <- send("NEW") }()
	waiting(t, d, 3)
	unlock()
	removed, unknown := 0, 0
	for range 3 {
		switch err := <-errs; {
		case err == nil:
			removed++
		case errors.Is(err, mds.ErrUnknownTenant):
			unknown++
		default:
			t.Error(err)
		}
	}
	if removed != 1 || unknown != 2 {
		t.Errorf("%d succeeded, %d found no tenant", removed, unknown)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT (SELECT count(*) FROM mds_internal.bar_facts_1m) + (SELECT count(*) FROM mds_internal.bar_series)"); got != "0" {
		t.Errorf("%s rows are left", got)
	}
}

// TestRemovalWaitsForWriters has a tenant removed while a batch of it is being written.
func TestRemovalWaitsForWriters(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service+"&default_transaction_isolation=repeatable%20read", store.Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	unlock := locked(t, d, "bar_facts_1m", "SHARE")
	errs := make(chan error, 2)
	go func() {
		_, err := store.Bars(s).WriteBatch(ctx, acme, []mds.Bar{minute("A", 0, 1)})
		errs <- err
	}()
	waiting(t, d, 1)
	go func() { errs <- s.RemoveTenant(ctx, acme) }()
	waiting(t, d, 2)
	unlock()
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Error(err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.bar_facts_1m"); got != "0" {
		t.Errorf("%s rows are left", got)
	}
}
