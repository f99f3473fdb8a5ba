package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// served prepares a store that mds serve serves. token is the key that its requests need, or
// empty.
func served(t *testing.T, d *pgtest.Database) (c *cli, token string) {
	t.Helper()
	c = newCLI(t)
	if d == nil {
		return c, ""
	}
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	return c, strings.TrimSpace(c.must("keys", "create", "--scopes", "read,write,admin", "--admin-dsn", d.Owner).stdout)
}

// hammer has producers send bodies to a server, and keeps what it was answered.
type hammer struct {
	t          *testing.T
	url, token string
	accepted   bool // every other body is answered when it is queued
	stubborn   bool // what is not taken is sent again, until halt

	halted    chan struct{}
	producers sync.WaitGroup
	mu        sync.Mutex
	symbols   map[string]int // by the status they were answered with
	more      *sync.Cond     // there are
}

// hammerRows are the rows of a body, each of which has a symbol of its own.
const hammerRows = 40

// start has producers begin, whose bodies are named after a round.
func (h *hammer) start(url string, round int) {
	h.url, h.halted = url, make(chan struct{})
	if h.symbols == nil {
		h.symbols, h.more = make(map[string]int), sync.NewCond(&h.mu)
	}
	for p := range 4 {
		h.producers.Go(func() {
			for n := 0; !h.isHalted() && h.send(fmt.Sprintf("R%dP%dN%d", round, p, n), n); n++ {
			}
		})
	}
}

// send sends a body, and reports whether another may follow.
func (h *hammer) send(symbol string, n int) bool {
	url := h.url + "/v1/bars"
	if h.accepted && n%2 == 1 {
		url += "?ack=accepted"
	}
	for {
		status, body, err := post(url, h.token, symbol, hammerRows)
		switch {
		case status == http.StatusOK, status == http.StatusAccepted:
			h.mu.Lock()
			h.symbols[symbol] = status
			h.more.Broadcast()
			h.mu.Unlock()
			return true
		case err == nil && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
			h.t.Errorf("%d %s", status, body)
			return false
		case !h.stubborn:
			return false // it is being stopped, or has gone
		}
		select {
		case <-h.halted:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *hammer) isHalted() bool {
	select {
	case <-h.halted:
		return true
	default:
		return false
	}
}

// await waits until so many more bodies have been taken.
func (h *hammer) await(more int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for until := len(h.symbols) + more; len(h.symbols) < until; {
		h.more.Wait()
	}
}

// halt waits until no producer sends any more.
func (h *hammer) halt() {
	close(h.halted)
	h.producers.Wait()
}

// stored checks that each row that was answered is there, once, and returns how many there
// are at all.
func (h *hammer) stored(c *cli) (rows int64) {
	h.t.Helper()
	st, err := store.Open(context.Background(), c.dsn, store.Config{})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			h.t.Error(err)
		}
	}()
	keys := make(map[string]int)
	for bar, err := range store.Bars(st).Query(context.Background(), mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			h.t.Fatal(err)
		}
		keys[bar.Symbol]++
		rows++
	}
	lost := 0
	for symbol, status := range h.symbols {
		if keys[symbol] != hammerRows {
			h.t.Logf("%s was answered %d and has %d rows", symbol, status, keys[symbol])
			lost++
		}
	}
	if lost > 0 {
		h.t.Errorf("of %d bodies that were answered %d are not there", len(h.symbols), lost)
	}
	return rows
}

// TestServeKilled kills the server under load: every body that it answered with 200 is
// there.
func TestServeKilled(t *testing.T) {
	for name, d := range engineDatabases(t) {
		t.Run(name, func(t *testing.T) {
			c, token := served(t, d())
			h := &hammer{t: t, token: token}
			for round := range 3 {
				s := c.serve()
				h.start(s.url, round)
				h.await(60)
				if err := s.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				h.halt()
				_ = s.Wait() // it was killed
			}
			h.stored(c)
		})
	}
}

// engineDatabases are what served is given, by engine.
func engineDatabases(t *testing.T) map[string]func() *pgtest.Database {
	return map[string]func() *pgtest.Database{
		"DuckDB": func() *pgtest.Database { return nil },
		"PostgreSQL": func() *pgtest.Database {
			d := pgtest.Empty(t)
			return &d
		},
	}
}

// TestServeDatabaseKilled kills PostgreSQL under load, and starts it again: the server goes
// on, and every body that it answered with 200, before and after, is there.
func TestServeDatabaseKilled(t *testing.T) {
	t.Setenv("MDS_CB_HALF_OPEN_AFTER", "1s")
	cluster := pgtest.Own(t) // it waits for the disk
	d := cluster.Database(t, func(pgtest.Database) error { return nil })
	c, token := served(t, &d)
	s := c.serve()
	h := &hammer{t: t, token: token, stubborn: true}
	h.start(s.url, 0)
	for range 2 {
		h.await(40)
		cluster.Kill(t)
		cluster.Restart(t)
	}
	h.await(40)
	h.halt()
	interrupt(t, s)
	h.stored(c)
}

