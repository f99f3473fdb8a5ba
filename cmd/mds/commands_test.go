package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const threeBars = `ts,open,high,low,close,volume
2020-11-27T14:30:00Z,10,12,9,11,100
2020-11-27T14:31:00Z,11,11.5,10.25,10.5,
2020-11-27T14:32:00Z,10.5,13,10.5,12.75,2500.5
`

// loaded has three minutes of two symbols and a day of one.
func loaded(t *testing.T) *cli {
	t.Helper()
	c := newCLI(t)
	minutes := testFile(t, "minutes.csv", threeBars)
	c.must("ingest", "bars", minutes, "--symbol", "MSFT", "--timeframe", "1m", "--vendor", "test")
	c.must("ingest", "bars", minutes, "--symbol", "aapl", "--timeframe", "1m", "--vendor", "test")
	c.must("ingest", "bars", testFile(t, "days.csv", "date,close\n2020-11-27,11\n"), "--symbol", "MSFT", "--timeframe", "daily", "--vendor", "test")
	return c
}

func wantText(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s is\n%s\nwant\n%s", what, got, want)
	}
}

func TestQuery(t *testing.T) {
	c := loaded(t)
	wantText(t, "the table", c.must("query", "bars", "--symbol", "msft").stdout, `vendor  symbol  timeframe  ts (UTC)             open  high    low  close  volume
test    MSFT    1d         2020-11-27                                 11
test    MSFT    1m         2020-11-27 14:30:00    10    12      9     11     100
test    MSFT    1m         2020-11-27 14:31:00    11  11.5  10.25   10.5
test    MSFT    1m         2020-11-27 14:32:00  10.5    13   10.5  12.75  2500.5
`)
	wantText(t, "csv", c.must("query", "bars", "--timeframe", "1m", "--start", "2020-11-27T14:31:00Z", "--end", "2020-11-27T14:32:00Z", "--format", "csv").stdout,
		`vendor,symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count
test,AAPL,1m,2020-11-27T14:31:00Z,11,11.5,10.25,10.5,,,
test,MSFT,1m,2020-11-27T14:31:00Z,11,11.5,10.25,10.5,,,
`)
	wantText(t, "ndjson", c.must("query", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--order", "desc", "--limit", "1", "--format", "ndjson").stdout,
		`{"vendor":"test","symbol":"MSFT","timeframe":"1m","ts":"2020-11-27T14:32:00Z","open":10.5,"high":13,"low":10.5,"close":12.75,"volume":2500.5,"vwap":null,"trade_count":null}
`)
	var list []map[string]any
	if err := json.Unmarshal([]byte(c.must("query", "bars", "--format", "json").stdout), &list); err != nil || len(list) != 7 {
		t.Errorf("json: %d records, %v", len(list), err)
	}
	if err := json.Unmarshal([]byte(c.must("query", "bars", "--symbol", "none", "--format", "json").stdout), &list); err != nil || len(list) != 0 {
		t.Errorf("json of nothing: %v, %v", list, err)
	}
	// --start and --end are of --tz, and without an offset of UTC.
	inNewYork := c.must("query", "bars", "--start", "2020-11-27 09:32", "--tz", "America/New_York", "--format", "csv").stdout
	wantText(t, "the zone", inNewYork, c.must("query", "bars", "--start", "2020-11-27 14:32", "--format", "csv").stdout)
	if strings.Count(inNewYork, "\n") != 3 {
		t.Errorf("from 9:32 in New York on:\n%s", inNewYork)
	}
	day := c.must("query", "bars", "--timeframe", "1d", "--start", "2020-11-27", "--end", "2020-11-28", "--tz", "America/New_York", "--format", "csv").stdout
	if !strings.Contains(day, "2020-11-27T00:00:00Z") {
		t.Errorf("the day in New York:\n%s", day)
	}
	none := c.must("query", "bars", "--symbol", "NONE")
	if none.stdout != "" || none.stderr != "no bars match; mds series lists what there is\n" {
		t.Errorf("no match: %q, %q", none.stdout, none.stderr)
	}
}

func TestQueryLimitIsTold(t *testing.T) {
	c := newCLI(t)
	c.must("ingest", "bars", testFile(t, "week.csv", string(syntheticCSV(t, 1234))))
	out := c.must("query", "bars")
	if lines := strings.Count(out.stdout, "\n"); lines != tableLimit+1 || out.stderr != "100 of 1,234 rows; --limit 0 gives all, --start and --end narrow the window\n" {
		t.Errorf("%d lines, %q", lines, out.stderr)
	}
	out = c.must("query", "bars", "--limit", "0")
	if lines := strings.Count(out.stdout, "\n"); lines != 1234+2 || out.stderr != "" { // a long table has a header every 1,000 rows
		t.Errorf("--limit 0: %d lines, %q", lines, out.stderr)
	}
	out = c.must("query", "bars", "--format", "csv")
	if lines := strings.Count(out.stdout, "\n"); lines != 1235 || out.stderr != "" {
		t.Errorf("csv: %d lines, %q", lines, out.stderr)
	}
	out = c.must("query", "bars", "--format", "csv", "--limit", "1234")
	if out.stderr != "" {
		t.Errorf("a limit that cuts nothing: %q", out.stderr)
	}
}

// TestQueryOutputLoads: what one store gives, another takes as it is.
func TestQueryOutputLoads(t *testing.T) {
	from, to := loaded(t), newCLI(t)
	csv := from.must("query", "bars", "--format", "csv").stdout
	to.must("ingest", "bars", testFile(t, "all.csv", csv))
	wantText(t, "the copy", to.must("query", "bars", "--format", "csv").stdout, csv)
}

func TestLatestAndSeries(t *testing.T) {
	c := loaded(t)
	wantText(t, "latest", c.must("latest", "msft", "--format", "csv").stdout, `vendor,symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count
test,MSFT,1d,2020-11-27T00:00:00Z,,,,11,,,
test,MSFT,1m,2020-11-27T14:32:00Z,10.5,13,10.5,12.75,2500.5,,
`)
	if none := c.must("series", "--vendor", "other"); none.stdout != "" || none.stderr != "no series match, of the 3 there are\n" {
		t.Errorf("series of another vendor: %q, %q", none.stdout, none.stderr)
	}
	some := c.run("latest", "AAPL,NONE", "--timeframe", "1m")
	if some.exit != exitFailed || !strings.Contains(some.stdout, "AAPL") || some.stderr != "mds: no 1m bars of NONE; mds series lists what there is\n" {
		t.Errorf("exit %d, %q, %q", some.exit, some.stdout, some.stderr)
	}
	wantText(t, "series", c.must("series").stdout, `vendor  symbol  timeframe  rows  first                last
test    AAPL    1m            3  2020-11-27 14:30:00  2020-11-27 14:32:00
test    MSFT    1d            1  2020-11-27           2020-11-27
test    MSFT    1m            3  2020-11-27 14:30:00  2020-11-27 14:32:00
`)
	wantText(t, "series", c.must("series", "--timeframe", "1d", "--format", "ndjson").stdout,
		`{"vendor":"test","symbol":"MSFT","timeframe":"1d","rows":1,"first":"2020-11-27T00:00:00Z","last":"2020-11-27T00:00:00Z"}
`)
}

func TestDelete(t *testing.T) {
	c := loaded(t)
	c.stdin = strings.NewReader("n\n")
	out := c.run("delete", "bars", "--symbol", "MSFT", "--timeframe", "1m")
	if out.exit != exitFailed || out.stderr != "Remove 3 bars of tenant default? [y/N] mds: nothing removed\n" {
		t.Errorf("exit %d, %q", out.exit, out.stderr)
	}
	c.stdin = strings.NewReader("")
	if out = c.run("delete", "bars", "--symbol", "MSFT"); out.exit != exitUsage || !strings.Contains(out.stderr, "give --yes") {
		t.Errorf("exit %d, %q", out.exit, out.stderr)
	}
	c.stdin = strings.NewReader("y\n")
	if out = c.run("delete", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--end", "2020-11-27T14:32:00Z"); out.exit != exitDone || out.stdout != "2 bars removed\n" {
		t.Errorf("exit %d, %q", out.exit, out.stdout)
	}
	if out = c.run("delete", "bars", "--all", "--yes"); out.stdout != "5 bars removed\n" {
		t.Errorf("exit %d, %q", out.exit, out.stdout)
	}
	if out = c.must("series", "--format", "json"); out.stdout != "[]\n" {
		t.Errorf("json of no series: %q", out.stdout)
	}
	if out = c.run("series"); out.exit != exitDone || out.stdout != "" || out.stderr != "no bars are stored; load some with: mds ingest bars FILE\n" {
		t.Errorf("exit %d, %q, %q", out.exit, out.stdout, out.stderr)
	}
}

func TestInfoPingHealthVersion(t *testing.T) {
	c := loaded(t)
	path := filepath.Join(strings.TrimPrefix(c.dsn, "duckdb://"), "default.duckdb")
	var info storeInfo
	if err := json.Unmarshal([]byte(c.must("info", "--json").stdout), &info); err != nil {
		t.Fatal(err)
	}
	if info.Location != path || info.SchemaVersion != 6 || info.Tenant != "default" || len(info.Kinds) != 5 || info.Kinds[0].Rows != 7 || info.Kinds[0].Series != 3 {
		t.Errorf("info %+v", info)
	}
	if text := c.must("info").stdout; !strings.Contains(text, "bars         7 rows in 3 series, 2020-11-27 00:00:00 to 2020-11-27 14:32:00 UTC\n") {
		t.Errorf("info\n%s", text)
	}
	wantText(t, "schema-version", c.must("schema-version").stdout, "6\n")
	if text := c.must("ping").stdout; !strings.HasPrefix(text, c.dsn+" answers for tenant default in ") {
		t.Errorf("ping %q", text)
	}
	if text := c.must("version").stdout; !strings.HasPrefix(text, "mds ") || !strings.Contains(text, "schema version 6") {
		t.Errorf("version %q", text)
	}
	wantText(t, "health", c.must("health").stdout, "healthy\n  bars         healthy\n  options      healthy\n  fundamentals healthy\n  news         healthy\n  rollups      healthy\n  store        healthy\n")
	if err := os.WriteFile(path, []byte("ruined"), 0o600); err != nil {
		t.Fatal(err)
	}
	ill := c.run("health", "--json")
	var h health
	if err := json.Unmarshal([]byte(ill.stdout), &h); err != nil || ill.exit != exitFailed || h.Service != "mds" || h.State != "unhealthy" || len(h.Components) != 1 || !strings.Contains(h.Components[0].Reason, "not a DuckDB database") {
		t.Errorf("exit %d, %+v, %v", ill.exit, h, err)
	}
}

func TestTenants(t *testing.T) {
	c := loaded(t)
	wantText(t, "create", c.must("tenant", "create", "acme").stdout, "tenant acme made, id f887cc6f-cbc8-54bc-9924-c9052b1c1b07\n")
	wantText(t, "list", c.must("tenant", "list").stdout, `name     id
acme     f887cc6f-cbc8-54bc-9924-c9052b1c1b07
default  170955cd-45b1-5e79-a214-43560e6e8b6c
`)
	for _, name := range []string{"acme", "f887cc6f-cbc8-54bc-9924-c9052b1c1b07"} {
		if out := c.must("series", "--tenant", name); out.stdout != "" {
			t.Errorf("%s sees\n%s", name, out.stdout)
		}
	}
}

func TestInputs(t *testing.T) {
	flags := []string{"--symbol", "MSFT", "--timeframe", "1m"}
	var packed []byte
	writer, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed = writer.EncodeAll([]byte(threeBars), nil)
	for name, content := range map[string]string{"plain": threeBars, "gzip": gzipped(t, threeBars), "zstd": string(packed)} {
		c := newCLI(t)
		if l := c.must(append([]string{"ingest", "bars", testFile(t, "file", content)}, flags...)...).ledger(); l.Written != 3 {
			t.Errorf("%s from a file: %+v", name, l)
		}
		c.stdin = strings.NewReader(content)
		if l := c.must(append([]string{"ingest", "bars", "-"}, flags...)...).ledger(); l.Unchanged != 3 {
			t.Errorf("%s from standard input: %+v", name, l)
		}
	}
}

func TestIngestFlags(t *testing.T) {
	c := newCLI(t)
	file := testFile(t, "brk.b.csv", "Day,At,Px,Note\n27/11/2020,,,\n11/27/2020,9:35,\"1,234.5\",ignored\n")
	out := c.run("ingest", "bars", file, "--columns", "date=Day,time=At,close=Px", "--symbol-from", "filename",
		"--timeframe", "5min", "--tz", "America/New_York", "--label", "end", "--vendor", "Desk")
	if out.exit != exitRejected || !strings.Contains(out.stderr, "ignored columns: Note\n") || !strings.Contains(out.stderr, "has month 27") {
		t.Errorf("exit %d\n%s", out.exit, out.stderr)
	}
	wantText(t, "the bar", c.must("query", "bars", "--format", "csv").stdout, `vendor,symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count
desk,BRK.B,5m,2020-11-27T14:30:00Z,,,,1234.5,,,
`)
}

func TestDemo(t *testing.T) {
	c := newCLI(t)
	for range 2 { // a second demo starts afresh
		out := c.must("demo").stdout
		for _, want := range []string{
			"585,000 written, 0 unchanged, 0 superseded", "0 written, 585,000 unchanged, 0 superseded",
			"SYN001", "synthetic", "┤", "█", "Try next", "series --tenant demo",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	if out := c.run("series"); out.exit != exitFailed || !strings.Contains(out.stderr, "there is no store in") {
		t.Errorf("the default tenant holds\n%s", out.stdout)
	}
	out := c.must("query", "bars", "--tenant", "demo", "--symbol", "SYN007", "--order", "desc", "--limit", "1", "--format", "csv").stdout
	if !strings.Contains(out, "synthetic,SYN007,1m,2026-01-09T20:59:00Z,") {
		t.Errorf("the last bar of the week:\n%s", out)
	}
}

// brokenWriter is an output on a disk that is full.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestLostOutputIsNoSuccess(t *testing.T) {
	c := loaded(t)
	for _, args := range [][]string{{"version"}, {"info"}, {"series"}, {"query", "bars"}, {"query", "bars", "--format", "csv"}} {
		var stderr bytes.Buffer
		a := &app{stdin: strings.NewReader(""), stdout: brokenWriter{}, stderr: &stderr, env: map[string]string{"MDS_DSN": c.dsn}}
		if exit := a.run(t.Context(), args); exit != exitFailed || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("%v: exit %d, %q", args, exit, stderr.String())
		}
	}
}

func TestHelpAndCompletion(t *testing.T) {
	c := newCLI(t)
	if out := c.must("--help").stdout; !strings.Contains(out, "ingest") || !strings.Contains(out, "completion") {
		t.Errorf("help\n%s", out)
	}
	if out := c.must("ingest", "bars", "--help").stdout; !strings.Contains(out, "Exit status: 0 done") {
		t.Errorf("help\n%s", out)
	}
	for _, args := range [][]string{{"query", "bars", "--format"}, {"series", "--format"}, {"latest", "--format"}} {
		if out := c.must(append(append([]string{"__complete"}, args...), "")...).stdout; !strings.HasPrefix(out, "table\ncsv\nndjson\njson\n") {
			t.Errorf("%v completes to %q", args, out)
		}
	}
	if out := c.must("__complete", "ingest", "bars", "--timeframe", "").stdout; !strings.Contains(out, "\n15m\n") {
		t.Errorf("timeframes complete to %q", out)
	}
	if out := c.must("completion", "bash").stdout; !strings.Contains(out, "__start_mds") {
		t.Error("no completion for bash")
	}
}

// TestLargeNews loads articles that are larger together than what the database has for
// bars.
func TestLargeNews(t *testing.T) {
	var text strings.Builder
	random := rand.New(rand.NewPCG(2, 2))
	article := make([]byte, 100_000)
	for i := range 1_000 {
		for at := range article {
			article[at] = byte('a' + random.IntN(26))
		}
		fmt.Fprintf(&text, `{"vendor":"v","id":"%d","title":"t","published_at":"2024-01-02","summary":"%s"}`+"\n", i, article)
	}
	c := newCLI(t)
	file := testFile(t, "news.ndjson", text.String())
	if l := c.must("ingest", "news", file).ledger(); l.Written != 1_000 {
		t.Errorf("%+v", l)
	}
	if l := c.must("ingest", "news", file).ledger(); l.Unchanged != 1_000 {
		t.Errorf("again: %+v", l)
	}
}
