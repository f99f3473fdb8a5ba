package arrow_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec/arrow"
)

var update = flag.Bool("update", false, "write testdata/written-*.arrows anew")

// TestWritten compares streams with those that another implementation has read:
// testdata/written.txt is what golden.mjs printed of them. After -update it has to
// be made anew.
func TestWritten(t *testing.T) {
	at := time.Date(2024, 3, 15, 14, 30, 0, 123456e3, time.UTC)
	written(t, "bars", arrow.WriterOptions{}, []mds.Bar{
		{Vendor: "v", Symbol: "BRK.B", Timeframe: "1m", TS: at, Open: mds.Some(1.5), High: mds.Some(2.25), Low: mds.Some(-1.0), Close: 0.1, Volume: mds.Some(3e9), VWAP: mds.Some(1.0), TradeCount: mds.Some(int64(1) << 60)},
		{Vendor: "v", Symbol: "贵州茅台", Timeframe: "1d", TS: at.Truncate(24 * time.Hour), Close: 2},
	})
	written(t, "dictionaries", arrow.WriterOptions{Dictionaries: true, BatchRows: 2}, []mds.Bar{
		{Vendor: "v", Symbol: "A", Timeframe: "1m", TS: at, Close: 1},
		{Vendor: "v", Symbol: "B", Timeframe: "1m", TS: at, Close: 2},
		{Vendor: "v", Symbol: "C", Timeframe: "1h", TS: at, Close: 3},
	})
	written(t, "options", arrow.WriterOptions{}, []mds.OptionSnap{
		{Vendor: "v", Symbol: "SPX", Expiry: mds.Date{Year: 2016, Month: 6, Day: 17}, OptionType: "C", Strike: 650_500_000_000, TS: time.Date(2014, 12, 15, 21, 0, 0, 0, time.UTC), Bid: mds.Some(0.05)},
		{Vendor: "v", Symbol: "CL", Expiry: mds.Date{Year: 1969, Month: 12, Day: 31}, OptionType: "P", Strike: -1, TS: time.Date(1969, 12, 1, 0, 0, 0, 0, time.UTC)},
	})
	written(t, "fundamentals", arrow.WriterOptions{}, []mds.Fundamentals{
		{
			Vendor: "sec", Symbol: "SNOW", Period: "FY", FiledAt: at, AsOf: mds.Date{Year: 2023, Month: 1, Day: 31}, Revenue: mds.Some(2065659000.0), Currency: "USD", Form: "10-K",
			Extra: map[string]float64{"us-gaap:Goodwill/USD": 657370000, "a": -0.5},
		},
		{Vendor: "sec", Symbol: "SNOW", Period: "instant", FiledAt: at, AsOf: mds.Date{Year: 2023, Month: 1, Day: 31}},
	})
	written(t, "news", arrow.WriterOptions{}, []mds.News{
		{Vendor: "ibkr", ID: "1", PublishedAt: at, Title: "a \"title\"\n", Symbols: []string{"AAPL", "MSFT"}, URL: "https://example.com/", SentimentScore: mds.Some(-1.0)},
		{Vendor: "ibkr", ID: "2", PublishedAt: at, Title: "b"},
	})
}

func written[R mds.Record[R]](t *testing.T, name string, opt arrow.WriterOptions, records []R) {
	t.Helper()
	path := filepath.Join("testdata", "written-"+name+".arrows")
	stream := write(t, records, opt)
	if *update {
		if err := os.WriteFile(path, stream, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(stream, want) {
		t.Errorf("%s: %d bytes were written and %d are in %s: %v", name, len(stream), len(want), path, err)
	}
}
