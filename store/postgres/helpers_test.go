package postgres_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func TestMain(m *testing.M) {
	code := m.Run()
	pgtest.Stop()
	os.Exit(code)
}

var ctx = context.Background()

// prepare makes a database one that the store can work with.
func prepare(d pgtest.Database) error {
	_, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(ctx, d.Owner, d.Service)
	return errors.Join(err, grantErr)
}

// migrated makes a database that the store can work with.
func migrated(t testing.TB) pgtest.Database {
	t.Helper()
	return pgtest.Fresh(t, "migrated", prepare)
}

// open opens a store for the time of the test.
func open(t testing.TB, dsn string, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, dsn, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// minute is a bar of a symbol in a minute of 2024.
func minute(symbol string, n int, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2024, 1, 1, 0, n, 0, 0, time.UTC), Close: price}
}

// write writes bars of the default tenant.
func write(t testing.TB, s *store.Store, bars ...mds.Bar) mds.Receipt {
	t.Helper()
	receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), bars)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// count counts the bars of the default tenant.
func count(t testing.TB, s *store.Store) int64 {
	t.Helper()
	n, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// waiting returns when n sessions of the database wait for a lock.
func waiting(t testing.TB, d pgtest.Database, n int) {
	t.Helper()
	conn, err := pgx.Connect(ctx, d.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for got := 0; got < n; {
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&got); err != nil {
			t.Fatal(err)
		}
	}
}

// gone returns when the sessions of the service, which was closed, have ended: the server counts
// what they did by then.
func gone(t testing.TB, d pgtest.Database) {
	t.Helper()
	for pgtest.Ask(t, d.Admin, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'service'") != "0" {
	}
}

// locked holds a lock on a table until the returned function is called.
func locked(t testing.TB, d pgtest.Database, table, mode string) (unlock func()) {
	t.Helper()
	conn, err := pgx.Connect(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	if _, err := conn.Exec(ctx, "BEGIN; LOCK TABLE mds_internal."+table+" IN "+mode+" MODE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			t.Error(err)
		}
	}
}
