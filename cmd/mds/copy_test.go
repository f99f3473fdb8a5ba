package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/realdata"
)

// onServer is a migrated database's program.
func onServer(t *testing.T) (*cli, pgtest.Database) {
	t.Helper()
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	return c, d
}

// exports are all records of a tenant, by kind.
func (c *cli) exports(tenant string) string {
	c.t.Helper()
	var all strings.Builder
	for _, k := range kinds() {
		all.WriteString(c.must("export", k.name, "-", "--format", "ndjson", "--tenant", tenant).stdout)
	}
	return all.String()
}

// TestCopy takes two tenants from the embedded store to the server and on to another
// embedded one: everything arrives, each tenant with its own.
func TestCopy(t *testing.T) {
	from, back := newCLI(t), newCLI(t)
	server, _ := onServer(t)
	news := testFile(t, "news.ndjson", `{"vendor":"v","id":"1","title":"a title","published_at":"2024-01-02T03:04:05Z","symbols":["A","B"]}`+"\n")
	options := testFile(t, "options.csv", "symbol,expiry,option_type,strike,ts,bid\nSPX,2024-03-15,C,4500.5,2024-03-01T15:00:00Z,1.25\nSPX,2024-03-15,P,450,2024-03-01T15:00:00Z,\n")
	figures := testFile(t, "figures.csv", "symbol,period,asof,filed_at,revenue\nSNOW,FY,2023-01-31,2023-03-29,2065659000\n")
	from.must("tenant", "create", "acme")
	from.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "MSFT", "--timeframe", "1m")
	from.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "AAPL", "--timeframe", "1m", "--tenant", "acme")
	from.must("ingest", "options", options)
	from.must("ingest", "fundamentals", figures)
	from.must("ingest", "news", news)

	out := from.must("copy", from.dsn, server.dsn, "--all-tenants").stdout
	for _, want := range []string{
		"acme         bars                  1                3  ", "default      bars                  1                3  ",
		"default      options               2                2  ", "default      fundamentals          1                1  ", "default      news                  1                1  ",
		"  identical\n", "every record of " + from.dsn + " is in postgres://service@",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("copy says\n%swithout %q", out, want)
		}
	}
	back.must("copy", server.dsn, back.dsn, "--all-tenants")
	for _, tenant := range []string{"default", "acme"} {
		want := from.exports(tenant)
		if got := server.exports(tenant); got != want {
			t.Errorf("%s: the server has\n%swant\n%s", tenant, got, want)
		}
		if got := back.exports(tenant); got != want {
			t.Errorf("%s: it came back as\n%swant\n%s", tenant, got, want)
		}
	}
	if again := from.must("copy", from.dsn, server.dsn, "--all-tenants").stdout; strings.Count(again, "             0  identical\n") != 5 {
		t.Errorf("copied again:\n%s", again)
	}

	// What differs is told, and mended.
	server.must("write", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "7")
	server.must("delete", "options", "--option-type", "P", "--yes")
	server.must("write", "bars", "--symbol", "OTHER", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "7")
	server.must("write", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--ts", "2024-11-27T14:30:00Z", "--close", "8")
	compared := from.run("copy", from.dsn, server.dsn, "--compare")
	if compared.exit != exitFailed || !strings.HasSuffix(compared.stderr, "\nmds: not all of it is there as it is\n") {
		t.Errorf("comparing: exit %d, %s", compared.exit, compared.stderr)
	}
	for _, want := range []string{
		"  1 different, 1 more in TO (TO has 1 series beside)\n", "local/MSFT/1m: 0 missing, 1 different; the first: ts 2020-11-27T14:30:00Z has the ",
		"  1 missing\n", "local/SPX/2024-03-15/P/450: 1 missing, 0 different; the first: the series is not there\n",
	} {
		if !strings.Contains(compared.stdout, want) {
			t.Errorf("comparing says\n%swithout %q", compared.stdout, want)
		}
	}
	if n := strings.Count(server.exports("default"), "\n"); n != 8 {
		t.Errorf("comparing left %d records", n)
	}
	mended := from.must("copy", from.dsn, server.dsn).stdout
	if !strings.Contains(mended, "  1 more in TO (TO has 1 series beside)\n") {
		t.Errorf("mending says\n%s", mended)
	}
	var documents []struct {
		Kind     string
		Complete bool
		More     int64
		From     struct{ Checksum string }
		Series   []struct{ Name string }
	}
	text := from.must("copy", from.dsn, server.dsn, "--kind", "bars,options", "--symbol", "MSFT,SPX", "--end", "2024-03-02", "--json").stdout
	if err := json.Unmarshal([]byte(text), &documents); err != nil || len(documents) != 2 || !documents[0].Complete || documents[0].More != 0 ||
		len(documents[0].From.Checksum) != 16 || len(documents[0].Series) != 1 || documents[0].Series[0].Name != "local/MSFT/1m" || len(documents[1].Series) != 2 {
		t.Errorf("as JSON: %s, %v", text, err)
	}
	// A backup is whole, or not, whatever it lacks; the same store is none.
	empty := newCLI(t)
	empty.must("tenant", "create", "acme")
	if out := from.run("copy", from.dsn, empty.dsn, "--all-tenants", "--compare"); out.exit != exitFailed || strings.Count(out.stdout, " missing\n") != 5 {
		t.Errorf("comparing with a store that has nothing: exit %d\n%s%s", out.exit, out.stdout, out.stderr)
	}
	if out := empty.run("copy", empty.dsn, server.dsn, "--all-tenants"); out.exit != exitFailed || !strings.HasSuffix(out.stderr, " has nothing of what is picked\n") {
		t.Errorf("copying nothing: exit %d\n%s", out.exit, out.stderr)
	}
	// The default tenant has no file: the others are copied.
	empty.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "X", "--timeframe", "1m", "--tenant", "acme")
	if out := empty.must("copy", empty.dsn, "duckdb://"+t.TempDir(), "--all-tenants").stdout; strings.Count(out, "\n") != 3 || !strings.Contains(out, "acme         bars ") {
		t.Errorf("copying one of two tenants:\n%s", out)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(strings.TrimPrefix(from.dsn, "duckdb://"), link); err != nil {
		t.Fatal(err)
	}

	nowhere := "duckdb://" + filepath.Join(t.TempDir(), "none")
	for want, args := range map[string][]string{
		"mds copy needs two stores":      {"copy", from.dsn},
		"FROM and TO are the same store": {"copy", from.dsn, "duckdb://" + link},
		"TO are the same store":          {"copy", server.dsn, server.dsn + "&application_name=x"},
		"has nothing of what is picked for the tenant default; --all-tenants takes each": {"copy", from.dsn, server.dsn, "--vendor", "nobody,other"},
		"FROM is no DSN: write duckdb://DIR":                                             {"copy", "", server.dsn},
		"TO is no DSN: write duckdb://DIR":                                               {"copy", from.dsn, "host=x password=secret"},
		"is a file; name the folder that it is in":                                       {"copy", from.dsn + "/default.duckdb", server.dsn},
		`--kind "bar": use bars, options, fundamentals`:                                  {"copy", from.dsn, server.dsn, "--kind", "bar"},
		"--timeframe picks bars":                                                         {"copy", from.dsn, server.dsn, "--kind", "news", "--timeframe", "1m"},
		"mds copy takes its stores as arguments":                                         {"copy", from.dsn, server.dsn, "--dsn", "duckdb://x"},
		"not a timeframe":                                                                {"copy", from.dsn, server.dsn, "--timeframe", "7m"},
		"give one of them":                                                               {"copy", from.dsn, server.dsn, "--all-tenants", "--tenant", "acme"},
		"no store in ":                                                                   {"copy", nowhere, server.dsn},
		"write duckdb://DIR":                                                             {"copy", from.dsn, "sqlite://server"},
		`unknown tenant "nobody"`:                                                        {"copy", from.dsn, server.dsn, "--tenant", "nobody"},
		"--start is given without a value":                                               {"copy", from.dsn, server.dsn, "--start", ""},
	} {
		if out := from.run(args...); out.exit == exitDone || !strings.Contains(out.stderr, want) || strings.Contains(out.stderr, "secret") || strings.Count(out.stderr, "\n") != 1 {
			t.Errorf("mds %s: exit %d, %s; want %q", strings.Join(args, " "), out.exit, out.stderr, want)
		}
	}
}

