package postgres_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// TestIDsOfAnotherTime has the database go back to before a series was stored, as a
// restore or the loss of a standby's last commits does, under a store that remembers its
// id; another series gets the id.
func TestIDsOfAnotherTime(t *testing.T) {
	for name, goBack := range map[string][]string{
		"rows removed":  {"DELETE FROM mds_internal.bar_facts_1m", "DELETE FROM mds_internal.bar_series", "ALTER TABLE mds_internal.bar_series ALTER id RESTART"},
		"rows replaced": {"DELETE FROM mds_internal.bar_facts_1m", "UPDATE mds_internal.bar_series SET symbol = 'GONE'"},
		"table emptied": {"TRUNCATE mds_internal.bar_facts_1m", "ALTER TABLE mds_internal.bar_series DISABLE TRIGGER ALL", "TRUNCATE mds_internal.bar_series RESTART IDENTITY", "ALTER TABLE mds_internal.bar_series ENABLE TRIGGER ALL"},
	} {
		t.Run(name, func(t *testing.T) {
			d := migrated(t)
			s := open(t, d.Service, store.Config{})
			acme, err := s.CreateTenant(ctx, "acme")
			if err != nil {
				t.Fatal(err)
			}
			write(t, s, minute("A", 0, 1))
			pgtest.Exec(t, d.Admin, goBack...)
			if _, err := store.Bars(open(t, d.Service, store.Config{})).WriteBatch(ctx, acme, []mds.Bar{minute("SECRET", 0, 7)}); err != nil {
				t.Fatal(err)
			}
			write(t, s, minute("A", 1, 42))
			var got []string
			for r, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(r.Symbol, " ", r.Close))
			}
			if strings.Join(got, ", ") != "A 42" {
				t.Errorf("the default tenant has %q", got)
			}
			if n, err := store.Bars(s).Count(ctx, acme, mds.Selection{}); err != nil || n != 1 {
				t.Errorf("the other has %d bars, %v", n, err)
			}
		})
	}
}

// TestIDsAfterARestart has the server's files put back to before a series was stored: the
// server is the same in all but the time when it was started.
func TestIDsAfterARestart(t *testing.T) {
	c := pgtest.Own(t)
	d := c.Database(t, prepare)
	s := open(t, d.Service, store.Config{})
	write(t, s, minute("A", 0, 1))
	pgtest.Exec(t, d.Admin, "ALTER TABLE mds_internal.bar_series DISABLE TRIGGER ALL", "DELETE FROM mds_internal.bar_series", "ALTER TABLE mds_internal.bar_series ENABLE TRIGGER ALL", "DELETE FROM mds_internal.bar_facts_1m", "CHECKPOINT")
	c.Kill(t)
	c.Restart(t)
	if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 1, 1)}); err != nil && !mds.Retryable(err) {
		t.Fatal(err)
	}
	write(t, s, minute("A", 1, 1))
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars", n)
	}
}

// TestUpdatedAt has it move when a value does, in every mode, and not otherwise.
func TestUpdatedAt(t *testing.T) {
	for name, attempts := range map[string]int{"at first": 2, "contended": 0} {
		defer postgres.SetMergeAttempts(postgres.SetMergeAttempts(attempts))
		for _, mode := range []string{postgres.WriteMerge, postgres.WriteUnnest} {
			d := migrated(t)
			s := open(t, d.Service, store.Config{WriteMode: mode})
			updated := func() string { return pgtest.Ask(t, d.Admin, "SELECT updated_at::text FROM mds_internal.bar_facts_1m") }
			write(t, s, minute("A", 0, 1))
			first := updated()
			write(t, s, minute("A", 0, 1))
			if again := updated(); again != first {
				t.Errorf("%s %s: sent again, it moved from %s to %s", mode, name, first, again)
			}
			write(t, s, minute("A", 0, 2))
			if other := updated(); other <= first {
				t.Errorf("%s %s: changed, it went from %s to %s", mode, name, first, other)
			}
		}
	}
}

