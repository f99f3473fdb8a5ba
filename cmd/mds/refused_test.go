package main

import (
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestRefusedAtServer has a server's store refuse two rows of a file: each is one dead letter,
// at the server, and all others are stored.
func TestRefusedAtServer(t *testing.T) {
	d := pgtest.Empty(t)
	c := &keysCLI{cli: newCLI(t), flags: []string{"--admin-dsn", d.Owner}}
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	for _, symbol := range []string{"B", "D"} {
		c.must("write", "bars", "--vendor", "v", "--symbol", symbol, "--timeframe", "1m", "--ts", "2026-01-05T14:30:00Z", "--close", "1")
	}
	key := strings.TrimSpace(c.mustKeys("create", "--scopes", "read,write,admin").stdout)
	s := c.serveWith(map[string]string{"MDS_WRITE_MODE": "copy"}) // which cannot replace a row
	there := *c.cli
	there.dsn, there.apiKey = s.url, key
	file := testFile(t, "bars.csv", "vendor,symbol,timeframe,ts,close\n"+
		"v,A,1m,2026-01-05T14:30:00Z,2\nv,B,1m,2026-01-05T14:30:00Z,2\nv,C,1m,2026-01-05T14:30:00Z,2\nv,D,1m,2026-01-05T14:30:00Z,2\nv,E,1m,2026-01-05T14:30:00Z,2\n")
	out := there.run("ingest", "bars", file)
	if out.exit != exitRejected || out.stdout != "bars: 5 read = 0 rejected + 5 accepted; accepted = 3 committed + 2 dead-lettered\n" ||
		!strings.Contains(out.stderr, "the server's store refuses 2 rows: they are dead letters there now; mds dlq list --at-server shows them\n") {
		t.Errorf("exit %d, %q\n%s", out.exit, out.stdout, out.stderr)
	}
	if out := there.must("dlq", "list", "--at-server"); strings.Count(out.stdout, "\n") != 3 || strings.Count(out.stdout, "v B 1m") != 1 || strings.Count(out.stdout, "v D 1m") != 1 {
		t.Errorf("%s", out.stdout)
	}
	if out := there.must("dlq", "list"); out.stdout != "" {
		t.Errorf("letters are here, too: %s", out.stdout)
	}
	if got := there.must("query", "bars", "--format", "csv", "--limit", "9").stdout; strings.Count(got, ",2,") != 3 || strings.Count(got, ",1,") != 2 {
		t.Errorf("%s", got)
	}
}
