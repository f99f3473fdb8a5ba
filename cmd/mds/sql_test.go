package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestSQL runs statements on a store itself, as its own login on PostgreSQL, and through a
// server.
func TestSQL(t *testing.T) {
	const bars = "vendor,symbol,timeframe,ts,close,volume\nv,A,1m,2026-01-02T14:30:00Z,1.5,10\nv,A,1m,2026-01-02T14:31:00Z,2,\n"
	load := func(c *cli) {
		c.stdin = strings.NewReader(bars)
		c.must("ingest", "bars", "-", "--format", "csv")
		c.stdin = nil
	}
	t.Run("duckdb", func(t *testing.T) {
		c := newCLI(t)
		load(c)
		runStatements(t, c, nil)
		through(t, c)
	})
	t.Run("postgres", func(t *testing.T) {
		d := pgtest.Empty(t)
		c := newCLI(t)
		c.dsn = d.Service
		login := d.Name + "_bi"
		dsn := d.As(t, login)
		c.must("migrate", "--admin-dsn", d.Owner)
		c.must("tenant", "grant-login", "default", login, "--admin-dsn", d.Owner)
		load(c)
		if out := c.run("sql", "SELECT 1"); out.exit != exitUsage || !strings.Contains(out.stderr, "name that of default with --login, or in sql.logins") {
			t.Errorf("%d %s", out.exit, out.stderr)
		}
		if out := c.run("sql", "SELECT 1", "--login", d.Service); out.exit != exitFailed || !strings.Contains(out.stderr, "service may read or write the tables of the store") {
			t.Errorf("%d %s", out.exit, out.stderr)
		}
		runStatements(t, c, []string{"--login", dsn})
		c.env = map[string]string{"MDS_SQL_LOGINS": "default=" + dsn}
		runStatements(t, c, nil)
		t.Setenv("MDS_SQL_LOGINS", c.env["MDS_SQL_LOGINS"]) // of the server, in a process of its own
		c.apiKey = strings.TrimSpace(c.must("keys", "create", "--tenant", "default", "--scopes", "read", "--admin-dsn", d.Owner).stdout)
		through(t, c)
		c.env["MDS_SQL_LOGINS"] = "default=" + d.Service
		if out := c.run("serve", "--listen", "127.0.0.1:0"); out.exit != exitFailed || !strings.Contains(out.stderr, "the login for SQL of the tenant default: connect: service may read or write the tables of the store") {
			t.Errorf("%d %s", out.exit, out.stderr)
		}
	})
}

// through runs the statements through a server of the store.
func through(t *testing.T, c *cli) {
	t.Helper()
	s := c.serve()
	runStatements(t, c, []string{"--server", s.url})
	http.DefaultClient.CloseIdleConnections()
}

func runStatements(t *testing.T, c *cli, flags []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "q.sql")
	if err := os.WriteFile(file, []byte("-- all\nSELECT count(*) AS n\nFROM bars;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		exit int
		want string // in the output
	}{
		{[]string{"SELECT symbol, close, volume, 'ä' AS x FROM bars ORDER BY ts"}, exitDone, "symbol  close  volume  x\nA         1.5      10  ä\nA           2    NULL  ä\n"},
		{[]string{"SELECT ts, volume FROM bars ORDER BY ts", "--format", "csv"}, exitDone, "ts,volume\n2026-01-02T14:30:00Z,10\n2026-01-02T14:31:00Z,\n"},
		{[]string{"SELECT ts, volume FROM bars ORDER BY ts", "--format", "ndjson"}, exitDone, `{"ts":"2026-01-02T14:30:00Z","volume":10}` + "\n" + `{"ts":"2026-01-02T14:31:00Z","volume":null}` + "\n"},
		{[]string{"SELECT 9007199254740993 AS n", "--format", "json"}, exitDone, "\"rows\":[\n[9007199254740993]\n],\"truncated\":false}\n"},
		{[]string{"--file", file, "--format", "csv"}, exitDone, "n\n2\n"},
		{[]string{"-", "--format", "csv"}, exitDone, "one\n1\n"},
		{[]string{"SELECT ts FROM bars", "--max-rows", "1"}, exitDone, "1 rows, and there are more; --max-rows 0 gives all\n"},
		{[]string{"SELECT ts FROM bars WHERE false"}, exitDone, "no rows\n"},
		{[]string{"SELECT 1; SELECT 2"}, exitUsage, "mds: "},
		{[]string{"DELETE FROM bars"}, exitUsage, "mds: "},
		{[]string{"SELECT 1\nFRO M x"}, exitUsage, "\n  FRO M x\n"},
		{[]string{"WITH RECURSIVE r(i) AS (SELECT 1::BIGINT UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r", "--timeout", "1s"}, exitFailed, "mds: the query takes more than it may: "},
		{[]string{"SELECT", "1"}, exitUsage, "mds: 2 arguments: put the statement in quotes\n"},
		{nil, exitUsage, "mds: say which statement"},
		{[]string{"SELECT 1", "--format", "xml"}, exitUsage, "mds: --format"},
	} {
		c.stdin = strings.NewReader("SELECT 1 AS one")
		if out := c.run(append(append([]string{"sql"}, tt.args...), flags...)...); out.exit != tt.exit || !strings.Contains(out.stdout+out.stderr, tt.want) {
			t.Errorf("mds sql %q %q: exit %d, want %d with %q:\n%s%s", tt.args, flags, out.exit, tt.exit, tt.want, out.stdout, out.stderr)
		}
	}
	c.stdin = nil
}
