package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t testing.TB) string { return migrated(t).Service })
}

func TestRollups(t *testing.T) {
	storetest.RunRollups(t, func(t testing.TB) (dsn, owner string) {
		d := migrated(t)
		return d.Service, d.Owner
	})
}

func TestKeys(t *testing.T) {
	storetest.RunKeys(t, func(t testing.TB) (dsn, owner string) {
		d := migrated(t)
		return d.Service, d.Owner
	})
}

func TestJobs(t *testing.T) {
	storetest.RunJobs(t, func(t testing.TB) string { return migrated(t).Service })
}

// TestManySeriesConform runs the suite as it is for a tenant of more series than are
// picked one by one.
func TestManySeriesConform(t *testing.T) {
	defer postgres.SetMaxPicked(postgres.SetMaxPicked(1))
	t.Run("one", func(t *testing.T) { storetest.Run(t, func(t testing.TB) string { return migrated(t).Service }) })
}

// TestModesConform runs the suite of kinds with every batch staged and merged, with every
// batch sent as arguments, and with both as they are where merges met others.
func TestModesConform(t *testing.T) {
	for name, attempts := range map[string]int{"at first": 2, "contended": 0} {
		before := postgres.SetMergeAttempts(attempts)
		for _, mode := range []string{postgres.WriteMerge, postgres.WriteUnnest} {
			t.Run(mode+" "+name, func(t *testing.T) {
				storetest.RunKinds(t, func(t testing.TB) string { return migrated(t).Service }, store.Config{WriteMode: mode})
			})
		}
		postgres.SetMergeAttempts(before)
	}
}

