package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// inEachWay runs a test with batches staged and sent as arguments, each as they are at
// first and where merges met others.
func inEachWay(t *testing.T, test func(*testing.T, pgtest.Database, *store.Store)) {
	for name, attempts := range map[string]int{"at first": 2, "contended": 0} {
		for _, mode := range []string{postgres.WriteMerge, postgres.WriteUnnest} {
			t.Run(mode+" "+name, func(t *testing.T) {
				defer postgres.SetMergeAttempts(postgres.SetMergeAttempts(attempts))
				d := migrated(t)
				test(t, d, open(t, d.Service, store.Config{WriteMode: mode}))
			})
		}
	}
}

// writeLate writes late bars of the default tenant, and wants a receipt.
func writeLate(t testing.TB, s *store.Store, as time.Time, want mds.Receipt, bars ...mds.Bar) {
	t.Helper()
	got, err := store.Bars(s).WriteLate(ctx, mds.DefaultTenant(), bars, as)
	if got.Modes = 0; err != nil || got != want {
		t.Errorf("late: %+v, %v; want %+v", got, err, want)
	}
}

// closes are what the bars of the default tenant closed at, in order of identity.
func closes(t testing.TB, s *store.Store) string {
	t.Helper()
	var out []string
	for b, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{ByIdentity: true}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(b.Symbol, b.Close))
	}
	return strings.Join(out, " ")
}

// TestLateToTheMicrosecond has rows of three moments, and records that come late as of the
// second: what changed in the same microsecond stays.
func TestLateToTheMicrosecond(t *testing.T) {
	inEachWay(t, func(t *testing.T, d pgtest.Database, s *store.Store) {
		for _, symbol := range []string{"A", "B", "C"} {
			write(t, s, minute(symbol, 0, 1))
		}
		conn, err := pgx.Connect(ctx, d.Admin)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		var second time.Time
		if err := conn.QueryRow(ctx, "SELECT updated_at FROM mds_internal.bar_facts_1m ORDER BY updated_at OFFSET 1 LIMIT 1").Scan(&second); err != nil {
			t.Fatal(err)
		}
		late := []mds.Bar{minute("A", 0, 2), minute("B", 0, 2), minute("C", 0, 2)}
		writeLate(t, s, second.Add(999*time.Nanosecond), mds.Receipt{Written: 1, Superseded: 2}, late...)
		if got := closes(t, s); got != "A2 B1 C1" {
			t.Errorf("stored are %s", got)
		}
		writeLate(t, s, second.Add(time.Microsecond), mds.Receipt{Written: 1, Unchanged: 1, Superseded: 1}, late...)
		if got := closes(t, s); got != "A2 B2 C1" {
			t.Errorf("a microsecond later stored are %s", got)
		}
	})
}

// TestLateMeetsAnother has a late batch wait for one who is writing its keys: what that
// one commits stays, and is what the receipt is about.
func TestLateMeetsAnother(t *testing.T) {
	inEachWay(t, func(t *testing.T, d pgtest.Database, s *store.Store) {
		var late []mds.Bar
		for _, symbol := range []string{"CHANGED", "DELETED", "EQUAL", "NEW", "OLD"} {
			write(t, s, minute(symbol, 0, 1))
			late = append(late, minute(symbol, 0, 3))
		}
		change := func(change, symbol string) string {
			return fmt.Sprintf("%s s WHERE s.id = f.series_id AND s.symbol = '%s'", change, symbol)
		}
		const (
			update = "UPDATE mds_internal.bar_facts_1m f SET close = %d, updated_at = now() FROM mds_internal.bar_series"
			remove = "DELETE FROM mds_internal.bar_facts_1m f USING mds_internal.bar_series"
		)
		pgtest.Exec(t, d.Admin, change(remove, "NEW"), "UPDATE mds_internal.bar_facts_1m SET updated_at = '2001-01-01'")
		_, release := holding(t, d.Admin, change(fmt.Sprintf(update, 2), "CHANGED"), change(remove, "DELETED"), change(fmt.Sprintf(update, 3), "EQUAL"),
			"INSERT INTO mds_internal.bar_facts_1m (series_id, ts, close, updated_at) SELECT id, '2024-01-01 00:00Z', 2, now() FROM mds_internal.bar_series WHERE symbol = 'NEW'")
		done := make(chan error)
		go func() {
			defer close(done)
			writeLate(t, s, time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), mds.Receipt{Written: 2, Unchanged: 1, Superseded: 2}, late...)
		}()
		if waitsIn(t, d, done) == "" {
			t.Fatal("it did not wait for the other")
		}
		release()
		<-done
		if got := closes(t, s); got != "CHANGED2 DELETED3 EQUAL3 NEW2 OLD3" {
			t.Errorf("stored are %s", got)
		}
	})
}