// TestNewSeriesAtOnce has two writers store new series, of which one spells half of them
// in another way: they never wait for each other in a circle.
func TestNewSeriesAtOnce(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{})
	for round := range 3 {
		var wg sync.WaitGroup
		for w := range 2 {
			wg.Go(func() {
				var bars []mds.Bar
				for i := range 4_000 {
					symbol := fmt.Sprint("R", round, "S", i)
					if w == 1 && i%2 == 0 {
						symbol = strings.ToLower(symbol)
					}
					bars = append(bars, minute(symbol, 0, 1))
				}
				if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), bars); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := count(t, s); n != 12_000 {
		t.Errorf("%d bars", n)
	}
	if err := s.Close(); err != nil { // which has the server count
		t.Fatal(err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"); got != "0" {
		t.Errorf("%s deadlocks", got)
	}
}

// TestNoTableIsReadWhole writes new series, new rows, the same again and others, in every
// mode and without statistics: keys are looked up, no table of series or facts is read
// from its beginning to its end.
func TestNoTableIsReadWhole(t *testing.T) {
	for _, mode := range []string{postgres.WriteAuto, postgres.WriteMerge, postgres.WriteUnnest} {
		t.Run(mode, func(t *testing.T) {
			d := migrated(t)
			pgtest.Exec(t, d.Admin, "VACUUM (ANALYZE)") // the planner knows that all is empty
			s, err := store.Open(ctx, d.Service, store.Config{WriteMode: mode})
			if err != nil {
				t.Fatal(err)
			}
			var bars []mds.Bar
			var options []mds.OptionSnap
			const n = 3_000
			for i := range n {
				bars = append(bars, minute("S"+strconv.Itoa(i%1500), i/1500, 1))
				options = append(options, mds.OptionSnap{
					Vendor: "v", Symbol: "SPX", Expiry: mds.Date{Year: 2024, Month: 3, Day: 15}, OptionType: mds.Call,
					Strike: mds.Decimal(i+1) * 1_000_000_000, TS: time.Unix(60, 0), Bid: mds.Some(1.0),
				})
			}
			for _, change := range []func(){
				func() {},
				func() {},
				func() {
					for i := range n {
						bars[i].TS = bars[i].TS.Add(time.Minute) // half of them are there
						options[i].Bid = mds.Some(2.0)
					}
				},
			} {
				change()
				write(t, s, bars...)
				if _, err := store.Options(s).WriteBatch(ctx, mds.DefaultTenant(), options); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil { // which has the server count
				t.Fatal(err)
			}
			// A lookup reads no more than it finds.
			got := pgtest.Ask(t, d.Admin, `SELECT coalesce(string_agg(relname || ' ' || seq_tup_read || ' ' || coalesce(i.idx_tup_read, 0), ', '), 'none')
				FROM pg_stat_user_tables t LEFT JOIN (SELECT relid, sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes GROUP BY relid) i USING (relid)
				WHERE (relname LIKE '%\_series' OR relname LIKE '%\_facts%') AND (seq_scan > 20 OR seq_tup_read > 100 OR idx_tup_read > 40000)`)
			if got != "none" {
				t.Errorf("read whole: %s", got)
			}
		})
	}
}

// TestWhereSeriesGo has what a store believes of a series' last row be wrong, since
// another one wrote: nothing is lost, and it is found out once.
func TestWhereSeriesGo(t *testing.T) {
	d := migrated(t)
	s, other := open(t, d.Service, store.Config{}), open(t, d.Service, store.Config{})
	check := func(what string, s *store.Store, want mds.Receipt, bars ...mds.Bar) {
		t.Helper()
		if got := write(t, s, bars...); got != want {
			t.Errorf("%s: %+v; want %+v", what, got, want)
		}
	}
	check("the first", s, mds.Receipt{Written: 1, Modes: mds.WroteUnnest}, minute("A", 0, 1))
	check("a newer one", s, mds.Receipt{Written: 1, Modes: mds.WroteCopy}, minute("A", 1, 1))
	check("another's", other, mds.Receipt{Written: 2, Modes: mds.WroteUnnest}, minute("A", 2, 1), minute("A", 3, 1))
	check("one that is there, it turns out", s, mds.Receipt{Written: 1, Unchanged: 1, Modes: mds.WroteUnnest}, minute("A", 2, 1), minute("A", 3, 2))
	check("the next", s, mds.Receipt{Written: 1, Modes: mds.WroteUnnest}, minute("A", 4, 1))
	check("newer again", s, mds.Receipt{Written: 1, Modes: mds.WroteCopy}, minute("A", 5, 1))
	check("an older one", s, mds.Receipt{Written: 1, Modes: mds.WroteUnnest}, minute("A", 1, 2))
	if n := count(t, s); n != 6 {
		t.Errorf("%d bars", n)
	}
}
