package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// TestReadersLeaveConnections has as many as can read at once write for each row.
func TestReadersLeaveConnections(t *testing.T) {
	d := migrated(t)
	for _, most := range []int{1, 2, 8} {
		s := open(t, d.Service, store.Config{PoolMax: most})
		write(t, s, minute("A", 0, 1), minute("A", 1, 1))
		readers := max(2, most) - max(1, most/4)
		var reading, done sync.WaitGroup
		reading.Add(readers)
		for range readers {
			done.Go(func() {
				first := true
				for r, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{Selection: mds.Selection{Symbols: []string{"A"}}}) {
					if err != nil {
						t.Error(err)
						return
					}
					if first {
						first = false
						reading.Done()
						reading.Wait()
					}
					r.Symbol = "B"
					if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{r}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done.Wait()
	}
}

// TestNoConnectionIsFree has a query within a query, with connections for one: it says so
// instead of waiting for itself.
func TestNoConnectionIsFree(t *testing.T) {
	s := open(t, migrated(t).Service, store.Config{PoolMax: 2})
	write(t, s, minute("A", 0, 1))
	for _, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		s.Backend.(*postgres.Store).SetPatience(10 * time.Millisecond)
		_, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{})
		var e *postgres.Error
		if !errors.As(err, &e) || e.Class != postgres.Unavailable || !mds.Retryable(err) {
			t.Error(err)
		}
	}
}

// TestLeavingAQueryEarly reads one row of many over a slow connection: the rest is not
// waited for.
func TestLeavingAQueryEarly(t *testing.T) {
	d := migrated(t)
	write(t, open(t, d.Service, store.Config{}), minute("A", 0, 1))
	pgtest.Exec(t, d.Admin, `INSERT INTO mds_internal.bar_facts_1m (series_id, ts, close, updated_at)
		SELECT 1, timestamptz '2000-01-01' + n * interval '1 minute', 1, now() FROM generate_series(1, 1000000) n`)
	p := pgtest.NewProxy(t, d.Cluster.Addr())
	s := open(t, d.Through(d.Service, p.Listen), store.Config{})
	p.Add("bandwidth", pgtest.ToClient, map[string]any{"rate": 1000}) // KB/s: all would take over a minute
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	n := 0
	for _, err := range store.Bars(s).Query(limited, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 10 {
			break
		}
	}
	if err := limited.Err(); err != nil {
		t.Errorf("after %d rows: %v", n, err)
	}
}

// TestTrips counts the trips to the server: a transaction for a tenant begins in one, with
// its settings and its tenant, as BEGIN alone would.
func TestTrips(t *testing.T) {
	s := open(t, migrated(t).Service, store.Config{PoolMax: 2})
	backend, ok := s.Backend.(*postgres.Store)
	if !ok {
		t.Fatal("another backend")
	}
	write(t, s, minute("A", 0, 1), minute("B", 0, 1))
	var trace bytes.Buffer
	if err := backend.Trace(ctx, &trace); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what  string
		trips int
		do    func() error
	}{
		{"a transaction with nothing in it", 2, func() error { return s.Ping(ctx, mds.DefaultTenant()) }},
		{"a batch that is copied", 3, func() error { write(t, s, minute("A", 1, 1), minute("B", 1, 1)); return nil }},
		{"a batch that is there", 3, func() error { write(t, s, minute("A", 1, 1), minute("B", 1, 1)); return nil }},
	} {
		trace.Reset()
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		trips := strings.Count(trace.String(), "ReadyForQuery")
		trips -= strings.Count(trace.String(), `"-- ping"`) // of a connection that nobody had for a second
		if trips != c.trips {
			t.Errorf("%s: %d trips, want %d\n%s", c.what, trips, c.trips, trace.String())
		}
	}
}