// TestLateIsCounted has a late batch wait in the middle: nobody changes a row that stays
// before it is counted.
func TestLateIsCounted(t *testing.T) {
	inEachWay(t, func(t *testing.T, d pgtest.Database, s *store.Store) {
		longer := minute("B", 0, 1)
		longer.Timeframe = mds.Minute5 // is written after the other
		write(t, s, minute("A", 0, 1), longer)
		_, release := holding(t, d.Admin, "SELECT FROM mds_internal.bar_facts_5m FOR UPDATE")
		done := make(chan error)
		go func() {
			defer close(done)
			late := longer
			late.Close = 2
			writeLate(t, s, time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), mds.Receipt{Superseded: 2}, minute("A", 0, 2), late)
		}()
		if waitsIn(t, d, done) == "" {
			t.Fatal("it did not wait for a row that stays")
		}
		conn, err := pgx.Connect(ctx, d.Admin)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, "SELECT FROM mds_internal.bar_facts_1m FOR UPDATE NOWAIT"); err == nil {
			t.Error("the row that stays can be changed meanwhile")
		}
		release()
		<-done
		if got := closes(t, s); got != "A1 B1" {
			t.Errorf("stored are %s", got)
		}
	})
}

// TestLateWhereAnotherWas has a store believe that nothing can be there, since another one
// wrote: the late row is copied in vain, and superseded as it is written again.
func TestLateWhereAnotherWas(t *testing.T) {
	d := migrated(t)
	s, other := open(t, d.Service, store.Config{}), open(t, d.Service, store.Config{})
	write(t, s, minute("A", 0, 1))
	write(t, other, minute("A", 1, 1), minute("A", 2, 1))
	writeLate(t, s, time.Unix(0, 0), mds.Receipt{Written: 1, Unchanged: 1, Superseded: 1}, minute("A", 1, 2), minute("A", 2, 1), minute("A", 3, 2))
	if got := closes(t, s); got != "A1 A1 A1 A2" {
		t.Errorf("stored are %s", got)
	}
}

// TestLateReadsNoTableWhole has keys be looked up in the table, as late rows are written
// and as they are counted, also where the planner believes that it has a single row.
func TestLateReadsNoTableWhole(t *testing.T) {
	for _, mode := range []string{postgres.WriteMerge, postgres.WriteUnnest} {
		t.Run(mode, func(t *testing.T) {
			d := migrated(t)
			var bars []mds.Bar
			for i := range 3_000 {
				bars = append(bars, minute(fmt.Sprint("S", i%1500), i/1500, 1))
			}
			do := func(write func(*store.Store)) {
				s, err := store.Open(ctx, d.Service, store.Config{WriteMode: mode})
				if err != nil {
					t.Fatal(err)
				}
				write(s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				gone(t, d)
			}
			do(func(s *store.Store) { write(t, s, bars...) })
			pgtest.Exec(t, d.Admin, "DELETE FROM mds_internal.bar_facts_1m WHERE ctid < (SELECT max(ctid) FROM mds_internal.bar_facts_1m)", "VACUUM (ANALYZE) mds_internal.bar_facts_1m")
			do(func(s *store.Store) { write(t, s, bars...) })
			pgtest.Exec(t, d.Admin, "SELECT pg_stat_reset()")
			late := slices.Clone(bars[:100])
			for i := range late {
				late[i].Close = 2
			}
			do(func(s *store.Store) {
				writeLate(t, s, time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), mds.Receipt{Superseded: 100}, late...)
			})
			got := pgtest.Ask(t, d.Admin, `SELECT t.seq_tup_read || ' in order, ' || sum(i.idx_tup_read) || ' by the index' FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)
				WHERE t.relname = 'bar_facts_1m' GROUP BY t.seq_tup_read`)
			if got != "0 in order, 200 by the index" {
				t.Errorf("read were %s; want each row once as it is met, and once as it is counted", got)
			}
		})
	}
}
