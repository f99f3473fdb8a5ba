package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// batches are n batches of 400 bars of 20 symbols, in order of time.
func batches(n int) [][]mds.Bar {
	all := make([][]mds.Bar, n)
	for i := range all {
		for k := range 400 {
			all[i] = append(all[i], minute(fmt.Sprint("S", k%20), i*20+k/20, float64(i)))
		}
	}
	return all
}

// wantError checks what is said of a failure, that it may be tried again, and that it
// says neither a password nor more than a line.
func wantError(t *testing.T, err error, class postgres.Class, retryable bool, words string) {
	t.Helper()
	var e *postgres.Error
	if !errors.As(err, &e) || e.Class != class || mds.Retryable(err) != retryable || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v; want one of class %s, retryable %v, with %q", err, class, retryable, words)
	}
}

// TestServerKilled ends the server with kill -9 under four writers, three times, and
// starts it again: what was acknowledged is there, and all is once what was not is sent
// again.
func TestServerKilled(t *testing.T) {
	c := pgtest.Own(t)
	d := c.Database(t, prepare)
	s := open(t, d.Service, store.Config{})
	all := batches(600)
	acknowledged := make([]bool, len(all))
	var written int64
	for range 3 {
		// The writers take turns on one list, and stop at the first failure.
		var mu sync.Mutex
		next, done, failures := 0, 0, 0
		enough := make(chan struct{})
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for {
					mu.Lock()
					for next < len(all) && acknowledged[next] {
						next++
					}
					mine := next
					next++
					mu.Unlock()
					if mine >= len(all) {
						t.Error("all was written before the server was killed")
						return
					}
					receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), all[mine])
					mu.Lock()
					if err == nil {
						acknowledged[mine] = true
						written += receipt.Written
						if done++; done == 40 {
							close(enough)
						}
					} else if failures++; failures == 1 {
						wantError(t, err, postgres.Unavailable, true, "what was acknowledged is kept")
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			})
		}
		<-enough
		c.Kill(t)
		writers.Wait()
		_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), all[0])
		if err == nil || !mds.Retryable(err) {
			t.Errorf("while the server is down: %v", err)
		}
		c.Restart(t)
		want := 0
		for i := range acknowledged {
			if acknowledged[i] {
				want += len(all[i])
			}
		}
		if n := count(t, s); n < int64(want) || n > int64(want+4*400) || n%400 != 0 {
			t.Errorf("%d bars are stored, %d were acknowledged", n, want)
		}
	}
	for i := range all {
		receipt := write(t, s, all[i]...)
		if written += receipt.Written; acknowledged[i] && receipt.Written != 0 {
			t.Errorf("batch %d was acknowledged, and %d of it were not there", i, receipt.Written)
		}
	}
	// What was committed unacknowledged is counted by nobody.
	if n := count(t, s); n != int64(len(all)*400) || written > n || written < n-3*4*400 {
		t.Errorf("%d bars are stored, of %d; %d were written", n, len(all)*400, written)
	}
}

// TestConnectionCut cuts the connection between the rows and the commit, and between the
// commit and its reply.
func TestConnectionCut(t *testing.T) {
	for name, c := range map[string]struct {
		direction, at string
		stored        int64
		again         mds.Receipt
	}{
		"before the commit": {pgtest.ToServer, "COMMIT\x00", 0, mds.Receipt{Written: 400}},
		"before its reply":  {pgtest.ToClient, "COMMIT\x00", 400, mds.Receipt{Unchanged: 400}},
	} {
		for _, mode := range []string{postgres.WriteAuto, postgres.WriteMerge, postgres.WriteUnnest} {
			t.Run(name+", "+mode, func(t *testing.T) {
				d := migrated(t)
				p := pgtest.NewProxy(t, d.Cluster.Addr())
				s := open(t, d.Through(d.Service, p.Listen), store.Config{WriteMode: mode})
				batch := batches(1)[0]
				p.CutAt(c.direction, c.at)
				_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch)
				wantError(t, err, postgres.Unavailable, true, "the connection was lost")
				p.Heal()
				if n := count(t, s); n != c.stored {
					t.Errorf("%d bars are stored, want %d", n, c.stored)
				}
				receipt := write(t, s, batch...)
				if receipt.Modes = 0; receipt != c.again {
					t.Errorf("again: %+v", receipt)
				}
			})
		}
	}
}

// TestSlowConnection writes over a connection with a delay and little bandwidth.
func TestSlowConnection(t *testing.T) {
	d := migrated(t)
	p := pgtest.NewProxy(t, d.Cluster.Addr())
	p.Add("latency", pgtest.ToClient, map[string]any{"latency": 20, "jitter": 10})
	p.Add("slicer", pgtest.ToServer, map[string]any{"average_size": 100, "size_variation": 50})
	s := open(t, d.Through(d.Service, p.Listen), store.Config{})
	for _, batch := range batches(3) {
		write(t, s, batch...)
	}
	if n := count(t, s); n != 1200 {
		t.Errorf("%d bars", n)
	}
}

