package arrow_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// TestGolden reads streams that other implementations wrote; see the scripts in
// testdata, which say the figures too.
func TestGolden(t *testing.T) {
	t.Run("JavaScript, bars", func(t *testing.T) {
		bars, rejected, ignored := golden[mds.Bar](t, "bars.arrows", arrow.Options{})
		want := []mds.Bar{
			{
				Vendor: "local", Symbol: "MSFT", Timeframe: "1m", TS: time.Date(2024, 3, 8, 14, 30, 0, 0, time.UTC),
				Open: mds.Some(408.25), High: mds.Some(408.5), Low: mds.Some(408.0), Close: 408.1, Volume: mds.Some(120.0),
			},
			{
				Vendor: "local", Symbol: "AAPL", Timeframe: "1m", TS: time.Date(2024, 3, 8, 14, 30, 0, 250e6, time.UTC),
				High: mds.Some(170.5), Low: mds.Some(169.75), Close: 170.03, Volume: mds.Some(3000000001.0),
			},
			{ // nine in the evening of the eighth in New York
				Vendor: "local", Symbol: "MSFT", Timeframe: "1d", TS: time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC),
				Open: mds.Some(407.5), High: mds.Some(410.25), Low: mds.Some(405.125), Close: 406.22,
			},
		}
		same(t, bars, want)
		same(t, rejected, []*codec.RowError{
			{Line: 4, Field: "close", Reason: "close: is missing", Raw: `{"Ticker":"AAPL","bar size":"1 min","ts":"2024-03-11T09:30:00-04:00","Open":171,"High":172.5,"Low":170.5,"Close":null,"Volume":5}`},
			{Line: 5, Field: "ts", Reason: "ts: is missing", Raw: `{"Ticker":"AAPL","bar size":"1 minute","ts":null,"Open":1,"High":1,"Low":1,"Close":1,"Volume":1}`},
		})
		same(t, ignored, []string{"halted"})
	})
	t.Run("JavaScript, news", func(t *testing.T) {
		news, rejected, _ := golden[mds.News](t, "news.arrows", arrow.Options{Options: codec.Options{Zone: newYork(t)}})
		same(t, news, []mds.News{
			{
				Vendor: "ibkr", ID: "BRFG$1", PublishedAt: time.Date(2020, 3, 6, 4, 2, 41, 500e6, time.UTC),
				Title: `Grüße, "Welt"`, Symbols: []string{"AAPL", "MSFT"}, SentimentScore: mds.Some(-0.5),
			},
			{Vendor: "ibkr", ID: "BRFG$2", PublishedAt: time.Date(2020, 3, 6, 5, 0, 0, 0, time.UTC), Title: "贵州茅台"},
		})
		same(t, rejected, nil)
	})
	for _, compression := range []string{"uncompressed", "lz4", "zstd"} {
		t.Run("polars, "+compression, func(t *testing.T) {
			bars, rejected, _ := golden[mds.Bar](t, "polars-"+compression+".arrows", arrow.Options{Options: codec.Options{Zone: newYork(t)}})
			same(t, bars, []mds.Bar{
				{Vendor: "local", Symbol: "A-SYMBOL-LONGER-THAN-A-VIEW", Timeframe: "1d", TS: time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC), Close: 1.5, Volume: mds.Some(1.0)},
				{Vendor: "local", Symbol: "MSFT", Timeframe: "1m", TS: time.Date(2024, 3, 8, 19, 30, 0, 0, time.UTC), Close: 2.25},
			})
			same(t, rejected, []*codec.RowError{
				{Line: 3, Field: "symbol", Reason: "symbol: is missing", Raw: `{"symbol":null,"timeframe":"1m","ts":"2024-03-08T14:31:00","close":3.5,"volume":3}`},
				{
					Line: 4, Field: "close", Reason: `close: "NaN" is not a number that can be kept; leave a missing value blank`,
					Raw: `{"symbol":"MSFT","timeframe":"1d","ts":"2024-03-11T00:00:00","close":"NaN","volume":4}`,
				},
			})
		})
	}
}

func golden[R mds.Record[R]](t *testing.T, name string, opt arrow.Options) ([]R, []*codec.RowError, []string) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	d, err := arrow.NewReader[R](file, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	records, rejected, err := readAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return records, rejected, d.Ignored()
}

func newYork(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func same[T any](t *testing.T, got, want []T) {
	t.Helper()
	if len(got)+len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mds.Opt[float64]{}, mds.Opt[int64]{})); diff != "" {
		t.Errorf("not as wanted (-want +got):\n%s", diff)
	}
}

// readAll reads to the end, or to the error.
func readAll[R mds.Record[R]](d *arrow.Reader[R]) (records []R, rejected []*codec.RowError, err error) {
	into := make([]R, 7)
	for {
		n, bad, err := d.Next(into)
		records, rejected = append(records, into[:n]...), append(rejected, slices.Clone(bad)...)
		if err != nil {
			return records, rejected, atEnd(err)
		}
	}
}