// TestServeInterrupted interrupts the server under load: what it answered with 200 or 202 is
// there, and the ledger that it prints is what the store has.
func TestServeInterrupted(t *testing.T) {
	for name, d := range engineDatabases(t) {
		t.Run(name, func(t *testing.T) {
			c, token := served(t, d())
			s := c.serve()
			h := &hammer{t: t, token: token, accepted: true}
			h.start(s.url, 0)
			h.await(100)
			ledger := interrupt(t, s)
			h.halt()
			var accepted, written, unchanged, superseded, dead, dropped, unwritten int64
			_, err := fmt.Sscanf(strings.ReplaceAll(ledger, ",", ""), "bars of tenant default: %d accepted: %d written %d unchanged %d superseded %d dead-lettered %d dropped %d unwritten",
				&accepted, &written, &unchanged, &superseded, &dead, &dropped, &unwritten)
			if err != nil {
				t.Fatalf("%q: %v", ledger, err)
			}
			rows := h.stored(c)
			if written != rows || accepted != written || unchanged+superseded+dead+dropped+unwritten != 0 || accepted < int64(len(h.symbols)*hammerRows) {
				t.Errorf("%d rows are stored, and %d bodies were answered: %s", rows, len(h.symbols), ledger)
			}
			statuses := make(map[int]int)
			for _, status := range h.symbols {
				statuses[status]++
			}
			if statuses[http.StatusOK] == 0 || statuses[http.StatusAccepted] == 0 {
				t.Errorf("answered: %v", statuses)
			}
		})
	}
}

// interrupt has a server stop as an operator does, and returns its ledger of bars.
func interrupt(t *testing.T, s *serving) (ledger string) {
	t.Helper()
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ledger = s.next(t, "bars of tenant")
	if err := s.Wait(); err != nil {
		t.Errorf("%v\n%s", err, strings.Join(s.said, "\n"))
	}
	return ledger
}

// TestServeMigrates serves a store as the version before has left it. The embedded one is
// migrated when it is opened; of a server only its owner may.
func TestServeMigrates(t *testing.T) {
	t.Run("DuckDB", func(t *testing.T) {
		c := newCLI(t)
		c.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "MSFT", "--timeframe", "1m")
		db, err := sql.Open("duckdb", filepath.Join(strings.TrimPrefix(c.dsn, "duckdb://"), "default.duckdb"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), "DROP TABLE kept_answers; DELETE FROM mds_migrations WHERE version > 5")
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		if out := c.must("schema-version").stdout; !strings.Contains(out, "5") {
			t.Errorf("before, it has schema version %s", out)
		}
		checkServed(t, c, "", `"schema_version":6`, "migrations_applied_total 1")
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		d := pgtest.Empty(t)
		c, _ := served(t, &d)
		c.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "MSFT", "--timeframe", "1m")
		pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal.job_parts", "DROP TABLE mds_internal.jobs", "DELETE FROM mds_internal.migrations WHERE version_id > 5")
		if out := c.run("serve"); out.exit != exitFailed || out.stderr != "mds: open: the database has schema version 5, and this mds needs 6; let the owner run mds migrate\n" {
			t.Errorf("exit %d, %s", out.exit, out.stderr)
		}
		c.must("migrate", "--admin-dsn", d.Owner)
		token := strings.TrimSpace(c.must("keys", "create", "--scopes", "read,write,admin", "--admin-dsn", d.Owner).stdout)
		checkServed(t, c, token, `"schema_version":7`, "migrations_applied_total 0")
	})
}

// checkServed serves a store that has three bars, and adds one.
func checkServed(t *testing.T, c *cli, token, version, migrated string) {
	t.Helper()
	s := c.serve()
	if status, body, err := post(s.url+"/v1/bars", token, "NEW", 1); err != nil || status != http.StatusOK {
		t.Errorf("%d %s %v", status, body, err)
	}
	get := func(path, want string) {
		r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s is answered %s, %v; want %s", path, body, err, want)
		}
	}
	get("/schema/version", version)
	get("/v1/bars?format=csv&symbol=MSFT", "\nlocal,MSFT,1m,2020-11-27T14:30:00Z,10,12,9,11,100,,\nlocal,MSFT,1m,2020-11-27T14:31:00Z,11,11.5,10.25,10.5,,,\nlocal,MSFT,1m,2020-11-27T14:32:00Z,10.5,13,10.5,12.75,2500.5,,\n")
	get("/v1/bars?format=csv&symbol=NEW", "\nv,NEW,1m,")
	get("/v1/rollups?format=csv", "vendor,symbol,timeframe,")
	get("/metrics", "\n"+migrated+"\n")
	interrupt(t, s)
}
