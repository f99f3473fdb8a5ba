package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/realdata"
	"github.com/marketdatastore/mds/store"
)

// stored reads all records of a kind from a command's store.
func stored[R mds.Record[R]](c *cli, query mds.Query) []R {
	c.t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, c.dsn, store.Config{ReadOnly: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer st.Close()
	var all []R
	for r, err := range store.TableOf[R](st).Query(ctx, mds.DefaultTenant(), query) {
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// TestRealOptions has figures of testdata/realkinds.py.
func TestRealOptions(t *testing.T) {
	dir := realdata.Dir(t)
	c := newCLI(t)
	file := filepath.Join(dir, "options/options_backtester/options_data.csv")
	out := c.must("ingest", "options", file, "--vendor", "cboe")
	if l := out.ledger(); l.Read != 244 || l.Written != 244 {
		t.Errorf("%+v", l)
	}
	if want := "ignored columns: #1, underlying, optionalias, dte\n"; !strings.Contains(out.stderr, want) {
		t.Errorf("no %q in %s", want, out.stderr)
	}
	options := stored[mds.OptionSnap](c, mds.Query{})
	sums := make(map[string]*exactSum)
	zeroBids, positive := 0, 0
	days := make(map[time.Time]bool)
	for i := range options {
		o := &options[i]
		if bid, ok := o.Bid.Value(); ok && bid == 0 {
			zeroBids++
		}
		if o.Theta.Or(0) > 0 {
			positive++
		}
		days[o.TS] = true
		for name, v := range map[string]mds.Opt[float64]{
			"spot": o.Spot, "last": o.Last, "bid": o.Bid, "ask": o.Ask, "volume": o.Volume, "oi": o.OpenInterest,
			"iv": o.IV, "delta": o.Delta, "gamma": o.Gamma, "theta": o.Theta, "vega": o.Vega,
		} {
			if sums[name] == nil {
				sums[name] = &exactSum{}
			}
			x, ok := v.Value()
			if !ok {
				t.Fatalf("%+v has no %s", o, name)
			}
			sums[name].add(x)
		}
	}
	if len(options) != 244 || zeroBids != 126 || positive != 24 || len(days) != 61 {
		t.Errorf("%d snapshots, %d zero bids, %d positive thetas, %d days", len(options), zeroBids, positive, len(days))
	}
	for name, want := range map[string]float64{
		"spot":   502206.16000000003,
		"last":   287.05,
		"bid":    118.39999999999999,
		"ask":    370.3,
		"volume": 129.0,
		"oi":     7966.0,
		"iv":     64.754,
		"delta":  121.09740000000001,
		"gamma":  0.0,
		"theta":  42.276599999999995,
		"vega":   2943.2068,
	} {
		if got := sums[name].value(); got != want {
			t.Errorf("sum of %s is %v, want %v", name, got, want)
		}
	}
	if n := strings.Count(c.must("series", "options", "--format", "csv").stdout, "\ncboe,SPX,2016-06-17,"); n != 4 {
		t.Errorf("%d contracts", n)
	}
	got := c.must("latest", "options", "SPX", "--strike", "650.0", "--option-type", "put", "--format", "csv").stdout
	if want := "\ncboe,SPX,2016-06-17,P,650,2015-03-13T00:00:00Z,0.05,1.6,1.1,0.3302,-0.0005,0,-0.5279,4.0648,,168,0,2053.4\n"; !strings.HasSuffix(got, want) {
		t.Errorf("latest is %s, want %s", got, want)
	}
}

const snow = "fundamentals/edgartools/snow_facts.json"

// TestRealCompanyFacts has figures of codec/vendor/testdata/companyfacts.py.
func TestRealCompanyFacts(t *testing.T) {
	c := newCLI(t)
	ingest := []string{"ingest", "fundamentals", filepath.Join(realdata.Dir(t), snow), "--format", "sec-companyfacts", "--symbol", "SNOW"}
	if l := c.must(ingest...).ledger(); l.Read != 224 || l.Written != 224 {
		t.Errorf("%+v", l)
	}
	if l := c.must(ingest...).ledger(); l.Unchanged != 224 {
		t.Errorf("again: %+v", l)
	}
	type span struct {
		facts int
		sum   exactSum
	}
	spans := make(map[mds.Period]*span)
	facts := make(map[string]bool)
	for _, f := range stored[mds.Fundamentals](c, mds.Query{}) {
		if spans[f.Period] == nil {
			spans[f.Period] = &span{}
		}
		s := spans[f.Period]
		s.facts += len(f.Extra)
		for name, v := range f.Extra {
			s.sum.add(v)
			facts[fmt.Sprint(name, f.Period, f.AsOf, f.FiledAt, f.Accession)] = true
		}
	}
	if len(facts) != 8163 {
		t.Errorf("%d facts, want 8,163", len(facts))
	}
	for _, want := range []struct {
		period mds.Period
		facts  int
		sum    float64
	}{
		{"11M", 2, 66000000.0}, {"13M", 6, 100200000.0}, {"1M", 1, 2.0}, {"3M", 1629, 113441353601.954}, {"6M", 600, 77941208571.012},
		{"9M", 778, 167413938645.662}, {"FY", 1644, 294103720600.31}, {"instant", 3503, 3810071758470.553},
	} {
		if s := spans[want.period]; s == nil || s.facts != want.facts || s.sum.value() != want.sum {
			t.Errorf("%s: %+v, want %d facts that add up to %v", want.period, s, want.facts, want.sum)
		}
		delete(spans, want.period)
	}
	if len(spans) > 0 {
		t.Errorf("other spans: %v", spans)
	}

	// Restated figures: income of the year to January 2023, filed on
	// 2023-03-29 and told otherwise on 2024-03-26; cash of its end, told
	// otherwise on 2023-06-02 by a filing that tells of less else.
	known := func(at, period, name string) any {
		t.Helper()
		records := stored[mds.Fundamentals](c, mds.Query{Selection: mds.Selection{
			Symbols: []string{"snow"}, Where: map[string][]string{"period": {period}}, KnownAt: parse(t, at),
			Start: parse(t, "2023-01-31T00:00:00Z"), End: parse(t, "2023-02-01T00:00:00Z"),
		}})
		if len(records) == 0 {
			return "nothing"
		}
		if len(records) > 1 {
			t.Fatalf("%d records are known at %s", len(records), at)
		}
		return records[0].Extra[name]
	}
	const income, cash, goodwill = "us-gaap:ComprehensiveIncomeNetOfTax/USD", "us-gaap:CashEquivalentsAtCarryingValue/USD", "us-gaap:Goodwill/USD"
	for _, c := range []struct {
		at, period, name string
		want             any
	}{
		{"2023-03-28T23:59:59Z", "FY", income, "nothing"},
		{"2023-03-29T00:00:00Z", "FY", income, -819512000.0},
		{"2024-03-25T23:59:59.999999Z", "FY", income, -819512000.0},
		{"2024-03-26T00:00:00Z", "FY", income, -818691000.0},
		{"2030-01-01T00:00:00Z", "FY", income, -818691000.0},
		{"2023-06-01T00:00:00Z", "instant", cash, 398346000.0},
		{"2023-06-02T00:00:00Z", "instant", cash, 539390000.0},
		{"2023-06-02T00:00:00Z", "instant", goodwill, 657370000.0},
	} {
		if got := known(c.at, c.period, c.name); got != c.want {
			t.Errorf("%s of %s known at %s is %v, want %v", c.name, c.period, c.at, got, c.want)
		}
	}
	// Equity is one tag throughout: no filing of 2024-05-31 restates it.
	for _, at := range []string{"2024-04-30T00:00:00Z", "2024-06-30T00:00:00Z"} {
		equity := stored[mds.Fundamentals](c, mds.Query{Selection: mds.Selection{
			Where: map[string][]string{"period": {"instant"}}, KnownAt: parse(t, at), Start: parse(t, "2023-01-31T00:00:00Z"), End: parse(t, "2023-02-01T00:00:00Z"),
		}})
		if len(equity) != 1 || equity[0].TotalEquity.Or(0) != equity[0].Extra["us-gaap:StockholdersEquity/USD"] {
			t.Errorf("equity known at %s: %+v", at, equity)
		}
	}
	query := []string{"query", "fundamentals", "--period", "fy", "--start", "2023-01-31", "--end", "2023-02-01", "--format", "ndjson", "--known-at"}
	for at, want := range map[string]string{"2023-03-28": "", "2024-03-25": "-819512000", "2024-03-26": "-818691000"} {
		out := c.must(append(query, at)...).stdout
		if n := strings.Count(out, "\n"); want == "" && n != 0 || want != "" && (n != 1 || !strings.Contains(out, `"us-gaap:ComprehensiveIncomeNetOfTax/USD":`+want+",")) {
			t.Errorf("known at %s, want %q: %s", at, want, out)
		}
	}
	if out := c.must("latest", "fundamentals", "SNOW", "--period", "FY", "--known-at", "2021-12-31", "--format", "csv").stdout; !strings.Contains(out, "\nsec,SNOW,FY,2021-03-31T00:00:00Z,2021-01-31,592049000,-543937000,-539102000,") {
		t.Errorf("the latest year known at the end of 2021:\n%s", out)
	}
}

func parse(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestRealNews has figures of testdata/realkinds.py.
func TestRealNews(t *testing.T) {
	dir := filepath.Join(realdata.Dir(t), "news/interactive-broker-python-api")
	c := newCLI(t)
	ingest := func(file string, more ...string) outcome {
		return c.run(append([]string{"ingest", "news", filepath.Join(dir, file), "--format", "ibkr-news", "--symbol", "AAPL"}, more...)...)
	}
	if out := ingest("news-data.json"); out.exit != exitDone || out.ledger().Written != 5 {
		t.Errorf("%+v", out)
	}
	items := stored[mds.News](c, mds.Query{})
	headlines := make(map[string]bool)
	for _, n := range items {
		headlines[n.Title] = true
	}
	want := mds.News{
		Vendor: "ibkr", ID: "SS$0c7d507f", PublishedAt: parse(t, "2020-03-06T02:35:53Z"), Symbols: []string{"AAPL"}, SentimentScore: mds.Some(1.0),
		Title: "AAPL Positive - $AAPL $MSFT $SHOP $NFLX $SPY  \n \n‘I don’t think we’ve seen the high of the year in equities,’ Michael Novogratz says https://t.co/m77XPa7ywx",
	}
	schema := mds.SchemaOf[mds.News]()
	if len(items) != 5 || len(headlines) != 2 || !schema.Equal(&items[2], &want) {
		t.Errorf("%d items with %d headlines; the third is %+v, want %+v", len(items), len(headlines), items[2], want)
	}
	if out := ingest("widgets-news.json"); out.exit != exitUsage || !strings.Contains(out.stderr, `line 13: published_at: "2020-03-05T18:02:41" has no time zone; name the file's zone with --tz`) {
		t.Errorf("exit %d\n%s", out.exit, out.stderr)
	}
	for i, written := range []int64{150, 0} {
		out := ingest("widgets-news.json", "--tz", "America/New_York")
		if l := out.ledger(); out.exit != exitDone || l.Read != 150 || l.Written != written || !strings.Contains(out.stderr, "ignored columns: sentiment, newsSentimentScore\n") {
			t.Errorf("load %d: exit %d, %+v\n%s", i, out.exit, l, out.stderr)
		}
	}
	fractions, unicode, characters := 0, 0, 0
	for _, n := range stored[mds.News](c, mds.Query{}) {
		if n.URL == "" {
			continue
		}
		if n.PublishedAt.Nanosecond() != 0 {
			fractions++
		}
		if utf8.RuneCountInString(n.Title) != len(n.Title) {
			unicode++
		}
		characters += utf8.RuneCountInString(n.Title)
		// The address of this one tells its time in UTC: 22:17:54.
		if strings.HasSuffix(n.URL, "south-korean-221754525.html") && n.PublishedAt != parse(t, "2020-03-05T22:17:54Z") {
			t.Errorf("published at %s", n.PublishedAt)
		}
	}
	if fractions != 36 || unicode != 9 || characters != 9720 {
		t.Errorf("%d times with fractions, %d titles beyond ASCII, %d characters", fractions, unicode, characters)
	}
	for file, want := range map[string]string{
		"widgets-news-briefing.json":                       "it is not a news body of Interactive Brokers: it has neither news.content nor articles",
		"../../" + snow:                                    "it is not a news body of Interactive Brokers: it has neither news.content nor articles",
		"../alpaca/../../bars/yfinance/../../EXPECTED.tsv": "it is not a news body of Interactive Brokers: invalid character",
	} {
		if out := ingest(file); out.exit != exitFailed || !strings.Contains(out.stderr, want) {
			t.Errorf("%s: exit %d\n%s", file, out.exit, out.stderr)
		}
	}
}

// TestEverythingThereAndBack exports all real files and loads them into an
// empty store: a second export is the same, byte for byte.
func TestEverythingThereAndBack(t *testing.T) {
	dir := realdata.Dir(t)
	c := newCLI(t)
	for i, want := range readExpected(t, dir) {
		args := append([]string{"ingest", "bars", filepath.Join(dir, want["file"]), "--timeframe", want["timeframe"], "--vendor", fmt.Sprintf("file%03d", i)}, realFlags(want["file"])...)
		if want["zone"] != "-" {
			args = append(args, "--tz", want["zone"])
		}
		if out := c.run(args...); out.exit != exitDone && out.exit != exitRejected {
			t.Fatalf("%s: exit %d\n%s", want["file"], out.exit, out.stderr)
		}
	}
	c.must("ingest", "options", filepath.Join(dir, "options/options_backtester/options_data.csv"))
	c.must("ingest", "fundamentals", filepath.Join(dir, snow), "--format", "sec-companyfacts")
	news := filepath.Join(dir, "news/interactive-broker-python-api")
	c.must("ingest", "news", filepath.Join(news, "news-data.json"), filepath.Join(news, "widgets-news.json"), "--format", "ibkr-news", "--tz", "America/New_York")
	thereAndBack(t, c, map[string]int64{"bars": 0, "options": 244, "fundamentals": 224, "news": 155})
}

// thereAndBack exports every kind in both formats, compressed, and loads each
// export into an empty store, whose own export must be the same.
func thereAndBack(t *testing.T, c *cli, rows map[string]int64) {
	t.Helper()
	for _, format := range []string{"csv.gz", "ndjson.zst"} {
		for kind, want := range rows {
			first, second := filepath.Join(t.TempDir(), "first."+format), filepath.Join(t.TempDir(), "second."+format)
			c.must("export", kind, first)
			empty := newCLI(t)
			l := empty.must("ingest", kind, first).ledger()
			if l.Written != l.Read || l.Read == 0 || want > 0 && l.Read != want {
				t.Errorf("%s as %s: %+v, want %d", kind, format, l, want)
			}
			empty.must("export", kind, second)
			a, err := os.ReadFile(first)
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(second)
			if err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s as %s: the second export of %d bytes differs from the first of %d, %v", kind, format, len(b), len(a), err)
			}
		}
	}
}