// TestCopyKilled ends the program with kill -9 in the middle of a copy, several times,
// in both directions: started again it completes, and the stores are identical.
func TestCopyKilled(t *testing.T) {
	from, back := newCLI(t), newCLI(t)
	server, d := onServer(t)
	const rows = 300_000
	from.must("ingest", "bars", testFile(t, "week.csv", string(syntheticCSV(t, rows))))
	kill := func(source, target string, stored func() int, at ...int) {
		t.Helper()
		for _, n := range at {
			cmd := from.program("copy", source, target)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			for stored() < n {
				select {
				case err := <-ended:
					t.Fatalf("it ended before %d records were there: %v\n%s", n, err, out.String())
				default:
				}
			}
			_ = cmd.Process.Kill()
			<-ended
		}
		got := from.must("copy", source, target).stdout
		if !strings.Contains(got, "          300,000  ") || !strings.Contains(got, "  identical\n") {
			t.Errorf("in the end:\n%s", got)
		}
	}
	kill(from.dsn, server.dsn, func() int {
		n, _ := countOf(pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.bar_facts_1m"))
		return n
	}, 1, 130_000, 250_000)
	// Of the embedded store another process sees no rows, but its file.
	file := filepath.Join(strings.TrimPrefix(back.dsn, "duckdb://"), "default.duckdb")
	kill(server.dsn, back.dsn, func() int {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return int(info.Size())
	}, 1, 1_000_000)
	want := from.exports("default")
	if server.exports("default") != want || back.exports("default") != want {
		t.Error("the stores differ")
	}
}

func countOf(text string) (n int, err error) {
	err = json.Unmarshal([]byte(text), &n)
	return n, err
}

// TestCopyRealFiles takes real files of each kind to the server and back.
func TestCopyRealFiles(t *testing.T) {
	dir := realdata.Dir(t)
	from, back := newCLI(t), newCLI(t)
	server, _ := onServer(t)
	from.must("ingest", "bars", filepath.Join(dir, "bars/nautilus_trader/btc-perp-20211231-20220201_1m.csv"), "--symbol", "BTC-PERP", "--timeframe", "1m", "--tz", "UTC")
	from.must("ingest", "fundamentals", filepath.Join(dir, snow), "--format", "sec-companyfacts", "--symbol", "SNOW")
	from.must("copy", from.dsn, server.dsn)
	out := back.must("copy", server.dsn, back.dsn).stdout
	// 45,031 bars (EXPECTED.tsv); the facts are joined to records by realkinds.py.
	if !strings.Contains(out, "         45,031  ") {
		t.Errorf("copied:\n%s", out)
	}
	want := from.exports("default")
	if server.exports("default") != want || back.exports("default") != want {
		t.Error("what came back differs")
	}
}
