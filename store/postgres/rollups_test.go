package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// hourly is a policy of minutes with hours made of them.
func hourly() mds.Policy {
	return mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: []mds.Timeframe{mds.Hour}}
}

// holding runs statements in a transaction that it leaves open; release ends it.
func holding(t *testing.T, dsn string, texts ...string) (tx pgx.Tx, release func()) {
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err = conn.Begin(ctx)
	for i := 0; i < len(texts) && err == nil; i++ {
		_, err = tx.Exec(ctx, texts[i])
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx, func() {
		t.Helper()
		if err := tx.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// waitsIn is the statement in which what is done waits for a lock, "" where it has ended.
func waitsIn(t *testing.T, d pgtest.Database, done <-chan error) string {
	t.Helper()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return ""
		default:
		}
		if text := pgtest.Ask(t, d.Admin, "SELECT coalesce(max(query), '') FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); text != "" {
			return text
		}
	}
}

// TestRefreshWaitsForAnother has one refresh wait for another: it might write what it read
// before that one did.
func TestRefreshWaitsForAnother(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	if _, err := k.Keep(ctx, hourly()); err != nil {
		t.Fatal(err)
	}
	write(t, s, minute("A", 0, 1))
	_, release := holding(t, d.Service, "SELECT FROM mds_internal.policies WHERE facts = 'bar_facts_1m' FOR NO KEY UPDATE")
	done := make(chan error, 1)
	go func() {
		_, err := s.Refresh(ctx, mds.DefaultTenant(), 0)
		done <- err
	}()
	if text := waitsIn(t, d, done); !strings.HasPrefix(text, "SELECT rollups, zone, kept_from") {
		t.Fatalf("a second refresh did not wait before it read, but in %q", text)
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRollupsBeginAfterWriters begins rollups while a writer that does not know of them is
// under way: what it writes is in them.
func TestRollupsBeginAfterWriters(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 0, 1))
	tx, release := holding(t, d.Service, fmt.Sprintf("SELECT FROM mds_internal.begin_for('%s', 'write', NULL)", mds.DefaultTenant().ID))
	done := make(chan error, 1)
	go func() {
		_, err := k.Keep(ctx, hourly())
		done <- err
	}()
	if waitsIn(t, d, done) == "" {
		t.Fatal("rollups were begun beside a writer")
	}
	if _, err := tx.Exec(ctx, "INSERT INTO mds_internal.bar_facts_1m (series_id, ts, close, updated_at) SELECT id, '2024-01-01 05:00Z', 7, now() FROM mds_internal.bar_series"); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Refresh(ctx, mds.DefaultTenant(), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := store.TableOf[mds.Rollup](s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 2 {
		t.Errorf("%d rollups, want those of both hours; %v", n, err)
	}
}

// TestRefreshKilled ends refreshes and drops at any moment: what was read before is read
// after, and the next ones complete.
func TestRefreshKilled(t *testing.T) {
	d := migrated(t)
	k := keeper(t, d)
	s := open(t, d.Service, store.Config{})
	first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	bars := make([]mds.Bar, 30_000)
	for i := range bars {
		bars[i] = mds.Bar{Vendor: "v", Symbol: fmt.Sprint("S", i%5), Timeframe: mds.Minute, TS: first.Add(time.Duration(i/5) * 2 * time.Minute), Close: float64(i)}
	}
	p := hourly()
	p.DropAfter = mds.Age{N: 1, Unit: 'd'}
	if _, err := k.Keep(ctx, p); err != nil {
		t.Fatal(err)
	}
	defer postgres.SetRefreshBars(postgres.SetRefreshBars(3_000))
	write(t, s, bars...)
	answer := func() (closes float64) {
		t.Helper()
		for b, err := range s.Resample(ctx, mds.DefaultTenant(), mds.ResampleQuery{Every: mds.Hour}) {
			if err != nil {
				t.Fatal(err)
			}
			closes += b.Close
		}
		return closes
	}
	want := answer()
	kill := func(login string, doing func() error) error {
		done := make(chan error, 1)
		go func() { done <- doing() }()
		pgtest.Exec(t, d.Admin, "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = current_database() AND usename = '"+login+"' AND state <> 'idle'")
		return <-done
	}
	killed := 0
	for range 15 {
		err := kill("service", func() error {
			_, err := s.Refresh(ctx, mds.DefaultTenant(), 0)
			return err
		})
		if err != nil {
			killed++
		}
		if got := answer(); got != want {
			t.Fatalf("closes add up to %v after one that was killed, want %v", got, want)
		}
	}
	if _, err := s.Refresh(ctx, mds.DefaultTenant(), 0); err != nil {
		t.Fatal(err)
	}
	if got := answer(); got != want {
		t.Errorf("closes add up to %v of rollups, want %v", got, want)
	}
	steps, err := k.Due(ctx, []mds.Policy{p}, first.AddDate(0, 0, 60))
	if err != nil || len(steps) != 1 {
		t.Fatal(steps, err)
	}
	for range 5 {
		of := keeper(t, d)
		if err := kill("mds", func() error { _, err := of.Do(ctx, steps[0]); return err }); err != nil {
			killed++
		}
		if got := answer(); got != want {
			t.Fatalf("closes add up to %v after a drop that was killed, want %v", got, want)
		}
	}
	do(t, keeper(t, d), steps[0])
	if got := answer(); got != want {
		t.Errorf("closes add up to %v after bars were dropped, want %v", got, want)
	}
	if n, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 0 {
		t.Errorf("%d bars are left, %v", n, err)
	}
	if killed == 0 {
		t.Error("none was killed in time")
	}
}
