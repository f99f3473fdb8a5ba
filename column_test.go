package mds_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
)

// TestCopy gives an empty record each of a full one's values, and finds the same record.
func TestCopy(t *testing.T) {
	day := mds.Date{Year: 2026, Month: 11, Day: 26}
	at := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	one, two := mds.Some(1.0), mds.Some(2.0)
	strike, err := mds.ParseDecimal("-37.63")
	if err != nil {
		t.Fatal(err)
	}
	copied(t, mds.Bar{Vendor: "v", Symbol: "S", Timeframe: mds.Minute, TS: at, Open: one, High: two, Low: one, Close: 1.5, Volume: mds.Some(7.0), VWAP: one, TradeCount: mds.Some[int64](3)})
	copied(t, mds.OptionSnap{Vendor: "v", Symbol: "S", Expiry: day, OptionType: mds.Put, Strike: strike, TS: at, Bid: one, IV: two, Spot: two})
	copied(t, mds.Fundamentals{Vendor: "v", Symbol: "S", Period: "FY", FiledAt: at, AsOf: day, EPS: one, Currency: "USD", Extra: map[string]float64{"x": 1}})
	copied(t, mds.News{Vendor: "v", ID: "1", PublishedAt: at, Title: "t", URL: "u", Symbols: []string{"S", "T"}, SentimentScore: one})
}

func copied[R mds.Record[R]](t *testing.T, full R) {
	t.Helper()
	schema := mds.SchemaOf[R]()
	var empty R
	for i := range schema.Columns {
		schema.Columns[i].Copy(&empty, &full)
	}
	compare := cmp.Comparer(func(a, b mds.Opt[float64]) bool { return a == b })
	counts := cmp.Comparer(func(a, b mds.Opt[int64]) bool { return a == b })
	if diff := cmp.Diff(full, empty, compare, counts); diff != "" {
		t.Errorf("%s: %s", schema.Kind, diff)
	}
}
