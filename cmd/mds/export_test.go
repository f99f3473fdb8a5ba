package main

import (
	"context"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/arbitrary"
	"github.com/marketdatastore/mds/store"
)

// TestGeneratedThereAndBack does what TestEverythingThereAndBack does with
// random records.
func TestGeneratedThereAndBack(t *testing.T) {
	c := newCLI(t)
	rows := map[string]int64{
		"bars":         fill(c, arbitrary.Bar),
		"options":      fill(c, arbitrary.Option),
		"fundamentals": fill(c, arbitrary.Fundamentals),
		"news":         fill(c, arbitrary.News),
	}
	thereAndBack(t, c, rows)
}

// fill writes random records and returns how many there are.
func fill[R mds.Record[R]](c *cli, draw func(*rapid.T) R) int64 {
	ctx := context.Background()
	st, err := store.Open(ctx, c.dsn, store.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer st.Close()
	records := rapid.SliceOfN(rapid.Custom(draw), 400, 400).Example()
	receipt, err := store.TableOf[R](st).WriteBatch(ctx, mds.DefaultTenant(), records)
	if err != nil || receipt.Written < 300 {
		c.t.Fatalf("%+v, %v", receipt, err)
	}
	return receipt.Written
}

// fourKinds has a few records of each kind.
func fourKinds(t *testing.T) *cli {
	t.Helper()
	c := loaded(t)
	c.must("ingest", "options", testFile(t, "o.csv", "symbol,expiry,type,strike,date,bid,ask\nSPX,2016-06-17,call,650.0,2014-12-15,0,0.05\nSPX,2016-06-17,put,650.00,2014-12-15,1.85,3.9\nSPX160617C00700500,,,,2014-12-15,1,\n"))
	c.must("ingest", "fundamentals", testFile(t, "f.csv", `ticker,period,asof,filed,revenue,extra
SNOW,FY,2023-01-31,2023-03-29,2065659000,"{""us-gaap:Goodwill/USD"":657370000}"
SNOW,FY,2023-01-31,2024-03-26,,"{""x"":1.5}"
SNOW,Q,2023-01-31,,1,
`))
	c.must("ingest", "news", testFile(t, "n.csv", "vendor,id,published_at,title,symbols,sentiment\nibkr,1,2020-03-05T23:02:41.65Z,\"A \"\"quoted\"\",\r\nlong headline\",AAPL;MSFT,-1\nibkr,2,2020-03-05,\"null\",,\n"))
	return c
}

func TestExport(t *testing.T) {
	c := fourKinds(t)
	dir := t.TempDir()
	export := func(name, want string, args ...string) {
		t.Helper()
		path := filepath.Join(dir, name)
		c.must(append([]string{"export"}, append(args, path)...)...)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		wantText(t, name, string(got), want)
	}
	export("bars.csv", `vendor,symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count
test,MSFT,1d,2020-11-27T00:00:00Z,,,,11,,,
test,MSFT,1m,2020-11-27T14:30:00Z,10,12,9,11,100,,
test,MSFT,1m,2020-11-27T14:31:00Z,11,11.5,10.25,10.5,,,
test,MSFT,1m,2020-11-27T14:32:00Z,10.5,13,10.5,12.75,2500.5,,
`, "bars", "--symbol", "msft")
	export("options.csv", `vendor,symbol,expiry,option_type,strike,ts,bid,ask,last,iv,delta,gamma,theta,vega,rho,open_interest,volume,spot
local,SPX,2016-06-17,C,650,2014-12-15T00:00:00Z,0,0.05,,,,,,,,,,
local,SPX,2016-06-17,C,700.5,2014-12-15T00:00:00Z,1,,,,,,,,,,,
local,SPX,2016-06-17,P,650,2014-12-15T00:00:00Z,1.85,3.9,,,,,,,,,,
`, "options")
	export("options.ndjson", `{"vendor":"local","symbol":"SPX","expiry":"2016-06-17","option_type":"C","strike":700.5,"ts":"2014-12-15T00:00:00Z","bid":1,"ask":null,"last":null,"iv":null,"delta":null,"gamma":null,"theta":null,"vega":null,"rho":null,"open_interest":null,"volume":null,"spot":null}
`, "options", "--strike", "700.50")
	export("fundamentals.csv", `vendor,symbol,period,filed_at,asof,revenue,operating_income,net_income,total_assets,total_liabilities,total_equity,eps,shares_outstanding,currency,form,accession,extra
local,SNOW,3M,2023-01-31T00:00:00Z,2023-01-31,1,,,,,,,,,,,
local,SNOW,FY,2023-03-29T00:00:00Z,2023-01-31,2065659000,,,,,,,,,,,"{""us-gaap:Goodwill/USD"":657370000}"
local,SNOW,FY,2024-03-26T00:00:00Z,2023-01-31,,,,,,,,,,,,"{""x"":1.5}"
`, "fundamentals")
	export("news.csv", "vendor,id,published_at,title,symbols,url,summary,sentiment_score\n"+
		"ibkr,1,2020-03-05T23:02:41.65Z,\"A \"\"quoted\"\",\r\nlong headline\",AAPL;MSFT,,,-1\nibkr,2,2020-03-05T00:00:00Z,\"null\",,,,\n", "news")
	export("msft.ndjson", `{"vendor":"ibkr","id":"1","published_at":"2020-03-05T23:02:41.65Z","title":"A \"quoted\",\r\nlong headline","symbols":["AAPL","MSFT"],"url":null,"summary":null,"sentiment_score":-1}
`, "news", "--symbol", "msft")
	export("odd name", "vendor,id,published_at,title,symbols,url,summary,sentiment_score\n", "news", "--symbol", "NONE", "--format", "csv")

	if out := c.must("query", "options", "--symbol", "spx160617c00700500", "--format", "csv").stdout; strings.Count(out, "\n") != 2 || !strings.Contains(out, ",C,700.5,") {
		t.Errorf("an OCC symbol picks\n%s", out)
	}
	if out := c.must("query", "options", "--symbol", "SPX160617C00700500", "--expiry", "2016-06-17", "--format", "csv").stdout; strings.Count(out, "\n") != 2 {
		t.Errorf("an OCC symbol with its expiry picks\n%s", out)
	}
	for args, want := range map[string]string{
		"SPX160617C00700500,SPX160617P00650000":  "SPX160617C00700500 stands for one of the options: pick it alone, or several by their columns",
		"SPX160617C00700500 --expiry=2016-06-18": "SPX160617C00700500 has the expiry 2016-06-17, and another is asked for",
	} {
		if out := c.run(append([]string{"query", "options", "--symbol"}, strings.Fields(args)...)...); out.exit != exitUsage || out.stderr != "mds: --symbol: "+want+"\n" {
			t.Errorf("%s: exit %d, %s", args, out.exit, out.stderr)
		}
	}
	templated := filepath.Join(t.TempDir(), "one")
	c.must("export", "options", templated, "--symbol", "SPX160617C00700500", "--template", "{symbol}.csv")
	if text, err := os.ReadFile(filepath.Join(templated, "SPX.csv")); err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("the contract's file is %q, %v", text, err)
	}
	if out := c.must("latest", "options", "SPX160617P00650000", "--format", "csv").stdout; !strings.Contains(out, "\nlocal,SPX,2016-06-17,P,650,") {
		t.Errorf("the latest of an OCC symbol is\n%s", out)
	}
	c.must("ingest", "options", testFile(t, "chain.csv", "contractSymbol,bid\nSPX160617C00700500,1\n"), "--ts", "2014-12-16T21:00:00Z")
	if out := c.must("latest", "options", "SPX", "--strike", "700.5", "--format", "csv").stdout; !strings.Contains(out, ",700.5,2014-12-16T21:00:00Z,1,") {
		t.Errorf("a chain with its moment given:\n%s", out)
	}
	c.must("write", "fundamentals", "--symbol", "LATE", "--period", "FY", "--asof", "2023-12-31", "--filed-at", "2024-02-01T21:00:00Z", "--eps", "1")
	for at, want := range map[string]int{"2024-02-01": 2, "20240201": 2, "02/01/2024": 2, "2024/02/01": 2, "2024-01-31": 1, "2024-02-01T20:59:59Z": 1, "2024-02-01 21:00": 2} {
		if out := c.must("query", "fundamentals", "--symbol", "LATE", "--known-at", at, "--format", "csv").stdout; strings.Count(out, "\n") != want {
			t.Errorf("known at %s:\n%s", at, out)
		}
	}
	c.must("write", "news", "--id", "tag:x.com,2024:1", "--title", "x", "--published-at", "2024-01-01")
	if out := c.must("delete", "news", "--id", "tag:x.com,2024:1", "--yes").stdout; out != "1 news item removed\n" {
		t.Errorf("an id with a comma: %q", out)
	}
	if out := c.must("query", "fundamentals", "--symbol", "SNOW", "--period", "FY", "--known-at", "now", "--format", "csv").stdout; strings.Count(out, "\n") != 2 {
		t.Errorf("known now:\n%s", out)
	}
	if out := c.must("export", "news", "-", "--format", "ndjson"); strings.Count(out.stdout, "\n") != 2 || out.stderr != "" {
		t.Errorf("to standard output: %q, %q", out.stdout, out.stderr)
	}
	// The file that is there is replaced, and a failed export leaves it alone.
	path := filepath.Join(dir, "bars.csv")
	before, _ := os.ReadFile(path)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if out := c.runContext(ctx, "export", "bars", path); out.exit != exitFailed {
		t.Errorf("an interrupted export: exit %d", out.exit)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("it left %q, %v", after, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") }) {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// failing is a table whose queries end with an error after their first record.
type failing struct{ store.Table[mds.Bar] }

func (f failing) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[mds.Bar, error] {
	return func(yield func(mds.Bar, error) bool) {
		for bar, err := range f.Table.Query(ctx, tenant, query) {
			if !yield(bar, err) {
				return
			}
			yield(mds.Bar{}, context.Canceled)
			return
		}
	}
}

// TestExportCutShort: a file that an error cuts short gets no name, and leaves the
// one that has it.
func TestExportCutShort(t *testing.T) {
	c := loaded(t)
	ctx := context.Background()
	st, err := store.Open(ctx, c.dsn, store.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	dir := t.TempDir()
	schema := mds.SchemaOf[mds.Bar]()
	e := &export[mds.Bar]{app: &app{}, schema: &schema}
	s := &session{Store: st, tenant: mds.DefaultTenant()}
	for name, before := range map[string]string{"fresh.csv": "", "there.csv.gz": "what was there"} {
		path := filepath.Join(dir, name)
		if before != "" {
			if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := e.file(ctx, s, failing{store.Bars(st)}, mds.Selection{}, path); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); before == "" && !errors.Is(err, os.ErrNotExist) || string(after) != before {
			t.Errorf("%s holds %q, %v; want %q", name, after, err, before)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestExportTemplate(t *testing.T) {
	c := fourKinds(t)
	c.must("write", "bars", "--vendor", "test", "--symbol", "a/b", "--timeframe", "1d", "--ts", "2020-11-28", "--close", "1")
	for _, e := range []struct {
		args []string
		want []string
	}{
		{[]string{"bars", "--template", "{table}-{vendor}-{symbol}-{timeframe}-{start}-{end}.csv.gz"}, []string{
			"bars-test-AAPL-1m-20201127-20201127.csv.gz", "bars-test-A_B-1d-20201128-20201128.csv.gz",
			"bars-test-MSFT-1d-20201127-20201127.csv.gz", "bars-test-MSFT-1m-20201127-20201127.csv.gz",
		}},
		{[]string{"bars", "--template", "{timeframe}.ndjson", "--symbol", "MSFT,A/B"}, []string{"1d.ndjson", "1m.ndjson"}},
		{[]string{"options", "--template", "{symbol}-{expiry}.csv"}, []string{"SPX-2016-06-17.csv"}},
		{[]string{"fundamentals", "--template", "{table}-{symbol}-{start}.csv"}, []string{"fundamentals-SNOW-20230131.csv"}},
		{[]string{"news", "--template", "{table}-{vendor}-{start}-{end}.ndjson", "--symbol", "MSFT"}, []string{"news-ibkr-20200305-20200305.ndjson"}},
	} {
		dir := filepath.Join(t.TempDir(), "sub")
		c.must(append([]string{"export", e.args[0], dir}, e.args[1:]...)...)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		back := newCLI(t)
		for _, entry := range entries {
			names = append(names, entry.Name())
			back.must("ingest", e.args[0], filepath.Join(dir, entry.Name()))
		}
		if !slices.Equal(names, e.want) {
			t.Errorf("%q wrote %q, want %q", e.args, names, e.want)
		}
		query := []string{"export", e.args[0], "-", "--format", "csv"}
		wantText(t, e.args[0]+" back", back.must(query...).stdout, c.must(append(query, e.args[3:]...)...).stdout)
	}
	c.must("write", "bars", "--vendor", "test", "--symbol", "a_b", "--timeframe", "1d", "--ts", "2020-11-28", "--close", "1")
	out := c.run("export", "bars", t.TempDir(), "--template", "{symbol}.csv")
	if out.exit != exitFailed || !strings.Contains(out.stderr, "two series would go into one file A_B.csv") {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
}

func TestWrite(t *testing.T) {
	c := newCLI(t)
	for _, w := range []struct {
		args []string
		want string
	}{
		{[]string{"bars", "--symbol", "msft", "--timeframe", "daily", "--ts", "2020-11-27", "--close", "1.5"}, "bar local MSFT 1d 2020-11-27T00:00:00Z: written\n"},
		{[]string{"bars", `{"symbol": "MSFT", "timeframe": "1d", "ts": "2020-11-27", "close": 1.5}`}, "bar local MSFT 1d 2020-11-27T00:00:00Z: unchanged: the store holds the same\n"},
		{[]string{"bars", "--symbol", "msft", "--timeframe", "1m", "--ts", "2020-11-27 09:30", "--tz", "America/New_York", "--close", "2"}, "bar local MSFT 1m 2020-11-27T14:30:00Z: written\n"},
		{[]string{"options", "--symbol", "SPX160617C00650000", "--ts", "2014-12-15", "--open-interest", "7"}, "option local SPX 2016-06-17 C 650 2014-12-15T00:00:00Z: written\n"},
		{[]string{"fundamentals", "--symbol", "SNOW", "--period", "FY", "--asof", "2023-01-31", "--extra", `{"a":1}`}, "fundamental local SNOW FY 2023-01-31T00:00:00Z 2023-01-31: written\n"},
		{[]string{"news", "--vendor", "ibkr", "--title", "x", "--published-at", "2020-03-05T23:02:41.65Z", "--symbol", "AAPL,MSFT"}, "news item ibkr ~"},
		{[]string{"news", "-"}, "news item ibkr 7 2020-03-05T00:00:00Z: written\n"},
	} {
		c.stdin = strings.NewReader("{\n  \"vendor\": \"ibkr\",\n  \"id\": 7,\n  \"title\": \"y\",\n  \"published_at\": \"2020-03-05\"\n}\n")
		if got := c.must(append([]string{"write"}, w.args...)...).stdout; !strings.HasPrefix(got, w.want) {
			t.Errorf("%q says %q, want %q", w.args, got, w.want)
		}
	}
	if n := len(stored[mds.News](c, mds.Query{Selection: mds.Selection{Symbols: []string{"msft"}}})); n != 1 {
		t.Errorf("%d items are about MSFT", n)
	}
}
