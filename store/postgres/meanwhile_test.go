package postgres_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// What others do while a table is copied and another one takes its place.

// blocked returns when a session waits for a lock on one of these relations, or for an advisory
// one where "" is among them.
func blocked(t testing.TB, d pgtest.Database, relations ...string) {
	t.Helper()
	query := "SELECT count(*) FROM pg_locks l JOIN pg_database b ON b.oid = l.database AND b.datname = current_database() LEFT JOIN pg_class c ON c.oid = l.relation WHERE NOT l.granted AND coalesce(c.relname, '') IN ('" + strings.Join(relations, "', '") + "')"
	for limit := time.Now().Add(time.Minute); pgtest.Ask(t, d.Admin, query) == "0"; {
		if time.Now().After(limit) {
			t.Fatalf("nobody waits for %q", relations)
		}
	}
}

// copying has the table of minutes become one of parts when it begins, which waits within the
// statement that copies, after its snapshot, until goOn is called. It yields how that ended.
func copying(t *testing.T, d pgtest.Database, k *postgres.Keeper) (begin func() <-chan error, goOn func()) {
	t.Helper()
	if pgtest.Timescale() {
		t.Skip("with TimescaleDB tables of parts are hypertables")
	}
	steps := due(t, k, monthly())
	// Each row that comes waits while somebody holds the lock.
	pgtest.Exec(t, d.Owner,
		"CREATE FUNCTION public.may_pass() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4242); RETURN true; END $$",
		"GRANT EXECUTE ON FUNCTION public.may_pass() TO PUBLIC",
		"ALTER TABLE mds_internal.bar_facts_1m ADD CONSTRAINT may_pass CHECK (public.may_pass()) NOT VALID")
	_, goOn = holding(t, d.Admin, "SELECT pg_advisory_xact_lock(4242)")
	begin = func() <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := k.Do(ctx, steps[0])
			done <- err
		}()
		return done
	}
	return begin, goOn
}

// granting has GrantService give a login its rights, and be done but for the last of it. It
// ends when goOn is called, and done yields how.
func granting(t *testing.T, d pgtest.Database, login string) (goOn func(), done <-chan error) {
	t.Helper()
	goOn = locked(t, d, "service_logins", "SHARE")
	ended := make(chan error, 1)
	go func() {
		_, err := postgres.GrantService(ctx, d.Owner, login)
		ended <- err
	}()
	blocked(t, d, "service_logins")
	return goOn, ended
}

// TestRemovedWhileCopied has a tenant be removed while the table is copied: nothing of it is in
// the table that takes the place.
func TestRemovedWhileCopied(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, minute("KEPT", 1, 1))
	if _, err := store.Bars(s).WriteBatch(ctx, acme, []mds.Bar{minute("SECRET", 1, 7), minute("SECRET", 2, 7)}); err != nil {
		t.Fatal(err)
	}
	begin, goOn := copying(t, d, k)
	done := begin()
	blocked(t, d, "")
	// Who removes the tenant is past the tables of bars, and waits.
	remove := locked(t, d, "option_facts", "SHARE")
	removed := make(chan error, 1)
	go func() { removed <- s.RemoveTenant(ctx, acme) }()
	blocked(t, d, "option_facts")
	goOn() // it is compared, with what the removal has not committed
	blocked(t, d, "tenants")
	remove()
	if err := errors.Join(<-removed, <-done); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT count(*) || ' of ' || count(DISTINCT series_id) FROM mds_internal.bar_facts_1m"); got != "1 of 1" {
		t.Errorf("in the table are %s series", got)
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'mds_internal.bar_facts_1m'::regclass"); n == "0" {
		t.Error("it is not one of parts")
	}
}

// TestGrantWhileCopied has another login of the service get its rights while a copy is begun: it
// has them on the table that takes the place.
func TestGrantWhileCopied(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 1, 1))
	second := d.As(t, d.Name+"_second")
	begin, goOn := copying(t, d, k)
	given, granted := granting(t, d, second)
	done := begin()
	blocked(t, d, "tenant_logins", "")
	given()
	goOn()
	if err := errors.Join(<-granted, <-done); err != nil {
		t.Fatal(err)
	}
	other := open(t, second, store.Config{})
	if _, err := store.Bars(other).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 2, 1)}); err != nil {
		t.Errorf("it writes: %v", err)
	}
}

// TestGrantAtTheSwap has a login get its rights when a copy is about to take the table's place:
// that waits.
func TestGrantAtTheSwap(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 1, 1))
	begin, goOn := copying(t, d, k)
	done := begin()
	blocked(t, d, "")
	given, granted := granting(t, d, d.Service)
	goOn()
	blocked(t, d, "tenant_logins")
	given()
	if err := errors.Join(<-granted, <-done); err != nil {
		t.Error(err)
	}
}

// TestStepsOfBefore has a policy be changed between what is due and that it is done: nobody asks
// for that any more, and it is not.
func TestStepsOfBefore(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 1, 1))
	before := monthly()
	before.CompressAfter, before.DropAfter = mds.Age{N: 1, Unit: 'y'}, mds.Age{N: 2, Unit: 'y'}
	for _, p := range []mds.Policy{before, {Kind: before.Kind, Timeframe: before.Timeframe}} {
		if _, err := k.Keep(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	for _, action := range []string{mds.StepPartition, mds.StepCompress, mds.StepDrop} {
		if _, err := k.Do(ctx, mds.Step{Action: action, Policy: before, Before: time.Now()}); !errors.Is(err, mds.ErrPolicyChanged) || !mds.Retryable(err) {
			t.Errorf("%s: %v", action, err)
		}
	}
	if kind := pgtest.Ask(t, d.Admin, "SELECT relkind::text FROM pg_class WHERE oid = 'mds_internal.bar_facts_1m'::regclass"); kind != "r" {
		t.Errorf("the table is of the kind %s", kind)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars are left", n)
	}
}
