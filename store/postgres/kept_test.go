package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// keepAnswer keeps an answer that was given some time ago.
func keepAnswer(t testing.TB, s *store.Store, tenant mds.Tenant, key string, ago time.Duration) {
	t.Helper()
	a := mds.KeptAnswer{Key: key, Operation: "POST /v1/bars", Status: 200, Body: []byte("{}\n"), At: time.Now().Add(-ago)}
	if _, err := s.KeepAnswer(ctx, tenant, a); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateFromBeforeKeptAnswers migrates a database as the version before has left it,
// whose service has its rights.
func TestMigrateFromBeforeKeptAnswers(t *testing.T) {
	d := migrated(t)
	write(t, open(t, d.Service, store.Config{}), minute("A", 0, 1))
	pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal.kept_answers, mds_internal.jobs, mds_internal.job_parts", "DELETE FROM mds_internal.migrations WHERE version_id >= 5")
	if _, err := store.Open(ctx, d.Service, store.Config{}); err == nil || !strings.Contains(err.Error(), "the database has schema version 4, and this mds needs 5; let the owner run mds migrate") {
		t.Fatalf("before: %v", err)
	}
	applied, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
	if err != nil || len(applied) != 3 || applied[0].Name != "0005_kept_answers.sql" {
		t.Fatalf("applied %+v, %v", applied, err)
	}
	s := open(t, d.Service, store.Config{})
	if _, _, err := s.KeptAnswer(ctx, mds.DefaultTenant(), "k"); !mds.Unavailable(err) || !strings.Contains(err.Error(), "let the owner run mds migrate, which gives the service's login its rights") {
		t.Errorf("without its rights: %v", err)
	}
	if _, err := postgres.GrantService(ctx, d.Owner, d.Service); err != nil {
		t.Fatal(err)
	}
	keepAnswer(t, s, mds.DefaultTenant(), "k", 0)
	if _, found, err := s.KeptAnswer(ctx, mds.DefaultTenant(), "k"); err != nil || !found {
		t.Errorf("%v, %v", found, err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars are left", n)
	}
}

// TestRightsOnKeptAnswers has logins look at answers: the service at those of one tenant at a
// time, a tenant's at none, not even with a right that it should not have.
func TestRightsOnKeptAnswers(t *testing.T) {
	d := twoTenants(t)
	s := open(t, d.Service, store.Config{})
	keepAnswer(t, s, d.acme, "a", 0)
	keepAnswer(t, s, d.rival, "r", 0)
	const all = "SELECT coalesce(string_agg(key, ' ' ORDER BY key), '') FROM mds_internal.kept_answers"
	for tenant, want := range map[string]string{"": "", d.acme.ID: "a", d.rival.ID: "r"} {
		if got := pgtest.Ask(t, d.Service, "SELECT set_config('app.tenant_id', '"+tenant+"', false) || ' ' || ("+all+")"); got != strings.TrimSpace(tenant+" "+want) && got != tenant+" "+want {
			t.Errorf("for %q the service sees %q", tenant, got)
		}
	}
	if got := pgtest.Ask(t, d.Owner, all); got != "a r" {
		t.Errorf("the owner sees %q", got)
	}
	conn, err := pgx.Connect(ctx, d.acmeLogin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, all); err == nil {
		t.Error("a tenant's login reads answers")
	}
	pgtest.Exec(t, d.Admin, "GRANT USAGE ON SCHEMA mds_internal TO "+d.Name+"_acme", "GRANT SELECT, INSERT ON mds_internal.kept_answers TO "+d.Name+"_acme")
	var got string
	if err := conn.QueryRow(ctx, all).Scan(&got); err != nil || got != "a" {
		t.Errorf("with the right it sees %q, %v", got, err)
	}
	_, err = conn.Exec(ctx, "INSERT INTO mds_internal.kept_answers SELECT $1::uuid, 'forged', operation, head_sha256, body_sha256, status, body, kept_at FROM mds_internal.kept_answers", d.rival.ID)
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("with the right it writes another's: %v", err)
	}
}

// TestOldAnswersGo has answers that are too old be removed as others are kept, a hundred at a
// time, also by several at once; those of other tenants stay theirs to remove.
func TestOldAnswersGo(t *testing.T) {
	d := twoTenants(t)
	s := open(t, d.Service, store.Config{})
	pgtest.Exec(t, d.Owner, fmt.Sprintf(`INSERT INTO mds_internal.kept_answers SELECT t.id, 'old-' || n, 'x', decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'), 200, 'x', now() - interval '24 hours 1 second'
		FROM mds_internal.tenants t CROSS JOIN generate_series(1, 450) n WHERE t.id IN ('%s', '%s')`, d.acme.ID, d.rival.ID))
	left := func(tenant mds.Tenant) string {
		return pgtest.Ask(t, d.Owner, "SELECT count(*) || ' ' || count(*) FILTER (WHERE key LIKE 'old-%') FROM mds_internal.kept_answers WHERE tenant_id = '"+tenant.ID+"'")
	}
	keepAnswer(t, s, d.acme, "new", 0)
	if got := left(d.acme); got != "351 350" {
		t.Errorf("after one there are %s", got)
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() { keepAnswer(t, s, d.acme, fmt.Sprint("new-", n), 0) })
	}
	all.Wait()
	if got := left(d.acme); got != "9 0" {
		t.Errorf("after nine there are %s", got)
	}
	if got := left(d.rival); got != "450 450" {
		t.Errorf("the rival has %s", got)
	}
}

// TestKeptAnswersWhileQueriesLast looks answers up, and keeps them, while queries have all the
// connections that they may take.
func TestKeptAnswersWhileQueriesLast(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{PoolMax: 2})
	write(t, s, minute("A", 0, 1), minute("A", 1, 1))
	for _, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(ctx, 10*time.Second)
		keepAnswer(t, s, mds.DefaultTenant(), "k", 0)
		if _, found, err := s.KeptAnswer(soon, mds.DefaultTenant(), "k"); err != nil || !found {
			t.Errorf("%v, %v", found, err)
		}
		cancel()
		break
	}
}
