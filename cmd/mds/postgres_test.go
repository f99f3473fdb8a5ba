package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestPostgres gives the same commands to PostgreSQL and to DuckDB: they print the same.
func TestPostgres(t *testing.T) {
	d := pgtest.Empty(t)
	on := newCLI(t)
	file := testFile(t, "bars.csv", threeBars)
	news := testFile(t, "news.ndjson", `{"vendor":"v","id":"1","title":"a title","published_at":"2024-01-02T03:04:05Z","symbols":["A","B"]}`+"\n")
	options := testFile(t, "options.csv", "symbol,expiry,option_type,strike,ts,bid\nSPX,2024-03-15,C,4500.5,2024-03-01T15:00:00Z,1.25\nSPX,2024-03-15,P,450,2024-03-01T15:00:00Z,\n")
	server := newCLI(t)
	server.dsn = d.Service
	if out := server.run("ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"); out.exit != exitFailed || !strings.Contains(out.stderr, "mds migrate") {
		t.Errorf("before it was migrated: exit %d\n%s", out.exit, out.stderr)
	}
	wantText(t, "migrate", server.must("migrate", "--admin-dsn", d.Owner).stderr, "applied 0001_store.sql\nthe login service has its rights\n")
	wantText(t, "migrate again", server.must("migrate", "--admin-dsn", d.Owner).stderr, "the schema is up to date\nthe login service has its rights\n")
	wantText(t, "migrate status", server.must("migrate", "status", "--admin-dsn", d.Owner).stdout, "   1  applied  0001_store.sql\n")
	for _, args := range [][]string{
		{"ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"},
		{"ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"},
		{"ingest", "bars", file, "--symbol", "AAPL", "--timeframe", "1d"},
		{"ingest", "news", news},
		{"ingest", "options", options},
		{"query", "bars", "--format", "csv"},
		{"query", "bars", "--symbol", "MSFT", "--start", "2020-11-27T14:31:00Z", "--order", "desc", "--format", "csv"},
		{"query", "news", "--symbol", "B", "--format", "ndjson"},
		{"query", "options", "--format", "csv"},
		{"latest", "MSFT", "--format", "csv"},
		{"latest", "options", "SPX", "--format", "csv"},
		{"series", "--format", "csv"},
		{"export", "bars", "-", "--format", "ndjson"},
		{"write", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "7"},
		{"tenant", "create", "acme"},
		{"tenant", "list"},
		{"query", "bars", "--tenant", "acme", "--format", "csv"},
		{"delete", "bars", "--symbol", "MSFT", "--yes"},
		{"query", "bars", "--format", "csv"},
		{"query", "bars", "--tenant", "nobody"},
	} {
		want, got := on.run(args...), server.run(args...)
		if got.exit != want.exit || got.stdout != want.stdout {
			t.Errorf("mds %s: exit %d\n%s%swant %d\n%s%s", strings.Join(args, " "), got.exit, got.stdout, got.stderr, want.exit, want.stdout, want.stderr)
		}
	}
	for _, args := range [][]string{{"info"}, {"health"}, {"ping"}} {
		if out := server.must(args...); !strings.Contains(out.stdout, "postgres") && !strings.Contains(out.stdout, "healthy") {
			t.Errorf("mds %s:\n%s", args[0], out.stdout)
		}
	}
	if out := server.run("compact"); out.exit != exitDone {
		t.Errorf("compact: exit %d\n%s", out.exit, out.stderr)
	}
	if out := on.run("migrate"); out.exit != exitUsage || !strings.Contains(out.stderr, "--admin-dsn") {
		t.Errorf("migrate of a DuckDB store: exit %d\n%s", out.exit, out.stderr)
	}
}

// TestPostgresKilled ends the server with kill -9 in the middle of an ingest: the ledger
// tells what was written, that is stored, and a second ingest stores the rest.
func TestPostgresKilled(t *testing.T) {
	server := pgtest.Own(t)
	d := server.Database(t, func(pgtest.Database) error { return nil })
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	const rows = 60_000
	file := testFile(t, "week.csv", string(syntheticCSV(t, rows)))
	cmd := c.program("ingest", "bars", file, "--batch-size", "500", "--format", "csv")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for pgtest.Ask(t, d.Admin, "SELECT count(*) >= 10000 FROM mds_internal.bar_facts_1m") != "true" {
	}
	server.Kill(t)
	_ = cmd.Wait() // the status is looked at
	numbers := func(text string) (n []int) {
		for _, field := range strings.FieldsFunc(strings.ReplaceAll(text, ",", ""), func(r rune) bool { return r < '0' || r > '9' }) {
			number, _ := strconv.Atoi(field)
			n = append(n, number)
		}
		return n
	}
	ledger, _, _ := strings.Cut(out.String()+errs.String(), "\n")
	n := numbers(ledger) // read, rejected, accepted, written, unchanged, superseded, unwritten
	if len(n) != 7 || n[0] != n[1]+n[2] || n[2] != n[3]+n[4]+n[5]+n[6] || n[1]+n[4]+n[5] != 0 || n[6] == 0 {
		t.Fatalf("the ledger is %q", ledger)
	}
	if text := out.String() + errs.String(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(text, "what was acknowledged is kept") {
		t.Errorf("exit %d\n%s", cmd.ProcessState.ExitCode(), text)
	}
	server.Restart(t)
	// What was committed unacknowledged is one of the unwritten.
	stored := len(c.storedCloses())
	if stored < n[3] || stored > n[3]+n[6] || stored%500 != 0 {
		t.Errorf("%d bars are stored, after %s", stored, ledger)
	}
	again := c.must("ingest", "bars", file)
	want := fmt.Sprintf("accepted = %d written + %d unchanged + 0 superseded", rows-stored, stored)
	if got := strings.ReplaceAll(again.stdout+again.stderr, ",", ""); !strings.Contains(got, want) {
		t.Errorf("again:\n%swant %s", got, want)
	}
	if stored := len(c.storedCloses()); stored != rows {
		t.Errorf("%d bars are stored", stored)
	}
}
