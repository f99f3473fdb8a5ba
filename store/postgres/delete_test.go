package postgres_test

import (
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// TestDeletionMeetsAChange deletes rows of which one is being changed: it waits, and
// deletes that one, too.
func TestDeletionMeetsAChange(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{})
	five := minute("A", 0, 1)
	five.Timeframe = "5m"
	write(t, s, minute("A", 0, 1), minute("A", 1, 1), minute("A", 2, 1), five)
	five.Close = 2
	unlock := locked(t, d, "bar_facts_5m", "SHARE")
	changed := make(chan error, 1)
	go func() { // it holds the minute, and waits for the five
		_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 1, 2), five})
		changed <- err
	}()
	waiting(t, d, 1)
	deleted := make(chan int64, 1)
	go func() {
		n, err := store.Bars(s).Delete(ctx, mds.DefaultTenant(), mds.Selection{Timeframe: mds.Minute})
		if err != nil {
			t.Error(err)
		}
		deleted <- n
	}()
	waiting(t, d, 2)
	unlock()
	if err := <-changed; err != nil {
		t.Error(err)
	}
	if n := <-deleted; n != 3 {
		t.Errorf("%d deleted", n)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars are left", n)
	}
}

// TestDeletionFromPartitions has the facts lie in partitions, where two rows may have one
// place: only what is picked goes.
func TestDeletionFromPartitions(t *testing.T) {
	d := migrated(t)
	pgtest.Exec(t, d.Owner, "ALTER TABLE mds_internal.bar_facts_1m RENAME TO plain",
		"CREATE TABLE mds_internal.bar_facts_1m (LIKE mds_internal.plain, PRIMARY KEY (series_id, ts)) PARTITION BY RANGE (ts)",
		"CREATE TABLE mds_internal.part1 PARTITION OF mds_internal.bar_facts_1m FOR VALUES FROM (MINVALUE) TO ('2024-01-01 00:30Z')",
		"CREATE TABLE mds_internal.part2 PARTITION OF mds_internal.bar_facts_1m FOR VALUES FROM ('2024-01-01 00:30Z') TO (MAXVALUE)",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON mds_internal.bar_facts_1m TO service")
	s := open(t, d.Service, store.Config{})
	write(t, s, minute("A", 0, 1))
	write(t, s, minute("B", 59, 1))
	n, err := store.Bars(s).Delete(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"A"}})
	if left := count(t, s); err != nil || n != 1 || left != 1 {
		t.Errorf("%d deleted, %v; %d left", n, err, left)
	}
}
