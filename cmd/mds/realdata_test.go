package main

import (
	"context"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/realdata"
	"github.com/marketdatastore/mds/store"
)

// expected is a line of EXPECTED.tsv, which a script of another language
// worked out from the files.
type expected map[string]string

func (e expected) int(t *testing.T, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(e[name], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (e expected) float(t *testing.T, name string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(e[name], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func readExpected(t *testing.T, dir string) []expected {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "EXPECTED.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = '\t'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []expected
	for _, row := range rows[1:] {
		e := expected{}
		for i, name := range rows[0] {
			e[name] = row[i]
		}
		all = append(all, e)
	}
	return all
}

// realFlags are the flags a user needs for a file beside timeframe and zone.
func realFlags(file string) []string {
	base := filepath.Base(file)
	switch {
	case strings.Contains(file, "FinDash"), base == "dash-stock-ticker-demo.csv", base == "test_data_stocks.csv":
		return nil // a column holds the symbol
	case base == "intraday.csv":
		return []string{"--symbol", "SPY"}
	case strings.Contains(file, "alpha_vantage"):
		return []string{"--symbol", "MSFT"}
	case base == "finance-charts-apple.csv":
		return []string{"--symbol", "AAPL", "--columns", "open=AAPL.Open,high=AAPL.High,low=AAPL.Low,close=AAPL.Close,volume=AAPL.Volume"}
	case base == "vix-daily.csv":
		return []string{"--symbol", "VIX"}
	case strings.Contains(file, "marketstore"):
		return []string{"--symbol", "AAPL"}
	case base == "SP500_NOV2019_IDay.csv":
		return []string{"--symbol", "SP500"}
	case strings.Contains(file, "nautilus"):
		return []string{"--symbol", "BTC-PERP"}
	case strings.Contains(file, "yfinance"):
		return []string{"--symbol", strings.Split(base, "-1d")[0]}
	}
	return []string{"--symbol-from", "filename"}
}

// TestRealFiles loads every file of real bars through the command line and
// compares what the store then holds with figures worked out elsewhere.
func TestRealFiles(t *testing.T) {
	dir := realdata.Dir(t)
	all := readExpected(t, dir)
	if len(all) < 90 {
		t.Fatalf("EXPECTED.tsv has %d lines, want all of bars/", len(all))
	}
	for _, want := range all {
		t.Run(want["file"], func(t *testing.T) {
			t.Parallel()
			testRealFile(t, dir, want)
		})
	}
}

func testRealFile(t *testing.T, dir string, want expected) {
	c := newCLI(t)
	args := []string{"ingest", "bars", filepath.Join(dir, want["file"]), "--timeframe", want["timeframe"]}
	if want["zone"] != "-" {
		args = append(args, "--tz", want["zone"])
	}
	args = append(args, realFlags(want["file"])...)
	wantExit := exitDone
	if want["rejected"] != "0" {
		wantExit = exitRejected
	}
	first := c.run(args...)
	if first.exit != wantExit {
		t.Fatalf("exit %d, want %d\n%s", first.exit, wantExit, first.stderr)
	}
	rows, stored, rejected := want.int(t, "rows"), want.int(t, "stored"), want.int(t, "rejected")
	ledger := first.ledger()
	if ledger.Read != rows || ledger.Rejected != rejected || ledger.Accepted() != ledger.Written+ledger.Unchanged+ledger.Superseded {
		t.Errorf("ledger %+v, want %d read, %d rejected, and a balance", ledger, rows, rejected)
	}
	if ledger.Written != stored || ledger.Superseded != want.int(t, "superseded") {
		t.Errorf("ledger %+v, want %d written, %s superseded", ledger, stored, want["superseded"])
	}
	if lines := want["rejected_lines"]; lines != "-" && !strings.Contains(first.stderr, "line "+lines) {
		t.Errorf("the rejected line %s is not named:\n%s", lines, first.stderr)
	}
	warning := plural(want.int(t, "ohlc_warnings"), "row") + ": open, high, low and close contradict each other"
	if has := strings.Contains(first.stderr, warning); has != (want["ohlc_warnings"] != "0") {
		t.Errorf("warning %q: %v\n%s", warning, has, first.stderr)
	}
	checkStored(t, c.dsn, want)

	again := c.run(args...).ledger()
	if again.Written != 0 || again.Unchanged != stored {
		t.Errorf("the second load: %+v, want all %d unchanged", again, stored)
	}
}

func checkStored(t *testing.T, dsn string, want expected) {
	t.Helper()
	ctx := context.Background()
	st, err := store.Open(ctx, dsn, store.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var n int64
	var closes, volumes exactSum
	var first, last time.Time
	symbols := make(map[string]bool)
	for bar, err := range store.Bars(st).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			first = bar.TS
		}
		n++
		last = bar.TS
		closes.add(bar.Close)
		volumes.add(bar.Volume.Or(0))
		symbols[bar.Symbol] = true
	}
	got := map[string]string{
		"stored":     strconv.FormatInt(n, 10),
		"first_ts":   first.Format(time.RFC3339),
		"last_ts":    last.Format(time.RFC3339),
		"sum_close":  "",
		"sum_volume": "",
		"symbols":    strconv.Itoa(len(symbols)),
	}
	for name, value := range got {
		if !strings.HasPrefix(name, "sum_") && value != want[name] {
			t.Errorf("%s is %s, want %s", name, value, want[name])
		}
	}
	if sum := closes.value(); sum != want.float(t, "sum_close") {
		t.Errorf("sum of close is %v, want %s", sum, want["sum_close"])
	}
	if sum := volumes.value(); sum != want.float(t, "sum_volume") {
		t.Errorf("sum of volume is %v, want %s", sum, want["sum_volume"])
	}
}

// exactSum adds floats without loss (Shewchuk 1997), as the expected figures
// were added.
type exactSum struct{ partials []float64 }

func (s *exactSum) add(x float64) {
	partials := s.partials
	s.partials = s.partials[:0]
	for _, y := range partials {
		if math.Abs(x) < math.Abs(y) {
			x, y = y, x
		}
		high := x + y
		if low := y - (high - x); low != 0 {
			s.partials = append(s.partials, low)
		}
		x = high
	}
	s.partials = append(s.partials, x)
}

func (s *exactSum) value() float64 {
	total := 0.0
	for _, p := range s.partials {
		total += p
	}
	return total
}

func TestKillMidwayRealFile(t *testing.T) {
	dir := realdata.Dir(t)
	const name = "bars/nautilus_trader/btc-perp-20211231-20220201_1m.csv"
	file, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	c := killMidway(t, file, "--symbol", "BTC-PERP", "--timeframe", "1m", "--tz", "UTC")
	for _, want := range readExpected(t, dir) {
		if want["file"] == name {
			checkStored(t, c.dsn, want)
		}
	}
}

// TestHalfDay looks at the Friday after Thanksgiving 2020, when New York
// closed at 13:00, and at the Monday after it. The figures are the file's rows
// of 2020-11-27 13:00:00 and 2020-11-30 16:00:00, five hours behind UTC.
func TestHalfDay(t *testing.T) {
	dir := realdata.Dir(t)
	c := newCLI(t)
	c.must("ingest", "bars", filepath.Join(dir, "bars/alpha_vantage/mock_time_series_extended.csv"), "--symbol", "MSFT", "--timeframe", "1m", "--tz", "America/New_York")
	for start, want := range map[string]string{
		"2020-11-27T18:00:00Z": "215.01,215.31,214.95,215.29,181027,",
		"2020-11-30T21:00:00Z": "213.25,214.5,213.25,214.24,1129482,",
	} {
		out := c.must("query", "bars", "--start", start, "--limit", "1", "--format", "csv").stdout
		if !strings.Contains(out, "\nlocal,MSFT,1m,"+start+","+want) {
			t.Errorf("the bar of %s is not %s:\n%s", start, want, out)
		}
	}
}

// TestAllOfStocknet loads 74 files with one command.
func TestAllOfStocknet(t *testing.T) {
	dir := realdata.Dir(t)
	files, err := filepath.Glob(filepath.Join(dir, "bars/stocknet-dataset/*.csv"))
	if err != nil || len(files) != 74 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	c := newCLI(t)
	rejects := filepath.Join(t.TempDir(), "rejects.ndjson")
	args := append([]string{"ingest", "bars", "--timeframe", "1d", "--vendor", "yahoo", "--symbol-from", "filename", "--rejects", rejects}, files...)
	out := c.run(args...)
	ledger := out.ledger()
	if out.exit != exitRejected || ledger.Read != 93_011 || ledger.Rejected != 1 || ledger.Written != 93_010 {
		t.Errorf("exit %d, %+v\n%s", out.exit, ledger, out.stderr)
	}
	text, err := os.ReadFile(rejects)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`REX.csv","line":962,"field":"close","reason":"close: is missing"`, `"raw":"2016-06-29,null,null,null,null,null,null"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if !strings.Contains(out.stderr, "ignored columns: Adj Close\n") {
		t.Errorf("the ignored column is not named once:\n%s", out.stderr)
	}
	if n := strings.Count(c.must("series", "--format", "csv").stdout, "\nyahoo,"); n != 74 {
		t.Errorf("%d series, want 74", n)
	}
}