// TestMigrateTwiceAtOnce has eight begin at once: one migrates, the others wait and find
// nothing to do.
func TestMigrateTwiceAtOnce(t *testing.T) {
	d := pgtest.Empty(t)
	var wg sync.WaitGroup
	steps := make([]int, 8)
	for i := range steps {
		wg.Go(func() {
			applied, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
			if err != nil {
				t.Error(err)
			}
			steps[i] = len(applied)
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range steps {
		sum += n
	}
	list, err := postgres.Migrations(ctx, d.Owner, postgres.MigrateConfig{})
	if err != nil || sum != len(list) || sum == 0 || !list[len(list)-1].Applied {
		t.Errorf("%v migrations were applied by eight, %v; there are %+v", steps, err, list)
	}
}

// TestOpenRefuses has the ways in which a database is not ready, each with what to do.
func TestOpenRefuses(t *testing.T) {
	empty, ready, newer := pgtest.Empty(t), migrated(t), migrated(t)
	pgtest.Exec(t, newer.Owner, "INSERT INTO mds_internal.migrations (version_id, is_applied) VALUES (99, true)")
	other := func(dsn, from, to string) string { return strings.Replace(dsn, from, to, 1) }
	for _, c := range []struct{ name, dsn, want string }{
		{"not migrated", empty.Owner, "mds migrate"},
		{"a newer schema", newer.Service, "the database has schema version 99, and this mds knows up to 7; use a newer mds"},
		{"no such login", other(ready.Service, "service:", "nobody:secret"), "check the login"},
		{"a wrong password", other(ready.Service, "service:", "service:secret"), "check the login and its password"},
		{"no such database", other(ready.Service, "/test_", "/none_"), "make the database"},
		{"no server", "postgres://u:secret@127.0.0.1:1/x", "is the server running"},
		{"no host", "postgres://u:secret@nowhere.invalid/x", "no connection to nowhere.invalid:5432: "},
		{"no DSN", "postgres://u:secret@h:port/x", "write postgres://USER:PASSWORD@HOST:PORT/DATABASE"},
		{"an @ in the password", "postgres://u:sec@ret@h/x", "write @ as %40"},
		{"a bad escape", "postgres://u:sec%zzret@h/x", "write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for @"},
		{"an unknown sslmode", "postgres://u:secret@h/x?sslmode=foo", "sslmode is invalid"},
		{"a bad size", "postgres://u:secret@h/x?pool_max_conns=abc", "pool_max_conns"},
		{"keywords", "host=h user=u password=secret dbname=x", "write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST"},
		{"no scheme", "u:secret@h/x", "write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST"},
		{"another write mode", "", "write mode \"foo\": use auto, copy, merge or unnest"},
	} {
		cfg := store.Config{}
		if c.dsn == "" {
			c.dsn, cfg.WriteMode = ready.Service, "foo"
		}
		s, err := store.Open(ctx, c.dsn, cfg)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", c.name)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "secret") || strings.Contains(text, "sec@") || strings.Contains(text, "ret@") || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", c.name, text)
		}
	}
}

// TestSealed has a login of a tenant see that tenant's records through the views,
// whatever it sets, and nothing of the tables.
func TestSealed(t *testing.T) {
	d := migrated(t)
	s, err := store.Open(ctx, d.Service, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2024, 3, 5, 9, 0, 0, 0, time.UTC)
	for tenant, symbol := range map[mds.Tenant]string{acme: "ACME", mds.DefaultTenant(): "OTHER"} {
		if _, err := store.Bars(s).WriteBatch(ctx, tenant, []mds.Bar{{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: at, Close: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	reads := d.As(t, "reader")
	pgtest.Exec(t, d.Admin, "GRANT USAGE ON SCHEMA mds TO reader", "GRANT SELECT ON ALL TABLES IN SCHEMA mds TO reader")
	pgtest.Exec(t, d.Owner, "INSERT INTO mds_internal.tenant_logins VALUES ('reader', '"+acme.ID+"')")
	reader, err := pgx.Connect(ctx, reads)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close(ctx) }()
	for _, set := range []string{"SELECT 1", "SELECT set_config('app.tenant_id', '" + mds.DefaultTenant().ID + "', false)"} {
		if _, err := reader.Exec(ctx, set); err != nil {
			t.Fatal(err)
		}
		rows, err := reader.Query(ctx, "SELECT symbol FROM mds.bars")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(got) != 1 || got[0] != "ACME" {
			t.Errorf("after %s it reads %v, %v", set, got, err)
		}
	}
	for _, table := range []string{"bar_series", "bar_facts_1m", "tenants", "service_logins"} {
		if _, err := reader.Exec(ctx, "SELECT * FROM mds_internal."+table); err == nil {
			t.Errorf("it reads %s", table)
		}
	}
}

// TestGrantsByAnAdministrator has an owner who may not make logins: what it is told, run
// by an administrator, lets the service in.
func TestGrantsByAnAdministrator(t *testing.T) {
	d := migrated(t)
	dsn := strings.Replace(d.Service, "service:", "newcomer:", 1)
	_, rest, _ := strings.Cut(dsn, "newcomer:")
	password, _, _ := strings.Cut(rest, "@")
	_, err := postgres.GrantService(ctx, d.Owner, dsn)
	var denied *postgres.GrantError
	if !errors.As(err, &denied) || strings.Contains(denied.SQL+err.Error(), password) {
		t.Fatalf("an owner without CREATEROLE: %v", err)
	}
	pgtest.Exec(t, d.Admin, denied.SQL, "ALTER ROLE newcomer PASSWORD '"+password+"'")
	s, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if n, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 0 {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestEveryTimeframeHasItsTable writes a bar of each, by every way of writing.
func TestEveryTimeframeHasItsTable(t *testing.T) {
	d := migrated(t)
	var batch []mds.Bar
	for _, tf := range mds.Timeframes() {
		batch = append(batch, mds.Bar{Vendor: "v", Symbol: "A", Timeframe: tf, TS: time.Date(2024, 4, 1, 0, 0, 0, 0, time.UTC), Close: 1})
	}
	for _, c := range []struct {
		mode    string
		receipt mds.Receipt
		refused bool
	}{
		{mode: "merge", receipt: mds.Receipt{Written: int64(len(batch)), Modes: mds.WroteMerge}},
		{mode: "unnest", receipt: mds.Receipt{Unchanged: int64(len(batch)), Modes: mds.WroteUnnest}},
		{mode: "auto", receipt: mds.Receipt{Unchanged: int64(len(batch)), Modes: mds.WroteUnnest}},
		{mode: "copy", refused: true},
	} {
		s, err := store.Open(ctx, d.Service, store.Config{WriteMode: c.mode})
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch)
		if c.refused {
			var e *postgres.Error
			if !errors.As(err, &e) || e.Class != postgres.Constraint || mds.Retryable(err) {
				t.Errorf("%s: %v", c.mode, err)
			}
		} else if err != nil || receipt != c.receipt {
			t.Errorf("%s: %+v, %v; want %+v", c.mode, receipt, err, c.receipt)
		}
		if n, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != int64(len(batch)) {
			t.Errorf("%s: %d bars are stored, %v", c.mode, n, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
