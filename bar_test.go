package mds_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func goodBar() mds.Bar {
	return mds.Bar{
		Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, Close: 150.5,
		TS: time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC),
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	bad := mds.Bar{
		Vendor: "a b", Symbol: "\n", Timeframe: "7m",
		Open: mds.Some(math.Inf(-1)), High: mds.Some(math.NaN()), Low: mds.Some(math.Inf(1)), Close: math.NaN(),
		Volume: mds.Some(-0.5), VWAP: mds.Some(math.NaN()), TradeCount: mds.Some(int64(-1)),
	}
	var invalid *mds.InvalidError
	if err := bad.Validate(); !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	fields := make([]string, len(invalid.Faults))
	for i, f := range invalid.Faults {
		fields[i] = f.Field
	}
	schema := mds.SchemaOf[mds.Bar]()
	if len(fields) != len(schema.Columns) {
		t.Fatalf("faults of %v, want one of each column", fields)
	}
	for i, c := range schema.Columns {
		if fields[i] != c.Name {
			t.Errorf("fault %d is of %s, want %s", i, fields[i], c.Name)
		}
	}
}

func TestValidateSentences(t *testing.T) {
	for _, c := range []struct {
		change func(*mds.Bar)
		want   string
	}{
		{func(*mds.Bar) {}, ""},
		{func(b *mds.Bar) { b.Close = -37.63 }, ""},
		{func(b *mds.Bar) { b.Vendor = "IBKR" }, ""},
		{func(b *mds.Bar) { b.Close = math.NaN() }, "close: NaN is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.Open = mds.Some(math.Inf(1)) }, "open: +Inf is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.High = mds.Some(math.NaN()) }, "high: NaN is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.Low = mds.Some(math.Inf(-1)) }, "low: -Inf is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.VWAP = mds.Some(math.NaN()) }, "vwap: NaN is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.Volume = mds.Some(math.Inf(1)) }, "volume: +Inf is not a number that can be kept; leave a missing value out"},
		{func(b *mds.Bar) { b.Open, b.High = mds.Some(math.MaxFloat64), mds.Some(-math.MaxFloat64) }, ""},
		{func(b *mds.Bar) { b.Timeframe = "7m" }, `timeframe: "7m" is not one of 1s 5s 10s 15s 30s 1m 2m 3m 5m 10m 15m 30m 1h 2h 3h 4h 6h 8h 12h 1d 1w 1mo`},
		{func(b *mds.Bar) { b.Volume = mds.Some(-1.5) }, "volume: -1.5 is negative"},
		{func(b *mds.Bar) { b.TradeCount = mds.Some(int64(-2)) }, "trade_count: -2 is negative"},
		{func(b *mds.Bar) { b.TS = time.Time{} }, "ts: is missing"},
		{func(b *mds.Bar) { b.TS = time.Date(12020, 1, 1, 0, 0, 0, 0, time.UTC) }, "ts: year 12020 is outside 1 to 9999"},
		{func(b *mds.Bar) {
			b.Timeframe, b.TS = mds.Day, time.Date(10000, 1, 1, 13, 0, 0, 0, time.FixedZone("", 14*3600)) // 9999-12-31 23:00 UTC
		}, "ts: year 10000 is outside 1 to 9999"},
		{func(b *mds.Bar) { b.Timeframe, b.TS = mds.Month, time.Date(1, 1, 31, 0, 0, 0, 0, time.UTC) }, "ts: is missing"},
		{func(b *mds.Bar) { b.Symbol = "  " }, "symbol: is missing"},
		{func(b *mds.Bar) { b.Symbol = "A\tB" }, `symbol: "A\tB" holds a character that cannot be printed`},
		{func(b *mds.Bar) { b.Symbol = "\xff" }, `symbol: "\xff" is not valid UTF-8`},
		{func(b *mds.Bar) { b.Vendor = "my vendor" }, `vendor: "my vendor" holds a character other than letters, digits, '-', '_' and '.'`},
		{func(b *mds.Bar) { b.Vendor, b.Timeframe = "", "" }, "vendor: is missing; timeframe: is missing"},
	} {
		b := goodBar()
		c.change(&b)
		got := ""
		if err := b.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestNormalizedNames(t *testing.T) {
	for _, symbol := range [][2]string{{"brk.b", "BRK.B"}, {" A ", "A"}, {"BRK B", "BRK B"}, {"é", "É"}, {"", ""}, {"A~", "A~"}} {
		if got := mds.NormalizeSymbol(symbol[0]); got != symbol[1] {
			t.Errorf("the symbol %q is kept as %q, not %q", symbol[0], got, symbol[1])
		}
	}
	for _, vendor := range [][2]string{{"IBKR", "ibkr"}, {" a ", "a"}, {"a_b-c.1", "a_b-c.1"}, {"É", "é"}, {"", ""}} {
		if got := mds.NormalizeVendor(vendor[0]); got != vendor[1] {
			t.Errorf("the vendor %q is kept as %q, not %q", vendor[0], got, vendor[1])
		}
	}
}

func TestNormalized(t *testing.T) {
	for symbol, want := range map[string]string{
		"aapl": "AAPL", " brk.b ": "BRK.B", "RDS-B": "RDS-B", "1398.hk": "1398.HK", "eurusd=x": "EURUSD=X", "btc-perp": "BTC-PERP", "BRK B": "BRK B",
	} {
		b := goodBar()
		b.Symbol, b.Vendor = symbol, " IBKR"
		if err := b.Validate(); err != nil {
			t.Errorf("%q: %v", symbol, err)
		}
		b = b.Normalized()
		if b.Symbol != want || b.Vendor != "ibkr" {
			t.Errorf("%q became %q of %q, want %q", symbol, b.Symbol, b.Vendor, want)
		}
		if b != b.Normalized() {
			t.Errorf("%q is not stable", symbol)
		}
	}
	b := goodBar()
	b.TS = time.Date(2020, 11, 27, 9, 30, 0, 1999, time.FixedZone("EST", -5*3600))
	if want := time.Date(2020, 11, 27, 14, 30, 0, 1000, time.UTC); b.Normalized().TS != want {
		t.Errorf("time %s, want %s", b.Normalized().TS, want)
	}
}

func TestWarning(t *testing.T) {
	schema := mds.SchemaOf[mds.Bar]()
	odd := func(open, high, low, last float64) bool {
		b := goodBar()
		b.Open, b.High, b.Low, b.Close = mds.Some(open), mds.Some(high), mds.Some(low), last
		return schema.Warning(&b) != ""
	}
	if odd(2, 3, 1, 2) || odd(1, 1, 1, 1) || odd(-2, -1, -3, -2) {
		t.Error("a consistent bar was warned of")
	}
	if !odd(2, 1, 3, 2) || !odd(2, 2.5, 1, 3) || !odd(2, 3, 2.5, 2.7) || !odd(2, 3, 1, 0.5) {
		t.Error("an inconsistent bar was not warned of")
	}
	b := goodBar()
	b.High, b.Low = mds.Some(1.0), mds.Some(2.0)
	if schema.Warning(&b) != "" {
		t.Error("a bar without open was warned of")
	}
}

func TestOpt(t *testing.T) {
	var none mds.Opt[float64]
	if none != mds.None[float64]() || none == mds.Some(0.0) || mds.Some(1.5) != mds.Some(1.5) {
		t.Error("missing, zero and equal values are confused")
	}
	if v, ok := none.Value(); ok || v != 0 || none.Or(7) != 7 || mds.Some(0.0).Or(7) != 0 || none.String() != "" || mds.Some(1.5).String() != "1.5" {
		t.Error("reading an Opt")
	}
	b := goodBar()
	b.Open, b.TradeCount = mds.Some(0.0), mds.Some(int64(3))
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"vendor":"ibkr","symbol":"AAPL","timeframe":"1m","ts":"2020-11-27T14:30:00Z","open":0,"high":null,"low":null,"close":150.5,"volume":null,"vwap":null,"trade_count":3}`
	if string(text) != want {
		t.Errorf("JSON %s", text)
	}
	var back mds.Bar
	if err := json.Unmarshal(text, &back); err != nil || back != b {
		t.Errorf("back from JSON: %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"open":"x"}`), &back); err == nil {
		t.Error("a text was taken for a number")
	}
}