// TestStatementsEnd has a batch wait for longer than it may.
func TestStatementsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		cfg        store.Config
		parameters string
		words      string
	}{
		"statement_timeout": {store.Config{StatementTimeout: time.Second}, "", "the statement took longer than it may"},
		"lock_timeout":      {store.Config{}, "&lock_timeout=50ms", "another one holds a lock on the table"},
		"the server's own":  {store.Config{StatementTimeout: -1}, "&statement_timeout=1s", "the statement took longer than it may"},
	} {
		t.Run(name, func(t *testing.T) {
			d := migrated(t)
			s := open(t, d.Service+c.parameters, c.cfg)
			unlock := locked(t, d, "bar_facts_1m", "SHARE")
			_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batches(1)[0])
			wantError(t, err, postgres.Timeout, true, c.words)
			unlock()
			if receipt := write(t, s, batches(1)[0]...); receipt.Written != 400 {
				t.Errorf("afterwards: %+v", receipt)
			}
		})
	}
}

// TestDiskFull fills the disk that the bars are on, and makes room.
func TestDiskFull(t *testing.T) {
	c := pgtest.OnSmallDisk(t, 16)
	d := c.Database(t, prepare)
	pgtest.Exec(t, d.Admin, "ALTER TABLE mds_internal.bar_facts_1m SET TABLESPACE small", "ALTER INDEX mds_internal.bar_facts_1m_pkey SET TABLESPACE small")
	s := open(t, d.Service, store.Config{})
	all := batches(220) // of some 50 kB
	acknowledged, failures := 0, 0
	for acknowledged < len(all) {
		receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), all[acknowledged])
		if err == nil {
			if receipt.Written != 400 {
				t.Fatalf("batch %d: %+v", acknowledged, receipt)
			}
			acknowledged++
			continue
		}
		wantError(t, err, postgres.Unavailable, true, "the server's disk is full: free some space and run it again")
		if n := count(t, s); n != int64(acknowledged*400) {
			t.Fatalf("%d bars are stored, %d were acknowledged", n, acknowledged*400)
		}
		if failures++; failures == 2 {
			c.FreeDisk(t)
		}
		if failures > 2 {
			t.Fatal("the disk is full still")
		}
	}
	if n := count(t, s); n != 88_000 || failures != 2 {
		t.Errorf("%d bars, after %d failures", n, failures)
	}
}

// TestWithoutRights has a login that may read nothing, and one that lost its rights.
func TestWithoutRights(t *testing.T) {
	d := migrated(t)
	_, err := store.Open(ctx, d.As(t, "stranger"), store.Config{})
	wantError(t, err, postgres.Denied, false, "let the owner run mds migrate, which gives the service's login its rights")
	s := open(t, d.Service, store.Config{})
	pgtest.Exec(t, d.Owner, "REVOKE INSERT ON mds_internal.bar_facts_1m FROM service")
	_, err = store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batches(1)[0])
	wantError(t, err, postgres.Denied, false, "permission denied for table bar_facts_1m")
}

// TestServersWords has the server say something in two lines, as a trigger may.
func TestServersWords(t *testing.T) {
	d := migrated(t)
	pgtest.Exec(t, d.Owner, `CREATE FUNCTION mds.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE E'two\nlines'; END $$`,
		`CREATE TRIGGER refuse BEFORE INSERT ON mds_internal.bar_facts_1m FOR EACH ROW EXECUTE FUNCTION mds.refuse()`)
	_, err := store.Bars(open(t, d.Service, store.Config{StatementTimeout: 1e6 * time.Hour})).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 0, 1)})
	wantError(t, err, postgres.Other, false, "two lines (SQLSTATE P0001)")
}

// TestStandby has a server that follows another: it answers queries, and takes no writes
// until it is promoted.
func TestStandby(t *testing.T) {
	c := pgtest.Own(t)
	d := c.Database(t, prepare)
	standby := c.Standby(t)
	only, both := d.Through(d.Service, standby.Addr()), d.Through(d.Service, standby.Addr()+","+c.Addr())
	_, err := store.Open(ctx, only, store.Config{})
	wantError(t, err, postgres.Unavailable, true, "it is a standby, which takes no writes")
	s := open(t, both, store.Config{})
	write(t, s, minute("A", 0, 1))
	reader := open(t, only, store.Config{ReadOnly: true})
	for count(t, reader) != 1 { // it follows
	}
	c.Kill(t)
	standby.Promote(t)
	if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 1, 1)}); err != nil {
		wantError(t, err, postgres.Unavailable, true, "") // the connection that was open is lost
	}
	write(t, s, minute("A", 1, 1))
	if n := count(t, s); n != 2 {
		t.Errorf("%d bars", n)
	}
}

// TestFailover has two servers in the DSN, of which the first goes.
func TestFailover(t *testing.T) {
	d := migrated(t)
	p := pgtest.NewProxy(t, d.Cluster.Addr())
	dsn := d.Through(d.Service, p.Listen+","+d.Cluster.Addr())
	s := open(t, dsn, store.Config{})
	write(t, s, minute("A", 0, 1))
	p.Stop()
	_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("A", 1, 1)})
	if err != nil { // the connection that was open is lost
		wantError(t, err, postgres.Unavailable, true, "the connection was lost")
	}
	write(t, s, minute("A", 1, 1))
	if n := count(t, s); n != 2 {
		t.Errorf("%d bars", n)
	}
}
